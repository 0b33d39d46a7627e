"""The content of ``GET /models``: each model, the route that answers it, and the command that publishes it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from pydantic import BaseModel, ConfigDict

import tritonvision
from tritonvision import catalog, tasks
from tritonvision.publication import Manifest

_MOST_LABELS = 200
_WITHOUT_TORCH = ("MediaPipe Face",)  # families whose official weights are a graph, which the export converts


@dataclass(frozen=True)
class Route:
    """One way to ask.

    Attributes:
        path: to POST to; of streams, what the model's id comes behind in the address of a WebSocket.
        task: whose settings it takes.
        fields: the field of the body for each setting that a control of the page shows.
        start: initial values where the task's default would show nothing.
    """

    path: str
    task: tasks.Task
    fields: Mapping[str, str]
    start: Mapping[str, Any] = field(default_factory=dict)


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


_BOXES = _same("confidence", "iou_threshold", "max_detections", "class_agnostic_nms")
_BY_TASK = {
    route.task.name: route
    for route in (
        Route("/infer/object_detection", tasks.OBJECT_DETECTION, _BOXES),
        Route("/infer/keypoints_detection", tasks.KEYPOINT_DETECTION, _BOXES),
        Route("/infer/instance_segmentation", tasks.INSTANCE_SEGMENTATION, _BOXES),
        # of a thousand classes often none reaches the default
        Route("/infer/classification", tasks.CLASSIFICATION, _same("confidence"), {"confidence": 0.0}),
        Route("/infer/depth-estimation", tasks.DEPTH_ESTIMATION, {}),
        Route("/clip/compare", tasks.EMBEDDING, {}),
        # one mask, as in the route's default
        Route("/sam/segment_image", tasks.PROMPTABLE, {"multimask": "multimask_output"}, {"multimask": False}),
        Route("/gaze/gaze_detection", tasks.GAZE, _same("confidence") | {"detect_faces": "do_run_face_detection"}),
        Route("/owlv2/infer", tasks.OPEN_VOCABULARY, _BOXES),
        Route("/doctr/ocr", tasks.STRUCTURED_OCR, {}),
        Route("/streams", tasks.TRACKING, {}),
        Route("/ocr/trocr", tasks.TEXT_OCR, _same("max_new_tokens", "num_beams")),
        Route(
            "/v1/chat/completions", tasks.VLM,
            {"max_new_tokens": "max_tokens"} | _same("temperature", "top_p", "top_k", "repetition_penalty", "seed"),
        ),
    )
}  # fmt: skip
# Families whose models have another route than their task.
_BY_FAMILY = {
    "Grounding DINO": Route(
        "/grounding_dino/infer", tasks.OPEN_VOCABULARY,
        {"confidence": "box_threshold", "text_threshold": "text_threshold"}
        | _same("max_detections", "class_agnostic_nms"),
        {"text_threshold": 0.25},  # equal to the other; the route's own default is higher
    ),
    "YOLO-World": Route("/yolo_world/infer", tasks.OPEN_VOCABULARY, _BOXES, {"iou_threshold": 0.3}),
}  # fmt: skip
_PICTURES_ALONE = Route("/infer/embeddings", tasks.EMBEDDING, {})  # of embedders that read no texts
_WITHOUT_CLASSES = ("DINOv3",)  # families called classifiers by the catalogue, whose released weights know no classes
ROUTES = {route.path: route for route in (*_BY_TASK.values(), *_BY_FAMILY.values(), _PICTURES_ALONE)}


class _Told(BaseModel):
    model_config = ConfigDict(frozen=True)


class Setting(_Told):
    """One setting of a route.

    Attributes:
        name: as the task spells it.
        field: as the body of the route's requests spells it.
        kind: ``float``, ``int``, ``bool`` or ``choice``.
        default: of the task; null is off, or the checkpoint's value.
        start: the page's initial value.
    """

    name: str
    field: str
    kind: str
    default: float | int | bool | str | None
    start: float | int | bool | str | None
    low: int | float | None
    high: int | float | None
    choices: list[str]


class RouteTold(_Told):
    """One way to ask."""

    task: str
    settings: list[Setting]


class Model(_Told):
    """One id, published or not.

    Attributes:
        route: that answers it; null when no route of this server does yet.
        aliases: other names it answers to.
    """

    id: str
    task: str
    family: str
    license: str
    aliases: list[str]
    route: str | None


class Published(Model):
    """A published model.

    Attributes:
        weights: ``official``, ``random`` (answers mean nothing) or ``user``.
        labels: names of the first 200 of ``label_count`` classes.
        input_size: height and width of the network's pixels; null where they follow the picture.
        places: whether it writes places in a picture into its text, which the chat route reads.
    """

    weights: str
    loaded: bool
    labels: list[str]
    label_count: int
    keypoint_labels: list[str]
    input_size: list[int] | None
    places: bool
    notes: list[str]


class Unpublished(Model):
    """An id of the catalogue that is not published.

    Attributes:
        command: that publishes it; null when this version cannot export it.
        exportable_here: whether the packages that this needs are installed beside the server.
    """

    command: str | None
    exportable_here: bool


class Listing(_Told):
    """All that the page needs to call any model.

    Attributes:
        exports_missing: whether a request for an unpublished model starts its export.
        routes: by path.
    """

    model_config = ConfigDict(json_schema_extra={"example": {
        "version": "0.1.0",
        "exports_missing": True,
        "routes": {"/infer/object_detection": {"task": "object-detection", "settings": [{
            "name": "confidence", "field": "confidence", "kind": "float", "default": 0.4, "start": 0.4, "low": 0.0,
            "high": 1.0, "choices": [],
        }]}},
        "models": [{
            "id": "yolov8n-640", "task": "object-detection", "family": "YOLOv8", "license": "AGPL-3.0",
            "aliases": ["coco/3"], "route": "/infer/object_detection", "weights": "official", "loaded": True,
            "labels": ["person", "bicycle"], "label_count": 80, "keypoint_labels": [], "input_size": [640, 640],
            "places": False, "notes": [],
        }],
        "unpublished": [{
            "id": "resnet18", "task": "classification", "family": "ResNet", "license": "Apache-2.0", "aliases": [],
            "route": "/infer/classification", "command": "tritonvision export resnet18",
            "exportable_here": False,
        }],
    }})  # fmt: skip

    version: str
    exports_missing: bool
    routes: dict[str, RouteTold]
    models: list[Published]
    unpublished: list[Unpublished]


def listing(
    repository: Iterable[Manifest], loaded: Collection[str], exports: bool, may_ask: Callable[[str], bool],
    exportable: Collection[str] | None = None,
) -> Listing:  # fmt: skip
    """Every model of the catalogue and the repository that the caller may ask; reads the manifests.

    Args:
        loaded: ids.
        exports: whether a request for an unpublished model starts its export.
        may_ask: whether the caller may ask a model.
        exportable: ids that this version can export; None when that is not known.
    """
    here = {manifest.id: manifest for manifest in repository}
    return Listing(
        version=tritonvision.__version__,
        exports_missing=exports,
        routes={path: _route(route) for path, route in ROUTES.items()},
        models=[_published(manifest, manifest.id in loaded) for manifest in here.values() if may_ask(manifest.id)],
        unpublished=[_unpublished(entry, exportable) for id, entry in catalog.entries().items() if id not in here],
    )


def route_of(task: str, family: str, reads_texts: bool = True) -> str | None:
    """The route of such models, or None.

    Args:
        reads_texts: whether an embedder encodes texts, too.
    """
    route = _BY_FAMILY.get(family) or _BY_TASK.get(task)
    if task == tasks.EMBEDDING.name and not reads_texts:
        route = _PICTURES_ALONE
    return None if route is None else route.path


def command_for(entry: catalog.Entry) -> str:
    """The command that publishes ``entry``."""
    command = f"tritonvision export {entry.id}"
    # there are no released weights
    return command if entry.upstream_exists is not False else f"{command} --weights FILE"


def _route(route: Route) -> RouteTold:
    known = {parameter.name: parameter for parameter in route.task.parameters}
    settings = []
    for name, spelt in route.fields.items():
        parameter = known[name]
        settings.append(Setting(
            name=name, field=spelt, kind=parameter.kind, default=parameter.default,
            start=route.start.get(name, parameter.default), low=parameter.low, high=parameter.high,
            choices=list(parameter.choices),
        ))  # fmt: skip
    return RouteTold(task=route.task.name, settings=settings)


def _published(manifest: Manifest, loaded: bool) -> Published:
    return Published(
        id=manifest.id, task=manifest.task, family=manifest.family, license=manifest.license,
        aliases=list(catalog.names_of(manifest.id)[1:]),
        route=route_of(manifest.task, manifest.family, "text" in manifest.roles),
        weights=manifest.weights, loaded=loaded, labels=list(manifest.labels[:_MOST_LABELS]),
        label_count=len(manifest.labels), keypoint_labels=list(manifest.keypoint_labels),
        input_size=None if manifest.input_size is None else list(manifest.input_size),
        places=bool(manifest.grounding), notes=list(manifest.notes),
    )  # fmt: skip


def _packages_are_here(entry: catalog.Entry) -> bool:
    """Whether the packages of an export are installed; they are looked up, not imported."""
    needed = ("onnx",) if entry.family in _WITHOUT_TORCH else ("onnx", "torch")
    return all(find_spec(package) is not None for package in needed)


def _unpublished(entry: catalog.Entry, exportable: Collection[str] | None) -> Unpublished:
    can = exportable is None or entry.id in exportable
    classless = entry.family in _WITHOUT_CLASSES
    return Unpublished(
        id=entry.id, task=entry.task, family=entry.family, license=entry.license,
        aliases=list(catalog.names_of(entry.id)[1:]),
        route=_PICTURES_ALONE.path if classless else route_of(entry.task, entry.family),
        command=command_for(entry) if can else None, exportable_here=can and _packages_are_here(entry),
    )  # fmt: skip
