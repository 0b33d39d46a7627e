"""Points and boxes for several pictures, or several boxes for one: the prompt of each request to SAM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tritonvision.errors import InvalidParameter

# Depth of the nested lists of one prompt.
_DEPTHS = {"points": 2, "point_labels": 1, "box": 1}


def each_prompt(given: Mapping[str, Any], pictures: int) -> list[dict[str, Any]]:
    """The settings of each request: one a picture, or for one picture one a box.

    Args:
        given: settings; ``points``, ``point_labels`` and ``box`` of one prompt for all pictures, or one level deeper of
            several.

    Raises:
        InvalidParameter: there is no prompt, or the number of prompts differs from that of pictures or boxes.
    """
    prompts = {name: given[name] for name in _DEPTHS if given.get(name) is not None}
    others = {name: value for name, value in given.items() if name not in _DEPTHS}
    if "points" not in prompts and "box" not in prompts:
        raise InvalidParameter("Nothing is pointed at.", hint="Give points=[[x, y]] or box=[left, top, right, bottom].")
    if pictures > 1:
        count = pictures
    else:
        count = max((len(v) for name, v in prompts.items() if _depth(v) > _DEPTHS[name]), default=1)
    return [{**others, **{name: _of(name, value, i, count) for name, value in prompts.items()}} for i in range(count)]


def _of(name: str, value: Any, i: int, count: int) -> Any:
    if _depth(value) <= _DEPTHS[name]:
        return value
    if len(value) != count:
        raise InvalidParameter(f"'{name}' holds {len(value)} prompts, and {count} are needed.")
    return value[i]


def _depth(value: Any) -> int:
    """The depth of nested lists."""
    depth = 0
    while isinstance(value, list):
        depth += 1
        if not value:
            break
        value = value[0]
    return depth
