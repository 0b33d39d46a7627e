"""Vi's routes described: the types of their answers, with examples, and bodies that work."""

from __future__ import annotations

from typing import Any, NotRequired

from typing_extensions import TypedDict

from tritonvision.facade.dialects.operations import ASKS, PICTURE, Operation, event_stream


class ViError(TypedDict):
    """Why there is no answer."""

    error: str
    error_code: str


class ViModelInfo(TypedDict):
    """A model that reads pictures and writes: its run's task, its size, whether it is loaded."""

    run_id: str
    model_name: str
    architecture: str
    size_gb: float
    task_type: str
    weights: str
    ready: bool


class ViModels(TypedDict):
    """The models that read pictures and write."""

    models: list[ViModelInfo]


class ViPhrase(TypedDict):
    """A phrase and one of its boxes: x_min, y_min, x_max, y_max, fractions of the picture."""

    phrase: str
    bbox: list[float]


class ViUsage(TypedDict):
    """Tokens, those of the picture included."""

    prompt_tokens: int
    completion_tokens: int


class ViResult(TypedDict):
    """An answer; the phrases are there where they were asked for."""

    task_type: str
    prompt: str
    caption: str
    raw_output: str
    thinking: str | None
    usage: ViUsage
    finish_reason: str
    grounded_phrases: NotRequired[list[ViPhrase]]


class ViPictureError(TypedDict):
    """Why one picture has no answer; the type is one of Python's."""

    type: str
    message: str


class ViPair(TypedDict):
    """What became of one picture: a result, or an error."""

    result: ViResult | None
    error: ViPictureError | None


class ViResults(TypedDict):
    """One element a picture, in the order of the request."""

    results: list[ViPair]


_MODEL: dict[str, Any] = {
    "run_id": "smolvlm-256m", "model_name": "smolvlm-256m", "architecture": "SmolVLM", "size_gb": 1.026,
    "task_type": "vqa", "weights": "official", "ready": True,
}  # fmt: skip
_PICTURE = {"type": "base64", "value": PICTURE}
_ASK = {"run_id": "smolvlm-256m", "source": _PICTURE, "user_prompt": "What is this?"}
_EVENTS = event_stream("With 'stream'", "New text, at the end the results, an error, or [DONE].")

OPERATIONS: dict[tuple[str, str], Operation] = {
    ("get", "/vi/v1/models"): Operation("The models that read pictures and write", ViModels, {"models": [_MODEL]}),
    ("get", "/vi/v1/models/{run_id}"): Operation("One of them", ViModelInfo, _MODEL, statuses=(404,)),
    ("post", "/vi/v1/predict"): Operation(
        "Questions about pictures", ViResults,
        {"results": [{
            "result": {
                "task_type": "phrase-grounding", "prompt": "Where is the disc?", "caption": "A yellow disc.",
                "raw_output": "...", "thinking": None, "usage": {"prompt_tokens": 71, "completion_tokens": 40},
                "finish_reason": "stop",
                "grounded_phrases": [{"phrase": "A yellow disc", "bbox": [0.3, 0.2, 0.7, 0.8]}],
            },
            "error": None,
        }]},
        {
            "about a picture": _ASK,
            "where things are": _ASK | {"task_type": "phrase-grounding", "generation_config": {"do_sample": False}},
            "two questions": _ASK | {"source": [_PICTURE, _PICTURE], "user_prompt": ["What is this?", "Which colour?"]},
            "as it is written": _ASK | {"stream": True},
        }, ASKS, _EVENTS,
    ),
}  # fmt: skip
