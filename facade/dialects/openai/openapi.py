"""OpenAI's routes described: the types of their answers, with examples, and bodies that work."""

from __future__ import annotations

from typing import Any, Literal, NotRequired

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


class Place(TypedDict):
    """What the answer says of one phrase: fractions of the picture. Corners of boxes are left, top, right, bottom."""

    phrase: str
    boxes: list[tuple[float, float, float, float]]
    polygons: list[list[tuple[float, float]]]
    points: list[tuple[float, float]]


class AssistantMessage(TypedDict):
    """What the model says, and thinks before; and where in the picture that is, if the request asks for ``places``."""

    role: Literal["assistant"]
    content: str
    reasoning_content: NotRequired[str]
    places: NotRequired[list[Place]]


class Likelihood(TypedDict):
    """A token, its bytes where it is whole characters, and the logarithm of its probability."""

    token: str
    bytes: list[int] | None
    logprob: float


class TokenLikelihood(Likelihood):
    """A token of the answer, and the likeliest tokens of its place."""

    top_logprobs: list[Likelihood]


class Likelihoods(TypedDict):
    """Of each token of the answer."""

    content: list[TokenLikelihood]
    refusal: None


class Choice(TypedDict):
    """The one answer, and why it ends."""

    index: int
    message: AssistantMessage
    logprobs: Likelihoods | None
    finish_reason: str | None


class PromptDetails(TypedDict):
    """Tokens of the prompt that were not read again, because a prompt before began with them."""

    cached_tokens: int


class Usage(TypedDict):
    """Tokens, those of pictures included."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails


class ChatCompletion(TypedDict):
    """An answer in one piece."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: Usage


class Embedding(TypedDict):
    """The vector of one entry, of length 1: numbers, or with ``base64`` their float32 in little-endian."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingUsage(TypedDict):
    """Tokens, which are not counted: 0."""

    prompt_tokens: int
    total_tokens: int


class Embeddings(TypedDict):
    """A vector for each entry, in order."""

    object: Literal["list"]
    model: str
    data: list[Embedding]
    usage: EmbeddingUsage


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
        "usage": {"prompt_tokens": 71, "completion_tokens": 9, "total_tokens": 80,
                  "prompt_tokens_details": {"cached_tokens": 64}},
    },
    {
        "about a picture": _QUESTION,
        "as it is written": _QUESTION | {"stream": True},
        "as JSON of a schema": _QUESTION | {"response_format": {"type": "json_schema", "json_schema": {
            "name": "seen", "schema": {"type": "object", "properties": {"people": {"type": "integer"}},
                                       "required": ["people"], "additionalProperties": False},
        }}},
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
    ("post", "/v1/embeddings"): Operation(
        "Vectors of texts and pictures", Embeddings,
        {
            "object": "list", "model": "clip/ViT-B-32", "usage": {"prompt_tokens": 0, "total_tokens": 0},
            "data": [{"object": "embedding", "index": 0, "embedding": [0.6, -0.8]}],
        },
        {
            "of texts": {"model": "clip/ViT-B-32", "input": ["a cat", "a dog"]},
            "of a picture": {"model": "clip/ViT-B-32", "encoding_format": "base64", "input": [
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}},
            ]},
        }, ASKS,
    ),
}  # fmt: skip
