"""The setting ``kept_prompts`` on its way to the processes that generate text: a variable of their tritonserver."""

from __future__ import annotations

import os

VARIABLE = "TRITONVISION_KEPT_PROMPTS"  # of :mod:`tritonvision.settings`, which a step does not import; in bytes


def told() -> int | None:
    """The setting, in bytes; None where somebody else's tritonserver started this process."""
    given = os.environ.get(VARIABLE, "")
    return int(given) if given.isdecimal() else None
