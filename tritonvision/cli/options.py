"""What several commands share: settings laid under command-line options, JSON on standard output."""

from __future__ import annotations

import sys
from typing import Any

from tritonvision.errors import InvalidParameter


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
        raise InvalidParameter(
            f"The setting '{name}' does not fit: {first['msg']}.",
            hint=f"It comes from an option or from TRITONVISION_{name.upper()}.",
        ) from error


def print_json(value: Any) -> None:
    """``value`` as indented JSON with a final newline."""
    import orjson

    text = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)
    sys.stdout.write(text.decode())
