"""What several commands share: options, settings laid under them, JSON on standard output."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from tritonvision import tasks
from tritonvision.errors import InvalidParameter

_MOST_TOKENS = int(next(p.high for p in tasks.VLM.parameters if p.name == "max_new_tokens"))

Url = Annotated[
    str | None,
    typer.Option(
        metavar="[http://]HOST:PORT",
        help="Ask this server. Default: the one on this machine, or one started for the duration.",
    ),
]
ApiKey = Annotated[str | None, typer.Option(metavar="K", help="The server's API key.")]
OwnRepository = Annotated[Path | None, typer.Option(metavar="DIR", help="Model repository, when no server runs.")]
Repository = Annotated[Path | None, typer.Option(metavar="DIR", help="Model repository to look into.")]
MaxTokens = Annotated[
    int | None, typer.Option(min=1, max=_MOST_TOKENS, metavar="N", help="Most tokens of an answer that is written.")
]

# What a value must be, by the kind of pydantic's complaint; all else is said as pydantic says it.
_MUST_BE: Mapping[str, str] = {
    "byte_size": "must be a size such as 8GB or 500MB", "byte_size_unit": "must be a size such as 8GB or 500MB",
    "int_parsing": "must be a whole number", "int_from_float": "must be a whole number",
    "float_parsing": "must be a number", "bool_parsing": "must be true or false",
    "greater_than": "must be over {gt}", "greater_than_equal": "must be at least {ge}",
    "less_than": "must be under {lt}", "less_than_equal": "must be at most {le}",
}  # fmt: skip


def settings_with(**options: Any):
    """Settings of the environment with the options that were given laid over them.

    Raises InvalidParameter, which names the setting, when one does not fit.
    """
    from pydantic import ValidationError

    from tritonvision.settings import Settings

    try:
        return Settings(**{name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        rule = _MUST_BE.get(first["type"])
        told = f"does not fit: {first['msg']}" if rule is None else rule.format(**first.get("ctx", {}))
        raise InvalidParameter(
            f"The setting '{name}' {told}.",
            hint=f"It comes from an option or from TRITONVISION_{name.upper()}.",
        ) from error


def print_json(value: Any) -> None:
    """``value`` as indented JSON with a final newline."""
    import orjson

    text = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)
    sys.stdout.write(text.decode())
