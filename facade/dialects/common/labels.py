"""Names of classes by their ids."""

from __future__ import annotations

from collections.abc import Sequence


def name_of(labels: Sequence[str], i: int) -> str:
    """The name of class ``i``, or its number where it has none."""
    return labels[i] if 0 <= i < len(labels) else str(i)
