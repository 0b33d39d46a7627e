"""JSON within the text of a model, in time that grows with the text and no faster."""

from __future__ import annotations

import time

import pytest

from tritonvision.grounding.tolerant_json import objects


@pytest.mark.parametrize(("text", "found"), [
    ('{"a": 1} and {"b": [2,]}', [{"a": 1}]), ("{'a': 'it\\'s'}", [{"a": "it's"}]), ("[{'a': 1}, {'b': 2", [{"a": 1}]),
    ("{'a': 1,} it's", [{"a": 1}]), ("{'a': \"it's\"}", [{"a": "it's"}]), ("{'a': 'cut", []), ('{"a": "cut\\', []),
])  # fmt: skip
def test_objects_are_found_whatever_their_quotes_and_wherever_the_text_is_cut(text, found):
    assert objects(text) == found


@pytest.mark.attack("patterns that burn")
@pytest.mark.parametrize("text", [
    '{"' + '\\"' * 60_000, "{'" + "\\'" * 60_000, "{" + "'a\\" * 60_000, "{" + ", " * 60_000,
], ids=["double", "single", "mixed", "commas"])  # fmt: skip
def test_quotes_without_an_end_are_passed_once(text):
    began = time.perf_counter()
    assert objects(text) == []
    assert time.perf_counter() - began < 3  # as many minutes where each quote is a new beginning
