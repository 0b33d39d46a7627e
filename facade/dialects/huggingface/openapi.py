"""Hugging Face's routes described: the types of their answers, with examples, and bodies that work."""

from __future__ import annotations

from typing import Any, NotRequired

from typing_extensions import TypedDict

from tritonvision.facade.dialects.openai import openapi
from tritonvision.facade.dialects.operations import ASKS, BINARY, JSON, PICTURE, Operation, event_stream


class HuggingFaceError(TypedDict):
    """Why there is no answer; while a model loads, for how many seconds it may."""

    error: str | list[str]
    estimated_time: NotRequired[float]


class Corners(TypedDict):
    """Whole pixels of the picture."""

    xmin: int
    ymin: int
    xmax: int
    ymax: int


class ScoredBox(TypedDict):
    """Object detection, zero-shot too."""

    score: float
    label: str
    box: Corners


class Label(TypedDict):
    """Classification, zero-shot too."""

    label: str
    score: float


class DepthPicture(TypedDict):
    """Depth estimation: a grey PNG in base64, and the numbers when they are asked for."""

    depth: str
    predicted_depth: NotRequired[list[list[float]]]


class GeneratedText(TypedDict):
    """What a model reads or writes."""

    generated_text: str


class GivenAnswer(TypedDict):
    """Visual question answering."""

    answer: str
    score: float


class Segment(TypedDict):
    """Image segmentation: an instance, its mask a black and white PNG in base64."""

    score: float
    label: str
    mask: str


class GeneratedMasks(TypedDict):
    """Every object of a picture, best first: black and white PNGs in base64, and how good the model thinks they are."""

    masks: list[str]
    scores: list[float]


class ModelState(TypedDict):
    """What a model is, and whether it is loaded."""

    id: str
    pipeline_tag: str
    loaded: bool
    state: str
    weights: str
    license: str
    version: str


class ModelHealth(TypedDict):
    """The server would answer."""

    status: str


_ANSWER = (
    list[ScoredBox] | list[Label] | list[GivenAnswer] | list[GeneratedText] | list[Segment] | list[list[float]]
    | GeneratedText | DepthPicture | GeneratedMasks
)  # fmt: skip
_EXAMPLE = [{"score": 0.91, "label": "sports ball", "box": {"xmin": 14, "ymin": 8, "xmax": 34, "ymax": 28}}]
_ASKED: dict[str, Any] = {
    "type": "object",
    "properties": {
        "inputs": {
            "description": "The picture in base64 or an https URL, or an object with it as 'image'; or a text, or "
            "texts, where the model takes them.",
        },
        "question": {"type": ["string", "null"], "description": "About the picture, for a model that writes."},
        "parameters": {
            "type": ["object", "null"],
            "description": "Those of the model's task, and no wrong ones.",
            "properties": {
                "threshold": {
                    "description": "Least score of a box: 0.5, with candidate labels 0.1, with a mask 0.9."
                },
                "top_k": {"description": "Most classes, 5, or most boxes of candidate labels."},
                "function_to_apply": {"description": "sigmoid, softmax or none: how scores are made of logits."},
                "candidate_labels": {"description": "What to look for, texts."},
                "hypothesis_template": {"description": "A text with {} in it, where a candidate label goes."},
                "normalize": {"description": "Whether vectors get the length 1; false."},
                "max_new_tokens": {"description": "Most tokens that a model writes."},
                "generation_parameters": {"description": "The rest of how it writes: temperature, top_p, ..."},
                "depth_map_format": {"description": "png8 or png16."},
                "return_tensor": {"description": "Whether the numbers of a depth map come, too; false."},
                "subtask": {"description": "Of image segmentation: instance."},
                "points_per_side": {"description": "Of mask generation: points of the grid along a side, 32."},
                "points_per_batch": {"description": "Points between two events of progress, 64."},
                "pred_iou_thresh": {"description": "Least score of a mask, 0.88."},
                "stability_score_thresh": {"description": "Least stability of a mask, 0.95."},
                "crops_nms_thresh": {"description": "Overlap of boxes that suppresses a mask, 0.7."},
            },
        },
    },
}
_WAYS: dict[str, Any] = {
    "image/*": BINARY,
    JSON: {"schema": _ASKED, "examples": {
        "a picture": {"value": {"inputs": PICTURE}},
        "with parameters": {"value": {"inputs": PICTURE, "parameters": {"threshold": 0.4}}},
        "a text": {"value": {"inputs": "a ball", "parameters": {"normalize": True}}},
        "candidate labels": {"value": {"inputs": PICTURE, "parameters": {"candidate_labels": ["a ball", "the sun"]}}},
        "a question": {"value": {"inputs": PICTURE, "question": "What is this?"}},
        "instances": {"value": {"inputs": PICTURE, "parameters": {"threshold": 0.5}}},
        "every object": {"value": {"inputs": PICTURE, "parameters": {"points_per_side": 2}}},
    }},
}  # fmt: skip
_PROGRESS = event_stream(
    "Of mask generation, where the request accepts it", "Points done of a total, an error, or the answer."
)
_STATE = Operation(
    "What a model is, and whether it is loaded", ModelState,
    {
        "id": "yolov8n-640", "pipeline_tag": "object-detection", "loaded": True, "state": "Loaded",
        "weights": "official", "license": "AGPL-3.0", "version": "0.1.0",
    },
    statuses=(404,),
)  # fmt: skip
_TASK = Operation(
    "The model's answer, the task in the path", _ANSWER, _EXAMPLE, statuses=ASKS, ways=_WAYS, media=_PROGRESS
)

OPERATIONS: dict[tuple[str, str], Operation] = {
    ("get", "/health"): Operation("Whether the server would answer", ModelHealth, {"status": "ok"}),
    ("get", "/models/{model}"): _STATE,
    ("get", "/models/{model}/info"): _STATE,
    ("get", "/models/{model}/health"): Operation(
        "Whether the server would answer for a model", ModelHealth, {"status": "ok"}, statuses=(404, 503)
    ),
    ("post", "/models/{model}"): Operation(
        "The model's answer", _ANSWER, _EXAMPLE, statuses=ASKS, ways=_WAYS, media=_PROGRESS
    ),
    ("post", "/models/{model}/pipeline/{task}"): _TASK,
    ("post", "/pipeline/{task}/{model}"): _TASK,
    ("post", "/models/{model}/v1/chat/completions"): openapi.CHAT,
}
