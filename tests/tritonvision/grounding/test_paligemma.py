"""PaliGemma's places are read as big_vision reads them, and masks become outlines within their boxes."""

import re

import numpy as np
import pytest

from tritonvision.grounding import caption, parse
from tritonvision.grounding.paligemma import outlined

CODES = "".join(f"<seg{code:03}>" for code in range(16))
TWO = (
    f"<loc0000><loc0000><loc0930><loc1012> {CODES} wall ; <loc0722><loc0047><loc0895><loc0378>{CODES} car ; "
    "<loc0180><loc0596><loc0782><loc0961> david bowie"
)
# How big_vision's example program splits an answer: (text before, four numbers, sixteen codes, name).
AUTHORS = re.compile(
    r"(.*?)" + r"<loc(\d{4})>" * 4 + r"\s*" + "(?:%s)?" % (r"<seg(\d{3})>" * 16) + r"\s*([^;<>]+)? ?(?:; )?"
)


def authors(text):
    """(box of 1024 parts: left, top, right, bottom; name) of each object, by the author's expression."""
    found = []
    while text and (match := AUTHORS.match(text)):
        _, *numbers, name = match.groups()
        top, left, bottom, right = (int(number) / 1024 for number in numbers[:4])
        found.append(((left, top, right, bottom), (name or "").strip()))
        text = text[match.end() :]
    return found


@pytest.mark.parametrize(
    "text",
    [
        TWO, "I see <loc0001><loc0002><loc0300><loc0400> cat ; <loc0010><loc0020><loc0030><loc0040> dog",
        "<loc0001><loc0002><loc0300><loc0400>", "no place here", "",
    ],
)  # fmt: skip
def test_places_are_those_of_the_author(text):
    found = parse("paligemma", text, 640, 480)
    assert [(place.boxes[0], place.phrase) for place in found] == authors(text)


def test_what_is_no_box_is_left_out():
    some = "<loc0500><loc0100><loc0500><loc0300> line ; <loc0001><loc0002><loc0300> three ; <loc9999>"
    assert parse("paligemma", some, 100, 100) == []


def test_the_answer_without_its_tokens_is_the_phrases():
    assert caption(TWO, parse("paligemma", TWO, 10, 10)) == "wall ; car ; david bowie"


def test_a_mask_is_outlined_within_its_box():
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[16:32, 8:56] = 200
    wall, car, bowie = outlined(TWO, [mask, np.zeros_like(mask)])
    (outline,) = wall.polygons
    xs, ys = zip(*outline, strict=True)
    left, top, right, bottom = wall.boxes[0]
    width, height = right - left, bottom - top
    assert (min(xs), max(xs)) == pytest.approx((left + 8.5 / 64 * width, left + 55.5 / 64 * width))
    assert (min(ys), max(ys)) == pytest.approx((top + 16.5 / 64 * height, top + 31.5 / 64 * height))
    assert car.polygons == () and bowie.polygons == ()


def test_masks_stay_with_their_boxes():
    """Also behind codes that are too few, and behind a box that is none."""
    full = np.full((64, 64), 255, dtype=np.uint8)
    text = (
        f"<loc0001><loc0002><loc0300><loc0400><seg001> few ; <loc0005><loc0002><loc0005><loc0400>{CODES} flat ; "
        f"<loc0001><loc0002><loc0300><loc0400>{CODES} cat"
    )
    few, cat = outlined(text, [np.zeros_like(full), full])
    assert (few.phrase, few.polygons) == ("few", ()) and cat.phrase == "cat" and len(cat.polygons) == 1
