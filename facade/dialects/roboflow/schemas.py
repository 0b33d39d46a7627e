"""The fields of a Roboflow request, and the settings of the model's task that they map to."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import WithJsonSchema

from tritonvision import catalog, tasks
from tritonvision.errors import InvalidParameter
from tritonvision.facade.dialects.common.schemas import AtMost, RequestFields
from tritonvision.facade.dialects.roboflow.mask_fields import MaskFields
from tritonvision.publication import Manifest

Threshold = float | Literal["best", "default"]
_MODEL_CONFIDENCE = 0.4
_LEAST_CONFIDENCE = 0.01
_WIDEST_LINE = 100  # pixels
_IMAGE_SCHEMA = {
    "type": "object",
    "required": ["type", "value"],
    "properties": {"type": {"enum": ["base64", "url", "numpy"]}, "value": {"type": "string"}},
}
_IMAGES_SCHEMA = {"anyOf": [_IMAGE_SCHEMA, {"type": "array", "items": _IMAGE_SCHEMA}]}


class Picture(RequestFields):
    """One picture reference."""

    type: str
    value: Any


class PicturesRequest(RequestFields):
    """The fields of all routes with pictures."""

    model_id: str
    image: Annotated[Picture | list[Picture], AtMost("max_batch"), WithJsonSchema(_IMAGES_SCHEMA)]
    id: str | None = None
    visualize_predictions: bool = False
    visualization_labels: bool = False
    visualization_stroke_width: int = 1
    disable_preproc_auto_orient: bool = False

    @property
    def style(self) -> dict[str, Any]:
        """How an answer is drawn, as the drawing takes it."""
        return _style(self.visualization_stroke_width, self.visualization_labels)

    @property
    def many(self) -> bool:
        """Whether the pictures came as an array, and the answer must be one."""
        return isinstance(self.image, list)

    @property
    def images(self) -> list[Picture]:
        """The pictures, in order."""
        return self.image if isinstance(self.image, list) else [self.image]

    def settings(self, manifest: Manifest) -> dict[str, Any]:
        """Every setting of the model's task. Raises InvalidParameter."""
        raise NotImplementedError


class ImageRequest(PicturesRequest):
    """The fields of routes whose models have one confidence for all classes."""

    confidence: Threshold = _MODEL_CONFIDENCE

    def settings(self, manifest: Manifest) -> dict[str, Any]:
        """Every setting of the model's task. Raises InvalidParameter."""
        return _checked(manifest, auto_orient=not self.disable_preproc_auto_orient, confidence=self.threshold())

    def threshold(self) -> float:
        """The confidence asked for, in 0..1. Raises InvalidParameter."""
        return tasks.CONFIDENCE.check(_number(self.confidence))


class DetectionRequest(ImageRequest):
    """``/infer/object_detection``."""

    iou_threshold: float = 0.3
    max_detections: int = 300
    max_candidates: int = 3000
    class_agnostic_nms: bool = False
    class_filter: Annotated[list[str], AtMost("max_texts")] | None = None

    def settings(self, manifest: Manifest) -> dict[str, Any]:
        """Every setting of the model's task; names of classes become ids. Raises InvalidParameter."""
        boxes_only = {"mask_format": "none"} if manifest.task == tasks.INSTANCE_SEGMENTATION.name else {}
        return _checked(
            manifest, auto_orient=not self.disable_preproc_auto_orient, confidence=self.threshold(),
            iou_threshold=self.iou_threshold, max_detections=self.max_detections,
            max_candidates=self.max_candidates, class_agnostic_nms=self.class_agnostic_nms,
            classes=class_ids(self.class_filter, manifest), **boxes_only,
        )  # fmt: skip


class KeypointsRequest(DetectionRequest):
    """``/infer/keypoints_detection``."""

    keypoint_confidence: float = 0.0


class Region(RequestFields):
    """A part of a picture: its centre and size in pixels of the oriented picture."""

    x: float
    y: float
    width: float
    height: float

    @property
    def box(self) -> tuple[float, float, float, float]:
        """As the tasks take it."""
        return self.x, self.y, self.width, self.height


class ClassificationRequest(ImageRequest):
    """``/infer/classification``; ``regions`` is a field of our own: one answer a region of the one picture."""

    regions: Annotated[list[Region], AtMost("max_regions")] | None = None

    def settings(self, manifest: Manifest) -> dict[str, Any]:
        """The model returns every class; the threshold is applied by the dialect. Raises InvalidParameter."""
        return _checked(manifest, auto_orient=not self.disable_preproc_auto_orient, confidence=0.0)


class LegacyQuery(MaskFields, RequestFields):
    """The query string of ``/{project}/{version}``."""

    confidence: Threshold = _MODEL_CONFIDENCE
    overlap: float = 0.3
    format: Literal["json", "image", "image_and_json"] = "json"
    image: str | None = None
    image_type: str = "base64"
    max_detections: int = 300
    keypoint_confidence: float = 0.0
    labels: bool = False
    stroke: int = 1
    disable_preproc_auto_orient: bool = False

    @property
    def style(self) -> dict[str, Any]:
        """How the answer is drawn, as the drawing takes it."""
        return _style(self.stroke, self.labels)

    def threshold(self) -> float:
        """The confidence in 0.01..1; numbers from 1 are per cent. Raises InvalidParameter."""
        value = tasks.CONFIDENCE.check(_per_cent(_number(self.confidence)))
        return max(value, _LEAST_CONFIDENCE)

    def settings(self, manifest: Manifest) -> dict[str, Any]:
        """Every setting of the model's task. Raises InvalidParameter."""
        given: dict[str, Any] = {"auto_orient": not self.disable_preproc_auto_orient, "confidence": self.threshold()}
        if manifest.task == tasks.CLASSIFICATION.name:
            given["confidence"] = 0.0
        else:
            given |= {"iou_threshold": _per_cent(self.overlap), "max_detections": self.max_detections}
        if manifest.task == tasks.INSTANCE_SEGMENTATION.name:
            given["mask_format"] = self.mask_format()
        return _checked(manifest, **given)


class ModelRequest(RequestFields):
    """``/model/add`` and ``/model/remove``."""

    model_id: str


def class_ids(names: list[str] | None, manifest: Manifest) -> list[int] | None:
    """Ids of the classes called ``names``; None (no filter) without names. An unknown name matches nothing."""
    if not names:
        return None
    wanted = set(names)
    return [i for i, label in enumerate(manifest.labels) if label in wanted]


def one_name(in_path: str, in_body: str) -> str:
    """The model named by the path, the body, or both; empty when neither does. Raises InvalidParameter."""
    if in_path and in_body and catalog.canonical(in_path) != catalog.canonical(in_body):
        raise InvalidParameter("The path and 'model_id' name different models.")
    return in_path or in_body


def _style(stroke: int, labels: bool) -> dict[str, Any]:
    return {"line": min(max(stroke, 1), _WIDEST_LINE), "names": labels}


def _number(confidence: Threshold) -> float:
    return _MODEL_CONFIDENCE if isinstance(confidence, str) else confidence


def _per_cent(value: float) -> float:
    return value / 100 if value >= 1 else value


def _checked(manifest: Manifest, **given: Any) -> dict[str, Any]:
    return tasks.resolve(tasks.TASKS[manifest.task].parameters, given)
