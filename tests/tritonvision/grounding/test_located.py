"""The places of a whole answer: each family's, whatever it thought before, by the conversation that it answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import numpy as np
import pytest

from tritonvision.grounding.detections import detections
from tritonvision.grounding.grounded import Grounded
from tritonvision.grounding.located import Convention, located, with_places
from tritonvision.results import Delta
from tritonvision.tasks import about_picture

SIZE = 800, 400
BOX = (0.25, 0.5, 0.5, 0.75)
QWEN = Convention("qwen2_5", (28, 56 * 56, 1280 * 28 * 28))
CODES = "".join(f"<seg{code:03}>" for code in range(16))


@pytest.mark.parametrize(("convention", "said"), [
    (Convention("qwen3"), '[{"bbox_2d": [250, 500, 500, 750], "label": "cat"}]'),
    (Convention("internvl"), "<ref>cat</ref><box>[[250, 500, 500, 750]]</box>"),
    (Convention("paligemma"), "<loc0512><loc0256><loc0768><loc0512> cat"),
    (Convention("moondream"),
     '{"object": "cat", "objects": [{"x_min": 0.25, "y_min": 0.5, "x_max": 0.5, "y_max": 0.75}]}'),
    (Convention(""), '{"phrase_grounding": {"sentence": "A cat.", "groundings": '
                     '[{"phrase": "cat", "grounding": [[256, 512, 512, 768]]}]}}'),
])  # fmt: skip
def test_the_same_box_is_read_of_every_family(convention, said):
    (place,) = located(convention, about_picture("Where?"), SIZE, said)
    assert (place.phrase, place.boxes) == ("cat", (BOX,))


@pytest.mark.parametrize(("detail", "wide", "tall"), [(None, 812, 392), ("high", 812, 392), ("low", 700, 336)])
def test_pixels_are_those_of_the_detail_that_was_asked_for(detail, wide, tall):
    said = f'[{{"bbox_2d": [{wide // 4}, {tall // 2}, {wide // 2}, {tall * 3 // 4}], "label": "cat"}}]'
    (place,) = located(QWEN, about_picture("Where?", detail), SIZE, said)
    assert place.boxes[0] == pytest.approx(BOX)


def test_florence_s_places_are_read_by_the_task_that_was_asked():
    step = "<loc_250><loc_500><loc_500><loc_750>"
    (place,) = located(Convention("florence"), about_picture("<REGION_PROPOSAL>"), SIZE, f"a cat{step}")
    assert place.phrase == "" and place.boxes[0] == pytest.approx(BOX, abs=0.001)
    assert located(Convention("florence"), about_picture("<CAPTION>"), SIZE, f"a cat{step}") == []


def test_masks_that_came_with_an_answer_are_its_outlines():
    said = f"<loc0512><loc0256><loc0768><loc0512>{CODES} cat"
    (place,) = located(Convention("paligemma"), about_picture("segment cat"), SIZE, said, np.full((1, 64, 64), 255))
    (outline,) = place.polygons
    xs, ys = zip(*outline, strict=True)
    assert BOX[0] < min(xs) < max(xs) < BOX[2] and BOX[1] < min(ys) < max(ys) < BOX[3]


def test_the_last_piece_has_the_places_of_all_and_none_of_the_thought():
    async def pieces() -> AsyncGenerator[Delta, None]:
        for text in ('<think>[{"bbox_2d": [1, 1, 9, 9], "label": "dog"}]</think>', '[{"bbox_2d": [250, 500, ', "500, "):
            yield Delta(text, np.zeros(1, dtype=np.int64))
        yield Delta('750], "label": "cat"}]', np.zeros(1, dtype=np.int64), "stop")

    async def read() -> list[Delta]:
        written = with_places(pieces(), Convention("qwen3"), about_picture("Where?"), lambda: SIZE)
        return [piece async for piece in written]

    *first, last = asyncio.run(read())
    assert [piece.places for piece in first] == [None] * 3
    assert [(place.phrase, place.boxes) for place in last.places] == [("cat", (BOX,))]


def test_places_survive_json():
    place = Grounded("cat", (BOX,), (((0.0, 0.5), (1.0, 0.5), (0.5, 1.0)),), ((0.25, 0.75),))
    assert Grounded.from_dict(place.to_dict()) == place
    assert Grounded.from_dict({}) == Grounded("")


def test_a_point_is_a_box_without_an_extent():
    found, labels = detections([Grounded("nose", points=((0.25, 0.5),)), Grounded("cat", (BOX,))], *SIZE)
    assert labels == ("nose", "cat") and found.xyxy.tolist() == [[200, 200, 200, 200], [200, 200, 400, 300]]
