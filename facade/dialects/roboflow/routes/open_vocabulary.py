"""Roboflow's dialect: ``/grounding_dino/infer``, ``/owlv2/infer`` and ``/yolo_world/infer``: detectors whose classes
come with the request.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, ClassVar

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from tritonvision import tasks
from tritonvision.errors import InvalidParameter, InvalidPicture
from tritonvision.facade.context import service_of
from tritonvision.facade.dialects.common.body import read_body
from tritonvision.facade.dialects.common.schemas import AtMost, RequestFields, json_schema
from tritonvision.facade.dialects.roboflow import responses as formats
from tritonvision.facade.dialects.roboflow.model_choice import model_of, named
from tritonvision.facade.dialects.roboflow.routes.tasks import drawn_text
from tritonvision.facade.dialects.roboflow.schemas import Picture, PicturesRequest
from tritonvision.facade.replies import reply
from tritonvision.facade.routing import Routes
from tritonvision.facade.service import Read
from tritonvision.publication import Manifest

router = Routes(tags=["Roboflow"])

# Overlaps that suppress, of the original server: Grounding DINO's, OWLv2's of boxes that examples found, YOLO-World's.
_DINO_IOU, _EXAMPLES_IOU, _WORLD_IOU = 0.5, 0.3, 0.3
_EXAMPLES_CONFIDENCE = 0.99
Texts = Annotated[list[str], AtMost("max_texts")]


class OpenVocabularyRequest(PicturesRequest):
    """The fields of all three routes. ``model_id`` names the model where the version does not.

    Attributes:
        unknown: what the contract has in an answer though nothing is said by it.
    """

    unknown: ClassVar[Mapping[str, Any]] = {"frame_id": None, "resolved_model": None}
    model_id: str = ""
    text: Texts = Field(default_factory=list)
    max_detections: int | None = None

    def given(self) -> dict[str, Any]:
        """The settings that all routes have."""
        return {"auto_orient": not self.disable_preproc_auto_orient, "max_detections": self.max_detections}


class DinoRequest(OpenVocabularyRequest):
    """``/grounding_dino/infer``; ``max_detections`` is a field of our own."""

    text: Texts
    grounding_dino_version_id: str = "default"
    box_threshold: float = 0.5
    text_threshold: float = 0.5
    class_agnostic_nms: bool = False

    def settings(self, manifest: Manifest) -> dict[str, Any]:
        """Every setting of the task. Raises InvalidParameter."""
        return _resolve(
            self.given(), texts=self.text, confidence=self.box_threshold, text_threshold=self.text_threshold,
            iou_threshold=_DINO_IOU, class_agnostic_nms=self.class_agnostic_nms,
        )  # fmt: skip


class Example(RequestFields):
    """A box around an example of a class, or a negative one: centre and size in pixels of its picture."""

    x: float
    y: float
    w: float = Field(gt=0)
    h: float = Field(gt=0)
    cls: str
    negative: bool = False

    @property
    def corners(self) -> list[float]:
        """Left, top, right, bottom."""
        return [self.x - self.w / 2, self.y - self.h / 2, self.x + self.w / 2, self.y + self.h / 2]


class Lesson(RequestFields):
    """A picture with examples."""

    image: Picture
    boxes: Annotated[list[Example], AtMost("max_texts")]


class Owlv2Request(OpenVocabularyRequest):
    """``/owlv2/infer``: classes as examples in pictures or, a field of our own, as ``text``.

    Classes are the texts in their order, or the examples' names sorted. Examples ask for a confidence of 0.99 and
    suppress what overlaps by 0.3, as on the original server. Scores of texts are far lower: without a confidence theirs
    is the task's own, and nothing is suppressed. ``iou_threshold``, ``class_agnostic_nms`` and ``max_detections`` are
    fields of our own.
    """

    confidence: float | None = None
    owlv2_version_id: str = "owlv2-large-patch14-ensemble"
    training_data: Annotated[list[Lesson], AtMost("max_batch")] = Field(default_factory=list)
    iou_threshold: float | None = None
    class_agnostic_nms: bool = False

    @property
    def classes(self) -> list[str]:
        """Names by class id."""
        return self.text or sorted({example.cls for example in self.examples})

    @property
    def examples(self) -> list[Example]:
        """The boxes of all pictures."""
        return [example for lesson in self.training_data for example in lesson.boxes]

    def check(self, most: int) -> None:
        """Raises InvalidParameter unless there are texts, or 1 to ``most`` examples."""
        if bool(self.text) == bool(self.training_data):
            raise InvalidParameter("What to look for comes as 'training_data' or as 'text', one of them.")
        if self.training_data and not 1 <= len(self.examples) <= most:
            raise InvalidParameter(f"'training_data' may hold 1 to {most} boxes, not {len(self.examples)}.")

    def settings(self, manifest: Manifest) -> dict[str, Any]:
        """Every setting of the task. Raises InvalidParameter."""
        given = self.given() | {
            "confidence": self.confidence, "iou_threshold": self.iou_threshold,
            "class_agnostic_nms": self.class_agnostic_nms,
        }  # fmt: skip
        if self.text:
            return _resolve(given, texts=self.text)
        if given["confidence"] is None:
            given["confidence"] = _EXAMPLES_CONFIDENCE
        if given["iou_threshold"] is None:
            given["iou_threshold"] = _EXAMPLES_IOU
        ids = {name: i for i, name in enumerate(self.classes)}
        return _resolve(
            given, example_boxes=[example.corners for example in self.examples],
            example_pictures=[i for i, lesson in enumerate(self.training_data) for _ in lesson.boxes],
            example_classes=[ids[example.cls] for example in self.examples],
            example_negatives=[int(example.negative) for example in self.examples],
        )  # fmt: skip


class YoloWorldRequest(OpenVocabularyRequest):
    """``/yolo_world/infer``; ``iou_threshold``, ``class_agnostic_nms`` and ``max_detections`` are fields of our own."""

    unknown: ClassVar[Mapping[str, Any]] = {}
    text: Texts
    yolo_world_version_id: str = "l"
    confidence: float = 0.4
    iou_threshold: float = _WORLD_IOU
    class_agnostic_nms: bool = False

    def settings(self, manifest: Manifest) -> dict[str, Any]:
        """Every setting of the task. Raises InvalidParameter."""
        return _resolve(
            self.given(), texts=self.text, confidence=self.confidence, iou_threshold=self.iou_threshold,
            class_agnostic_nms=self.class_agnostic_nms,
        )  # fmt: skip


@router.post("/grounding_dino/infer", openapi_extra=json_schema(DinoRequest))
async def grounding_dino(request: Request) -> Response:
    """Boxes of the texts; these are the classes."""
    ask = await read_body(request, DinoRequest)
    name = await named(request, ask, "grounding_dino", "grounding_dino_version_id")
    return await _answer(request, ask, name, ask.text)


@router.post("/owlv2/infer", openapi_extra=json_schema(Owlv2Request))
async def owlv2(request: Request) -> Response:
    """Boxes of what looks like the examples, or of the texts."""
    ask = await read_body(request, Owlv2Request)
    ask.check(service_of(request).settings.max_texts)
    name = await named(request, ask, "owlv2", "owlv2_version_id")
    return await _answer(request, ask, name, ask.classes, [lesson.image for lesson in ask.training_data])


@router.post("/yolo_world/infer", openapi_extra=json_schema(YoloWorldRequest))
async def yolo_world(request: Request) -> Response:
    """Boxes of the texts; these are the classes."""
    ask = await read_body(request, YoloWorldRequest)
    name = await named(request, ask, "yolo_world", "yolo_world_version_id")
    return await _answer(request, ask, name, ask.text)


async def _answer(
    request: Request, ask: OpenVocabularyRequest, name: str, classes: Sequence[str], examples: Sequence[Picture] = ()
) -> Response:
    """One answer a picture.

    Args:
        classes: names by class id.
        examples: the pictures that ``example_pictures`` counts.
    """
    service = service_of(request)
    most = service.settings.max_texts
    if not 1 <= len(classes) <= most:
        raise InvalidParameter(f"One request may look for 1 to {most} classes, not {len(classes)}.")
    if not all(text.strip() for text in classes):
        raise InvalidParameter("A class has no name.")
    if not ask.images:
        raise InvalidPicture("There is no picture in the request.")
    manifest = await model_of(request, name, (tasks.OPEN_VOCABULARY.name,))
    settings = ask.settings(manifest)
    count = len(ask.images)
    reads: list[Read] = [partial(service.pictures.read, image.type, image.value) for image in [*ask.images, *examples]]

    def samples(read: Sequence[bytes]) -> list[dict[str, Any]]:
        lessons = {"examples": read[count:]} if examples else {}
        return [{"image": picture} | lessons for picture in read[:count]]

    answered = await service.ask_samples(request, manifest, samples, settings, pictures=reads)
    taught = dataclasses.replace(answered.manifest, labels=tuple(classes))
    answers = []
    for picture, result in zip(answered.pictures[:count], answered.results, strict=True):
        answer = {
            "inference_id": ask.id or str(uuid.uuid4()), "time": answered.seconds, **ask.unknown,
            **formats.detections(result, taught),
        }  # fmt: skip
        if ask.visualize_predictions:
            answer["visualization"] = await drawn_text(ask, picture, result, taught)
        answers.append(answer)
    return reply(answers if ask.many else answers[0])


def _resolve(given: dict[str, Any], **more: Any) -> dict[str, Any]:
    return tasks.resolve(tasks.OPEN_VOCABULARY.parameters, given | more)
