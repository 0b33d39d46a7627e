"""One box, written in every convention, is the same box; and no text is a failure in any of them."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from tritonvision.grounding import CONVENTIONS, parse
from tritonvision.grounding.smart_resize import smart_resize

SIZE = 333, 501  # height, width: not square, and no multiples of 28
SEEN = smart_resize(*SIZE, 28, 56 * 56, 1280 * 28 * 28)
BOX = 0.25, 0.1, 0.75, 0.6  # left, top, right, bottom


def scaled(across: float, down: float) -> list[int]:
    return [round(value * side) for value, side in zip(BOX, (across, down) * 2, strict=True)]


LEFT, TOP, RIGHT, BOTTOM = scaled(1024, 1024)
STEPS = "".join(f"<loc_{value - 1}>" for value in scaled(1000, 1000))
TEXTS = {
    "vi": f'{{"groundings":[{{"phrase":"cat","grounding":[{scaled(1024, 1024)}]}}]}}',
    "qwen2_5": f'```json\n[{{"bbox_2d": {scaled(SEEN[1], SEEN[0])}, "label": "cat"}}]\n```',
    "qwen3": f'[{{"bbox_2d": {scaled(1000, 1000)}, "label": "cat"}}]',
    "internvl": f"<ref>cat</ref><box>[{scaled(1000, 1000)}]</box>",
    "paligemma": f"<loc{TOP:04}><loc{LEFT:04}><loc{BOTTOM:04}><loc{RIGHT:04}> cat",
    "moondream": '{"object": "cat", "objects": [{"x_min": 0.25, "y_min": 0.1, "x_max": 0.75, "y_max": 0.6}]}',
    "florence": f"cat{STEPS}",
}
HERE = [name for name in CONVENTIONS if find_spec(f"tritonvision.grounding.{name}") or name == "vi"]


def test_every_convention_is_written():
    assert TEXTS.keys() == set(CONVENTIONS)


@pytest.mark.parametrize("convention", HERE)
def test_the_same_box_is_read(convention):
    (found,) = parse(convention, TEXTS[convention], SEEN[1], SEEN[0])
    assert found.phrase == "cat" and found.boxes[0] == pytest.approx(BOX, abs=2e-3)


@pytest.mark.parametrize("convention", HERE)
@pytest.mark.parametrize("other", TEXTS.values())
def test_a_text_of_another_convention_cut_anywhere_is_no_failure(convention, other):
    for end in range(0, len(other), 3):
        assert isinstance(parse(convention, other[:end], *SEEN), list)


@pytest.mark.parametrize("convention", HERE)
@pytest.mark.parametrize("text", [
    "[" * 4000, "{" * 4000, "<box>" * 2000, "<loc_1>" * 3000, "<loc0001>" * 3000, "9" * 5000,
    "[[1,2,3,4]]" * 2000, "\ud800",
    "<ref>" * 2000 + "[1,2,3", '{"bbox_2d": [1e999, NaN, 3, 4]}', "<poly>" * 1000,
], ids=lambda text: ascii(text[:12]))  # fmt: skip
def test_no_text_is_a_failure_or_takes_long(convention, text):
    for found in parse(convention, text, *SEEN):
        assert all(0 <= value <= 1 for box in found.boxes for value in box)
