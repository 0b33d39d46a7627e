"""InternVL's references and boxes: with its marks, without them, several of one phrase, cut at the end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonvision import grounding

THOUSANDTHS = st.integers(0, 999)


def read(text):
    return grounding.parse("internvl", text, 640, 480)


@given(left=THOUSANDTHS, top=THOUSANDTHS, wide=st.integers(1, 1000), high=st.integers(1, 1000))
def test_a_box_is_in_thousandths_of_the_picture(left, top, wide, high):
    right, bottom = min(left + wide, 1000), min(top + high, 1000)
    (found,) = read(f"<ref>the cat</ref><box>[[{left}, {top}, {right}, {bottom}]]</box>")
    assert found.phrase == "the cat"
    assert found.boxes == ((left / 1000, top / 1000, right / 1000, bottom / 1000),)


def test_a_phrase_may_have_several_boxes_and_a_text_several_phrases():
    text = (
        "I see <ref>two dogs</ref><box>[[10, 20, 30, 40], [50, 60, 70, 80]]</box> "
        "by <ref>a tree</ref><box>[[0,0,500,999]]</box>."
    )
    dogs, tree = read(text)
    assert (dogs.phrase, len(dogs.boxes), tree.phrase, tree.boxes) == ("two dogs", 2, "a tree", ((0, 0, 0.5, 0.999),))
    assert text[slice(*dogs.start_end)].startswith("<ref>two dogs") and text[slice(*dogs.start_end)].endswith("</box>")
    assert grounding.caption(text, [dogs, tree]) == "I see two dogs by a tree."


@pytest.mark.parametrize(("text", "phrase"), [
    ("The region of the cat is here. A cat: [[100, 200, 300, 400]]", "A cat"), ("[[100, 200, 300, 400]]", ""),
    ("cat[[100, 200, 300, 400]]", "cat"), ("cat [100, 200, 300, 400]", "cat"), ("a\n- cat: [100,200,300,400]", "cat"),
    ("<box>[[100, 200, 300, 400]]", ""), ("<ref>cat</ref>\n<box>[[100,200,300,400]]</box>", "cat"),
])  # fmt: skip
def test_without_marks_the_phrase_is_what_stands_before_the_boxes(text, phrase):
    (found,) = read(text)
    assert (found.phrase, found.boxes) == (phrase, ((0.1, 0.2, 0.3, 0.4),))


@pytest.mark.parametrize("text", [
    "", "no places at all", "[1, 2, 3]", "[[1, 2, 3, 4, 5]]", "<ref>cat</ref>", "<box></box>", "<box>[[1,2,3",
    "a[b](c)",
    "[[5, 5, 5, 5]]", "[nan, 1, 2, 3]", "[" * 5000, "<ref>" * 5000, "[[1,1,1," * 5000, "- " * 5000,
])  # fmt: skip
def test_what_names_no_place_gives_none(text):
    assert read(text) == []


def test_corners_are_put_in_order_and_stay_on_the_picture():
    (found,) = read("cat [[900, 1200, 100, -5]]")
    assert found.boxes == ((0.1, 0, 0.9, 1),)


@pytest.mark.parametrize("space", ["\x1c", "\x1f", "\x85", "\u2003", "\t\n"], ids=ascii)
def test_a_space_of_any_kind_beside_a_number_is_a_space(space):
    (found,) = grounding.parse("internvl", f"<ref>cat</ref><box>[[0,{space}2, 300{space}, 400]]</box>", 64, 48)
    assert found.phrase == "cat" and len(found.boxes) == 1
