"""Qwen3-VL's places: written as Qwen2.5-VL does, their numbers thousandths of the picture's width and height."""

from __future__ import annotations

from tritonvision.grounding.grounded import Grounded
from tritonvision.grounding.qwen2_5 import scaled

SCALE = 1000


def read(text: str, width: int, height: int) -> list[Grounded]:
    """See :func:`tritonvision.grounding.parse`."""
    return scaled(text, SCALE, SCALE)
