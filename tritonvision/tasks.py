"""The task contracts: the name of each task, and the settings of its requests."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tritonvision.errors import InvalidParameter
from tritonvision.nesting import deeper_than

LARGEST_OBJECT, DEEPEST_OBJECT = 64 * 1024, 64


@dataclass(frozen=True)
class Parameter:
    """One per-request setting, as it travels in the JSON of the ``parameters`` input.

    Attributes:
        kind: ``float``, ``int``, ``bool``, ``ids`` (list of class ids), ``choice``, ``floats`` (nested list),
            ``texts`` (list of strings) or ``object`` (a JSON object of at most :data:`LARGEST_OBJECT` bytes and
            :data:`DEEPEST_OBJECT` levels).
        default: value when absent; ``None`` means "off".
        low, high: inclusive bounds of numbers.
        shape: of ``floats``; None is an axis of any length.
    """

    name: str
    kind: str
    default: Any
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    shape: tuple[int | None, ...] = ()

    def check(self, value: Any) -> Any:
        """``value`` in its own type; None is the default. Raises InvalidParameter."""
        if value is None:
            return self.default
        if self.kind == "bool" and isinstance(value, bool):
            return value
        if self.kind in ("float", "int") and isinstance(value, int | float) and not isinstance(value, bool):
            if not (self.low is None or value >= self.low) or not (self.high is None or value <= self.high):
                raise InvalidParameter(f"'{self.name}' must lie between {self.low:g} and {self.high:g}, not {value!r}.")
            if self.kind == "float":
                return float(value)
            if value == int(value):
                return int(value)
        if self.kind == "ids" and isinstance(value, list) and all(type(v) is int and v >= 0 for v in value):
            return value
        if self.kind == "texts" and isinstance(value, list) and all(isinstance(text, str) for text in value):
            return value
        if self.kind == "choice" and isinstance(value, str) and value in self.choices:
            return value
        if self.kind == "floats" and _is_nested(value, self.shape):
            return value
        if self.kind == "object" and isinstance(value, dict):
            self._bound(value)
            return value
        raise InvalidParameter(f"'{self.name}' must be {self._expected()}.")

    def _bound(self, value: dict[str, Any]) -> None:
        """Raises InvalidParameter of an object that is too deep, too long or no JSON."""
        if deeper_than(value, DEEPEST_OBJECT):
            raise InvalidParameter(f"'{self.name}' has more than {DEEPEST_OBJECT} levels.")
        try:
            size = len(json.dumps(value, allow_nan=False).encode())
        except (TypeError, ValueError) as error:
            raise InvalidParameter(f"'{self.name}' is no JSON.") from error
        if size > LARGEST_OBJECT:
            raise InvalidParameter(f"'{self.name}' has {size} bytes, over the limit of {LARGEST_OBJECT}.")

    def _expected(self) -> str:
        if self.kind == "floats":
            axes = " of ".join("a list" if n is None else f"{n}" for n in self.shape)
            return f"{axes} finite numbers"
        return {
            "bool": "true or false", "float": "a number", "int": "a whole number", "ids": "a list of class ids",
            "texts": "a list of texts", "object": "a JSON object", "choice": " or ".join(self.choices),
        }[self.kind]  # fmt: skip


def _is_nested(value: Any, shape: tuple[int | None, ...]) -> bool:
    """Whether ``value`` is a nested list of finite numbers of that shape."""
    if not shape:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not isinstance(value, list) or shape[0] not in (None, len(value)):
        return False
    return all(_is_nested(item, shape[1:]) for item in value)


AUTO_ORIENT = Parameter("auto_orient", "bool", True)
CONFIDENCE = Parameter("confidence", "float", 0.4, 0.0, 1.0)
DETECTION = (
    CONFIDENCE,
    Parameter("iou_threshold", "float", 0.3, 0.0, 1.0),
    Parameter("max_detections", "int", 300, 1, 10_000),
    Parameter("max_candidates", "int", 3000, 1, 30_000),
    Parameter("classes", "ids", None),
    Parameter("class_agnostic_nms", "bool", False),
)
# The part of the picture that is used: centre x, centre y, width, height, pixels of the oriented picture.
REGION = Parameter("region", "floats", None, shape=(4,))
# How masks travel: COCO run lengths of the whole picture, the outer contour, or not at all.
MASK_FORMAT = Parameter("mask_format", "choice", "rle", choices=("none", "rle", "polygon"))


@dataclass(frozen=True)
class Task:
    """A task of vision models.

    Attributes:
        name: as the catalogue and the Roboflow registry spell it.
        parameters: the settings its public models accept.
    """

    name: str
    parameters: tuple[Parameter, ...]


OBJECT_DETECTION = Task("object-detection", (AUTO_ORIENT, *DETECTION))
KEYPOINT_DETECTION = Task("keypoint-detection", (AUTO_ORIENT, *DETECTION))
CLASSIFICATION = Task(
    "classification",
    (AUTO_ORIENT, REGION, CONFIDENCE, Parameter("function", "choice", None, choices=("softmax", "sigmoid", "none"))),
)
INSTANCE_SEGMENTATION = Task("instance-segmentation", (AUTO_ORIENT, *DETECTION, MASK_FORMAT))
EMBEDDING = Task("embedding", (AUTO_ORIENT, REGION))
# Of the text tower beside it: whether a text that is too long is cut at its end, or else refused.
TRUNCATE = Parameter("truncate", "bool", False)
DEPTH_ESTIMATION = Task("depth-estimation", (AUTO_ORIENT,))
PROMPTABLE = Task(
    "interactive-instance-segmentation",
    (
        AUTO_ORIENT,
        Parameter("points", "floats", None, shape=(None, 2)),  # x, y, pixels of the oriented picture
        Parameter("point_labels", "floats", None, shape=(None,)),  # 1 on the object, 0 off it, -1 no point
        Parameter("box", "floats", None, shape=(4,)),  # left, top, right, bottom, pixels
        Parameter("each_point", "bool", False),  # whether every point is a prompt of its own
        Parameter("multimask", "bool", True),  # three proposals a prompt, or one
        Parameter("mask_threshold", "float", 0.0, -100.0, 100.0),  # a logit over it belongs to the mask
        Parameter("min_score", "float", 0.0, 0.0, 1.0),  # masks of no higher score are left out; 0 leaves out none
        # The share of a mask that is left when its threshold moves from offset below to offset above: the same.
        Parameter("min_stability", "float", 0.0, 0.0, 1.0),
        Parameter("stability_offset", "float", 1.0, 0.0, 100.0),
        MASK_FORMAT,
        Parameter("image_size", "floats", None, shape=(2,)),  # height, width, when embeddings stand for the picture
    ),
)
# Of a stream: each request is its next frame, or is about one of its last frames.
TRACKING = Task(
    "video-instance-segmentation",
    (
        AUTO_ORIENT,
        Parameter("frame", "int", None, 0, 2**53),  # that prompts are about; None: of this request, or the last
        Parameter("boxes", "floats", None, shape=(None, 4)),  # left, top, right, bottom, pixels of the oriented frame
        Parameter("box_objects", "ids", None),  # the object that each box is around; None counts them from 0
        Parameter("points", "floats", None, shape=(None, 2)),  # x, y
        Parameter("point_labels", "floats", None, shape=(None,)),  # 1 on the object, 0 off it; None: all on it
        Parameter("point_objects", "ids", None),  # the object that each point is about; None: 0
        Parameter("forget", "ids", None),  # objects that are followed no longer
        Parameter("mask_threshold", "float", 0.0, -100.0, 100.0),  # a logit over it belongs to the mask
        MASK_FORMAT,
    ),
)
GAZE = Task(
    "gaze-detection",
    (AUTO_ORIENT, Parameter("confidence", "float", 0.5, 0.0, 1.0), Parameter("detect_faces", "bool", True)),
)
# Classes come with the request, as texts or as boxes of examples.
OPEN_VOCABULARY = Task(
    "open-vocabulary-object-detection",
    (
        AUTO_ORIENT,
        Parameter("texts", "texts", None),  # one a class; class ids count them
        Parameter("confidence", "float", 0.25, 0.0, 1.0),
        Parameter("text_threshold", "float", None, 0.0, 1.0),  # of a word of the phrase; None: as confidence
        Parameter("iou_threshold", "float", None, 0.0, 1.0),  # overlap that suppresses; None: as the model's authors
        Parameter("class_agnostic_nms", "bool", False),
        Parameter("max_detections", "int", 300, 1, 10_000),
        Parameter("example_boxes", "floats", None, shape=(None, 4)),  # corners, pixels of their own picture
        Parameter("example_pictures", "ids", None),  # which of the pictures in ``examples`` each box lies in
        Parameter("example_classes", "ids", None),  # class id of each box
        Parameter("example_negatives", "ids", None),  # 1 where the box shows what the class is not
    ),
)
STRUCTURED_OCR = Task("structured-ocr", (AUTO_ORIENT,))
TEXT_OCR = Task(
    "text-only-ocr",
    (
        AUTO_ORIENT,
        Parameter("max_new_tokens", "int", None, 1, 512),  # None: as the checkpoint has it
        Parameter("num_beams", "int", None, 1, 16),
    ),
)
VLM = Task(
    "vlm",
    (
        AUTO_ORIENT,
        Parameter("max_new_tokens", "int", 512, 1, 8192),
        Parameter("temperature", "float", 0.0, 0.0, 2.0),  # 0 takes the likeliest token
        Parameter("top_p", "float", 1.0, 0.0, 1.0),
        Parameter("top_k", "int", 0, 0, 1_000_000),  # 0 is off
        Parameter("repetition_penalty", "float", 1.0, 0.01, 10.0),
        Parameter("seed", "int", None, 0, 2**63 - 1),
        Parameter("stop", "texts", None),  # texts that end the answer and are not part of it
        Parameter("schema", "object", None),  # the answer is JSON of this schema; None: any text
        Parameter("top_logprobs", "int", None, 0, 20),  # likeliest tokens told of each place; None tells no likelihood
        # Width of the search, of models that search for the whole answer; None: as the checkpoint has it.
        Parameter("num_beams", "int", None, 1, 16),
    ),
)


# How much of one picture a model of VLM reads: one view of it at a low resolution; all of it; what its size asks for.
# It stands at the picture's part of a message, ``{"type": "image", "detail": "low"}``.
LOW, HIGH, AUTO = DETAILS = ("low", "high", "auto")


def check_detail(value: Any) -> str:
    """``value``, one of ``DETAILS``; None is ``high``, what the models' authors do. Raises InvalidParameter."""
    if value is None:
        return HIGH
    if isinstance(value, str) and value in DETAILS:
        return value
    raise InvalidParameter(
        f"'{str(value)[:40]}' is no 'detail' of a picture.", hint=f"Known are: {', '.join(DETAILS)}."
    )


def is_low(detail: str, size: tuple[int, int], side: int) -> bool:
    """Whether a picture is read as one view: it is asked for, or left to its size and no side is over ``side`` pixels.

    Args:
        size: (height, width) of the picture.
        side: of the family's one view. A smaller picture has no pixels that a larger one would show.
    """
    return detail == LOW or (detail == AUTO and max(size) <= side)


def about_picture(text: str, detail: str | None = None) -> list[dict[str, Any]]:
    """The messages of one prompt about one picture, for a model of :data:`VLM`.

    Raises:
        InvalidParameter: ``detail`` is none of ``DETAILS``.
    """
    part = {"type": "image"} if detail is None else {"type": "image", "detail": check_detail(detail)}
    return [{"role": "user", "content": [part, {"type": "text", "text": text}]}]


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        OBJECT_DETECTION, KEYPOINT_DETECTION, CLASSIFICATION, INSTANCE_SEGMENTATION, EMBEDDING, DEPTH_ESTIMATION,
        PROMPTABLE, TRACKING, GAZE, OPEN_VOCABULARY, STRUCTURED_OCR, TEXT_OCR, VLM,
    )
}  # fmt: skip


def resolve(parameters: tuple[Parameter, ...], given: Mapping[str, Any]) -> dict[str, Any]:
    """All of ``parameters`` with ``given`` laid over the defaults. Raises InvalidParameter for an unknown name."""
    known = {p.name: p for p in parameters}
    for name in given:
        if name not in known:
            raise InvalidParameter(
                f"Unknown parameter '{str(name)[:40]}'.", hint=f"Known are: {', '.join(sorted(known))}."
            )
    return {name: p.check(given.get(name)) for name, p in known.items()}
