"""``nvext`` of a chat request: settings as clients of NVIDIA's NIM send them, beside OpenAI's own fields."""

from __future__ import annotations

from typing import Any

import orjson
from pydantic_core import PydanticCustomError

_SAME = ("top_k", "repetition_penalty")
# Forms of the answer that are not followed. They are refused, since the answer would have another form.
_OTHER_FORMS = ("guided_regex", "guided_choice", "guided_grammar")


def opened(body: Any) -> Any:
    """``body`` with what its ``nvext`` says in fields of its own, which come first; others as they are.

    ``guided_json`` is the schema of the answer. What has no
    meaning here (``min_p``, ``min_tokens``, ...) is passed over.

    Raises:
        PydanticCustomError: it wants a form of the answer that is not followed here.
    """
    told = body.get("nvext") if isinstance(body, dict) else None
    if not isinstance(told, dict):
        return body
    for name in _OTHER_FORMS:
        if told.get(name) is not None:
            raise PydanticCustomError("form", f"'nvext.{name}' is not followed here; 'guided_json' is.")
    given = {name: told[name] for name in _SAME if told.get(name) is not None} | body
    if told.get("guided_json") is not None:
        schema = {"name": "guided", "schema": _object(told["guided_json"])}
        given["response_format"] = {"type": "json_schema", "json_schema": schema}
    return given


def _object(schema: Any) -> Any:
    """A schema that may be a text of JSON, as its value. Raises PydanticCustomError."""
    if not isinstance(schema, str):
        return schema
    try:
        return orjson.loads(schema)
    except ValueError as error:
        raise PydanticCustomError("schema", "'nvext.guided_json' is no JSON.") from error
