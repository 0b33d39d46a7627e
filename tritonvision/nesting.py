"""How deep parsed JSON is nested, told without recursion: what writes or shows a value recurses, and fails too deep."""

from __future__ import annotations

from typing import Any


def deeper_than(value: Any, most: int) -> bool:
    """Whether ``value`` has more than ``most`` levels of objects and lists; a number or a text has none."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(most):
        held = (part for one in level for part in (one.values() if isinstance(one, dict) else one))
        level = [part for part in held if isinstance(part, dict | list)]
        if not level:
            return False
    return bool(level)
