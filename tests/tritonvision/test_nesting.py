"""How deep JSON is nested, of any depth."""

from __future__ import annotations

import pytest

from tritonvision.nesting import deeper_than


@pytest.mark.parametrize(("value", "levels"), [
    (1, 0), ("[[[", 0), (None, 0), ([], 1), ({}, 1), ([1, [2]], 2), ({"a": {"b": []}}, 3), ([[], {"a": [{}]}], 4),
])  # fmt: skip
def test_levels_are_counted_in_lists_and_objects(value, levels):
    assert not deeper_than(value, levels)
    assert levels == 0 or deeper_than(value, levels - 1)


def test_no_depth_is_too_deep_to_be_told():
    value: list = []
    for _ in range(200_000):
        value = [value]
    assert deeper_than(value, 100)
    while value:  # taken apart, since the interpreter frees it by recursion
        value = value.pop()
