"""What several commands share: settings laid under command-line options, JSON on standard output."""

from __future__ import annotations

import sys
from typing import Any


def settings_with(**options: Any):
    """Settings of the environment with the options that were given laid over them.

    Raises InvalidParameter, which names the setting, when one does not fit.
    """
    from tritonvision.settings import read_settings

    return read_settings(**options)


def print_json(value: Any) -> None:
    """``value`` as indented JSON with a final newline."""
    import orjson

    text = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)
    sys.stdout.write(text.decode())
