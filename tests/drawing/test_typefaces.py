"""Names are drawn in a typeface that has their letters, and stand as their number where none has: never as boxes."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonvision.drawing import typefaces
from tritonvision.drawing.results import draw
from tritonvision.drawing.text import draw_line
from tritonvision.drawing.typefaces import BUILT_IN, Typeface, best_for, drawable, installed, legible
from tritonvision.results import ClassificationPrediction, Detections

GREY = np.full((240, 320, 3), 128, np.uint8)
BOX = Detections(np.array([[60, 80, 200, 180]], np.float32), np.array([1], np.int32), np.array([0.9], np.float32))
DEJAVU = Typeface(str(
    Path(importlib.util.find_spec("matplotlib").submodule_search_locations[0]) / "mpl-data/fonts/ttf/DejaVuSans.ttf"
))  # fmt: skip
BALL = {"Russian": "мяч", "Greek": "μπάλα", "French": "ballon rayé", "Turkish": "top ığş"}


@pytest.fixture
def only_built_in(monkeypatch):
    monkeypatch.setattr(typefaces, "installed", lambda: (BUILT_IN,))


def test_ascii_is_drawn_in_the_typeface_inside_pillow():
    assert installed()[0] == BUILT_IN and BUILT_IN.has("A cat, 100 %!") and best_for(["cat", "dog"]) == BUILT_IN


@pytest.mark.parametrize("name", BALL.values(), ids=BALL)
def test_letters_beyond_ascii_are_drawn_in_a_typeface_that_the_packages_bring(name):
    assert not BUILT_IN.has(name) and DEJAVU.has(name) and DEJAVU in installed()
    assert legible({0: "cat", 1: name}) == (DEJAVU, {0: "cat", 1: name})


def test_arabic_is_drawn_only_where_its_letters_can_be_joined(monkeypatch):
    typefaces._has.cache_clear()
    for joined in (True, False):
        monkeypatch.setattr(typefaces, "_joins_letters", lambda joined=joined: joined)
        assert DEJAVU.has("حصان") == joined
        typefaces._has.cache_clear()


def test_a_name_that_no_typeface_has_is_its_number():
    assert legible({3: "足球", 7: "мяч", 9: "cat"}, [BUILT_IN, DEJAVU]) == (DEJAVU, {3: "3", 7: "мяч", 9: "cat"})
    assert legible({3: "足球", 7: "мяч"}, [BUILT_IN]) == (BUILT_IN, {3: "3", 7: "7"})
    assert legible({0: "a\0b"}, [BUILT_IN, DEJAVU])[1] == {0: "0"}


def test_boxes_and_classes_are_named_by_number_where_letters_lack(only_built_in):
    assert (draw(GREY, BOX, ("a", "мяч")) == draw(GREY, BOX, ("a", "1"))).all()
    scores = ClassificationPrediction(np.array([1]), np.array([[0.2, 0.8]], np.float32))
    assert (draw(GREY, scores, ("a", "足球")) == draw(GREY, scores, ("a", "1"))).all()


@pytest.mark.parametrize("name", BALL.values(), ids=BALL)
def test_a_name_beyond_ascii_is_not_drawn_as_boxes(name):
    boxes = "\u0378" * len(name)  # a code point that no typeface has
    assert (draw(GREY, BOX, ("a", name)) != draw(GREY, BOX, ("a", boxes))).any()
    assert (draw(GREY, BOX, ("a", boxes)) == draw(GREY, BOX, ("a", "1"))).all()


def test_text_keeps_the_letters_that_its_typeface_has():
    assert drawable("naïve café\t漢字 €5\nok") == "naive cafe ?? ?5\nok"
    assert drawable("naïve café\t漢字 €5\nok", DEJAVU) == "naïve café ?? €5\nok"


@given(st.text(max_size=30))
def test_any_text_can_be_drawn(text):
    assert draw_line(GREY, text).shape[1] == 320
    draw(GREY, BOX, ("a", text))
