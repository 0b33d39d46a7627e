"""A chat request as the local server of Datature Vi's package takes it: ``source`` and ``user_prompt``, no messages."""

from __future__ import annotations

from typing import Any

from pydantic_core import PydanticCustomError

_MOST = 64  # pictures, before they are counted against the limit of a request
_USUAL = "Describe this picture."
# Names of its ``generation_config``, and ours.
_SETTINGS = {
    "max_new_tokens": "max_tokens", "temperature": "temperature", "top_p": "top_p", "top_k": "top_k",
    "repetition_penalty": "repetition_penalty", "seed": "seed", "stop_strings": "stop",
}  # fmt: skip


def with_messages(body: Any) -> Any:
    """``body`` with the conversation that its ``source`` and ``user_prompt`` mean; others as they are.

    Raises:
        PydanticCustomError: it has messages, too, or they are of another type.
    """
    if not isinstance(body, dict) or body.get("source") is None:
        return body
    if "messages" in body:
        raise PydanticCustomError("both", "There are 'messages' and a 'source': one of them is the question.")
    prompt, source = body.get("user_prompt") or _USUAL, body["source"]
    pictures = [source] if isinstance(source, str) else source
    if not isinstance(prompt, str) or not isinstance(pictures, list) or not all(isinstance(p, str) for p in pictures):
        raise PydanticCustomError("types", "'source' is a picture's URL or a list of them, and 'user_prompt' a text.")
    if len(pictures) > _MOST:
        raise PydanticCustomError("many", f"'source' may hold {_MOST} pictures.")
    content = [{"type": "image_url", "image_url": {"url": picture}} for picture in pictures]
    messages = [{"role": "user", "content": [*content, {"type": "text", "text": prompt}]}]
    return _settings(body.get("generation_config")) | body | {"messages": messages}


def _settings(config: Any) -> dict[str, Any]:
    """The fields that a ``generation_config`` fills where the request itself says nothing."""
    if not isinstance(config, dict):
        return {}
    given = {ours: config[name] for name, ours in _SETTINGS.items() if config.get(name) is not None}
    return given | ({"temperature": 0.0} if config.get("do_sample") is False else {})
