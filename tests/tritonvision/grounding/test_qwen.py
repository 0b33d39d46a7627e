"""Places as Qwen's models write them: in pixels of the picture they read, or in thousandths of it."""

import ast
import json

import pytest

from tritonvision.grounding import parse

LIST = [
    {"bbox_2d": [56, 112, 280, 560], "label": "a dog"}, {"bbox_2d": [0, 28, 28, 56], "label": "a ball"},
    {"bbox_2d": [300, 112, 400, 224], "label": "a dog"},
]  # fmt: skip
FENCED = f"```json\n{json.dumps(LIST, indent=4)}\n```"


def authors(text, width, height):
    """What the authors' examples make of such a text, (label, fractions) one by one: without the fences it is a Python
    literal, of which a cut one is closed behind its last whole object; numbers are divided by the size that was read.
    """
    inside = text.partition("```json\n")[2].partition("```")[0]
    try:
        listed = ast.literal_eval(inside)
    except SyntaxError:
        listed = ast.literal_eval(inside[: inside.rindex('"}') + 2] + "]")
    sides = (width, height, width, height)
    return [(one["label"], tuple(n / s for n, s in zip(one["bbox_2d"], sides, strict=True))) for one in listed]


def flat(found):
    return sorted((place.phrase, box) for place in found for box in place.boxes)


@pytest.mark.parametrize(("convention", "sides"), [("qwen2_5", (560, 1120)), ("qwen3", (1000, 1000))])
@pytest.mark.parametrize("cut", [None, -30])
def test_boxes_are_those_of_the_authors_examples(convention, sides, cut):
    text = FENCED[:cut] if cut is None else FENCED.replace("\n    }", "}")[:cut]
    assert flat(parse(convention, text, 560, 1120)) == sorted(authors(text, *sides))


def test_boxes_of_one_phrase_stand_together_in_order():
    found = parse("qwen2_5", FENCED, 560, 1120)
    assert [(place.phrase, len(place.boxes)) for place in found] == [("a dog", 2), ("a ball", 1)]
    assert found[1].boxes == ((0.0, 0.025, 0.05, 0.05),) and found[0].start_end is None


def test_pixels_are_of_the_picture_that_was_read_and_thousandths_of_any():
    text = '[{"bbox_2d": [100, 100, 200, 200], "label": "x"}]'
    assert parse("qwen2_5", text, 400, 800)[0].boxes == ((0.25, 0.125, 0.5, 0.25),)
    assert parse("qwen3", text, 400, 800)[0].boxes == ((0.1, 0.1, 0.2, 0.2),)


def test_points_lines_of_text_and_lists_of_boxes_are_read():
    text = (
        'Here: {"point_2d": [50, 100], "label": "nose"} {"bbox_2d": [0, 0, 100, 50], "text_content": "EXIT"} '
        '{"bbox_2d": [[0, 0, 10, 10], [20, 20, 40, 40]], "label": "two"}'
    )
    nose, line, two = parse("qwen2_5", text, 100, 200)
    assert (nose.phrase, nose.points, nose.boxes) == ("nose", ((0.5, 0.5),), ())
    assert (line.phrase, line.boxes) == ("EXIT", ((0.0, 0.0, 1.0, 0.25),))
    assert two.boxes == ((0.0, 0.0, 0.1, 0.05), (0.2, 0.1, 0.4, 0.2))


@pytest.mark.parametrize("text", [
    "", "A dog.", "[]", '[{"label": "a dog"}]', '[{"bbox_2d": [1, 2, 3], "label": "x"}]', '[{"bbox_2d": "all"}]',
    '[{"bbox_2d": [5, 5, 5, 9]}]', '{"bbox_2d": null, "point_2d": {}}', '[{"bbox_2d": [1e999, 0, 1, 1]}]',
    "```json\n[{",
])  # fmt: skip
def test_a_text_without_places_has_none(text):
    assert parse("qwen2_5", text, 100, 100) == [] and parse("qwen3", text, 100, 100) == []


def test_numbers_beyond_the_picture_end_at_its_edge():
    (found,) = parse("qwen2_5", '{"bbox_2d": [-10, 50, 900, 20], "label": 3}', 100, 100)
    assert found.boxes == ((0.0, 0.2, 1.0, 0.5),) and found.phrase == ""
