"""OpenAI's routes described: the types of their answers, with examples, and bodies that work."""

from __future__ import annotations

from typing import Any, Literal

from typing_extensions import TypedDict

from tritonvision.facade.dialects.operations import ASKS, PICTURE, Operation, event_stream


class OpenAIProblem(TypedDict):
    """What is wrong, of what kind, and which field has it."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIError(TypedDict):
    """Why there is no answer."""

    error: OpenAIProblem


class ServiceHealth(TypedDict):
    """How the server is."""

    object: Literal["health.response"]
    message: str


class ChatModel(TypedDict):
    """A model that chats."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ChatModels(TypedDict):
    """The models that chat."""

    object: Literal["list"]
    data: list[ChatModel]


class AssistantMessage(TypedDict):
    """What the model says."""

    role: Literal["assistant"]
    content: str


class Choice(TypedDict):
    """The one answer, and why it ends."""

    index: int
    message: AssistantMessage
    logprobs: None
    finish_reason: str | None


class Usage(TypedDict):
    """Tokens, those of pictures included."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatCompletion(TypedDict):
    """An answer in one piece."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: Usage


_MODEL: dict[str, Any] = {
    "id": "smolvlm-256m", "object": "model", "created": 1750000000, "owned_by": "tritonvision",
}  # fmt: skip
_QUESTION: dict[str, Any] = {
    "model": "smolvlm-256m", "max_tokens": 16,
    "messages": [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}},
        {"type": "text", "text": "What is this?"},
    ]}],
}  # fmt: skip
_EVENTS = event_stream("With 'stream'", "A chunk of the answer, an error, or [DONE].")

CHAT = Operation(
    "The next message of a conversation", ChatCompletion,
    {
        "id": "chatcmpl-5b0c9a0e", "object": "chat.completion", "created": 1750000000, "model": "smolvlm-256m",
        "choices": [{
            "index": 0, "message": {"role": "assistant", "content": "A yellow disc on a blue ground."},
            "logprobs": None, "finish_reason": "stop",
        }],
        "usage": {"prompt_tokens": 71, "completion_tokens": 9, "total_tokens": 80},
    },
    {
        "about a picture": _QUESTION,
        "as it is written": _QUESTION | {"stream": True},
        "in words": {"model": "smolvlm-256m", "messages": [{"role": "user", "content": "Hello."}]},
    }, ASKS, _EVENTS,
)  # fmt: skip

OPERATIONS: dict[tuple[str, str], Operation] = {
    ("get", "/v1/health/live"): Operation(
        "Whether this process is well", ServiceHealth, {"object": "health.response", "message": "Service is live."}
    ),
    ("get", "/v1/health/ready"): Operation(
        "Whether requests are answered now", ServiceHealth,
        {"object": "health.response", "message": "Service is ready."},
    ),
    ("get", "/v1/models"): Operation("The models that chat", ChatModels, {"object": "list", "data": [_MODEL]}),
    ("get", "/v1/models/{model}"): Operation("A model that chats", ChatModel, _MODEL, statuses=(404,)),
    ("post", "/v1/chat/completions"): CHAT,
}  # fmt: skip
