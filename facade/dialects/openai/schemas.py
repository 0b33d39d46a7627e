"""The fields of a chat request: its conversation, its pictures and its settings."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

from pydantic import Field, model_validator

from tritonvision import tasks
from tritonvision.errors import InvalidParameter, InvalidPicture
from tritonvision.facade.dialects.common.schemas import AtMost, RequestFields
from tritonvision.facade.dialects.openai import nvext, vi_form
from tritonvision.facade.inputs.pictures import DATA_URL, LONGEST_PREFIX

# Unsupported fields are refused, not ignored: for each, the values that have no effect, and the error.
_TOOLS = "Tools are not called here."
_NEUTRAL: dict[str, tuple[tuple[Any, ...], str]] = {
    "n": ((1,), "One answer is written a request: 'n' must be 1."),
    "tools": (([],), _TOOLS),
    "tool_choice": (("none", "auto"), _TOOLS),
    "functions": (([],), _TOOLS),
    "function_call": (("none", "auto"), _TOOLS),
    "logit_bias": (({},), "Tokens are not favoured one by one: 'logit_bias' must be empty."),
    "presence_penalty": ((0,), "'presence_penalty' must be 0 here; 'repetition_penalty' is there."),
    "frequency_penalty": ((0,), "'frequency_penalty' must be 0 here; 'repetition_penalty' is there."),
    "modalities": ((["text"],), "Answers are text here: 'modalities' must be [\"text\"]."),
    "audio": ((), "Answers are text here, not 'audio'."),
}
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_FORMATS: dict[str, dict[str, Any] | None] = {"text": None, "json_object": {"type": "object"}, "json_schema": None}
_TOP_K_OFF = -1  # as other servers spell 0
_ANY_SEED = -1  # as other servers and clients say that there is none
_SEEDS = 2**63


class Message(RequestFields):
    """One turn of the conversation: a text, or parts that are texts and pictures.

    The assistant's content may be null, as in histories of tool calls; its refusal is then the content.
    """

    role: str
    content: Annotated[str | list[dict[str, Any]], AtMost("max_texts")] | None = None
    refusal: str | None = None


class StreamOptions(RequestFields):
    """How to stream."""

    include_usage: bool | None = None


class JsonSchema(RequestFields):
    """A schema of answers, which they follow to the letter whether it is ``strict`` or not."""

    name: str = ""
    description: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None


class ResponseFormat(RequestFields):
    """The form of the answer: any ``text``, a JSON object (``json_object``), or JSON of a schema (``json_schema``)."""

    type: str = "text"
    json_schema: JsonSchema | None = None

    def schema_of_answers(self) -> dict[str, Any] | None:
        """The JSON schema of the answer; None for any text. Raises InvalidParameter."""
        if self.type not in _FORMATS:
            raise InvalidParameter(
                f"The form '{self.type[:40]}' of an answer is not known.", hint=f"Known are: {', '.join(_FORMATS)}."
            )
        if self.type != "json_schema":
            return _FORMATS[self.type]
        if self.json_schema is None or self.json_schema.schema_ is None:
            raise InvalidParameter(
                "The 'response_format' of the type json_schema has no schema.",
                hint='Send {"type": "json_schema", "json_schema": {"name": ..., "schema": {...}}}.',
            )
        return self.json_schema.schema_


class ChatRequest(RequestFields):
    """``/v1/chat/completions``. Without a temperature decoding is greedy, as with 0.

    In place of ``messages`` it may have ``source`` and ``user_prompt``, see :mod:`.vi_form`, and ``nvext`` beside its
    fields, see :mod:`.nvext`.

    What a model thinks before it answers is ``reasoning_content``; with ``separate_reasoning`` false it stays in the
    ``content``, in the model's own tags. With ``places`` the message has the places that its text names in the one
    picture of the conversation, as fractions of it.
    """

    model: str
    messages: Annotated[list[Message], AtMost("max_messages")]
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    max_completion_tokens: int | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    num_beams: int | None = None
    seed: int | None = None
    stop: Annotated[str | list[str], AtMost("max_texts")] | None = None
    response_format: ResponseFormat = ResponseFormat()
    separate_reasoning: bool = True
    places: bool = False
    n: Any = None
    tools: Any = None
    tool_choice: Any = None
    functions: Any = None
    function_call: Any = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    logit_bias: Any = None
    presence_penalty: Any = None
    frequency_penalty: Any = None
    modalities: Any = None
    audio: Any = None

    @model_validator(mode="before")
    @classmethod
    def _of_others(cls, body: Any) -> Any:
        return vi_form.with_messages(nvext.opened(body))

    def settings(self, most_stops: int) -> dict[str, Any]:
        """Every setting of the task. Raises InvalidParameter for values that are out of range or unsupported.

        Args:
            most_stops: texts that ``stop`` may hold.
        """
        for name, (neutral, sentence) in _NEUTRAL.items():
            value = getattr(self, name)
            if value is not None and value not in neutral:
                raise InvalidParameter(sentence)
        if self.top_logprobs and not self.logprobs:
            raise InvalidParameter("'top_logprobs' are told with 'logprobs' only.", hint="Send logprobs: true.")
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        if len(stop) > most_stops:
            raise InvalidParameter(f"'stop' may hold {most_stops} texts, not {len(stop)}.")
        return tasks.resolve(tasks.VLM.parameters, {
            "max_new_tokens": self._most_tokens(), "temperature": self.temperature, "top_p": self.top_p,
            "top_k": 0 if self.top_k == _TOP_K_OFF else self.top_k, "repetition_penalty": self.repetition_penalty,
            "num_beams": self.num_beams, "seed": self._seed(), "stop": [text for text in stop if text] or None,
            "schema": self.response_format.schema_of_answers(),
            "top_logprobs": (self.top_logprobs or 0) if self.logprobs else None,
        })  # fmt: skip

    def conversation(self) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
        """The messages in the service's form, and kind and value of each picture in them.

        Raises:
            InvalidParameter, InvalidPicture: a role, a part or a reference to a picture is not supported.
        """
        if not self.messages:
            raise InvalidParameter("There is no message in the request.")
        messages, pictures = [], []
        for message in self.messages:
            if message.role not in _ROLES:
                raise InvalidParameter(
                    f"Messages of the role '{message.role[:40]}' are not read.", hint=f"Known are: {', '.join(_ROLES)}."
                )
            parts = message.content
            if parts is None and message.role == "assistant":
                parts = message.refusal or ""
            if parts is None:
                raise InvalidParameter("A message has no 'content'.")
            if isinstance(parts, str):
                parts = [{"type": "text", "text": parts}]
            content = []
            for part in parts:
                kind = part.get("type")
                if kind == "image_url":
                    reference = part.get("image_url")
                    pictures.append(picture_of(reference))
                    content.append({"type": "image"} | _detail(reference))
                elif kind == "text" and isinstance(part.get("text"), str):
                    content.append({"type": "text", "text": part["text"]})
                else:
                    raise InvalidParameter(
                        f"A part of the type '{str(kind)[:40]}' is not read.",
                        hint='Send {"type": "text", "text": ...} or {"type": "image_url", "image_url": {"url": ...}}.',
                    )
            messages.append({"role": _ROLES[message.role], "content": content})
        if self.places and len(pictures) != 1:
            raise InvalidParameter(
                f"'places' are told of a conversation about one picture, not about {len(pictures)}.",
                hint="Leave 'places' out, or ask about one picture after another.",
            )
        return messages, pictures

    def _most_tokens(self) -> int | None:
        """From ``max_completion_tokens`` or its older name. Raises InvalidParameter, naming the caller's field."""
        name = "max_tokens" if self.max_completion_tokens is None else "max_completion_tokens"
        (parameter,) = (p for p in tasks.VLM.parameters if p.name == "max_new_tokens")
        return dataclasses.replace(parameter, name=name).check(getattr(self, name))

    def _seed(self) -> int | None:
        """The seed, from 0: negative ones are mapped to their lower 63 bits. Raises InvalidParameter."""
        (parameter,) = (p for p in tasks.VLM.parameters if p.name == "seed")
        seed = dataclasses.replace(parameter, low=-_SEEDS).check(self.seed)
        return None if seed is None or seed == _ANY_SEED else seed % _SEEDS


def _detail(reference: Any) -> dict[str, str]:
    """The ``detail`` of a picture, where the caller gives one. Raises InvalidParameter."""
    value = reference.get("detail") if isinstance(reference, dict) else None
    return {} if value is None else {"detail": tasks.check_detail(value)}


def picture_of(reference: Any) -> tuple[str, str]:
    """Kind and value for :meth:`Pictures.read`. Raises InvalidPicture."""
    url = reference.get("url") if isinstance(reference, dict) else reference
    if not isinstance(url, str) or not url:
        raise InvalidPicture("An 'image_url' has no 'url'.")
    scheme = url[:16].lstrip().lower()
    if scheme.startswith("data:"):
        if DATA_URL.match(url[:LONGEST_PREFIX]) is None:
            raise InvalidPicture("A data URL of a picture is in base64 here, as data:image/jpeg;base64,... is.")
        return "base64", url
    if scheme.startswith(("http://", "https://")):
        return "url", url
    raise InvalidPicture("Pictures are data URLs or https URLs; files of the server are not read.")
