"""Florence-2's tasks: what a prompt asks, and what its answers say.

That the authors' own code reads the same in them is proven beside it, in tests/exporters/test_florence_2.py.
"""

import numpy as np
import pytest

from tritonvision.errors import InvalidParameter
from tritonvision.grounding import Grounded, florence, parse
from tritonvision.grounding.detections import detections
from tritonvision.results import Detections, InstanceDetections

TASKS = florence.TASKS
BOX, OTHER = "<loc_100><loc_200><loc_500><loc_999>", "<loc_0><loc_0><loc_9><loc_19>"
QUAD = "<loc_0><loc_0><loc_99><loc_0><loc_99><loc_49><loc_0><loc_49>"


@pytest.mark.parametrize(("prompt", "read"), [
    ("<CAPTION>", "What does the image describe?"),
    (" <OD> ", "Locate the objects with category name in the image."),
    ("<CAPTION_TO_PHRASE_GROUNDING> a {red} car <loc_5>", "Locate the phrases in the caption: a {red} car <loc_5>"),
    ("What is <loc_5>?", "What is <loc_5>?"), ("<DocVQA>How much?", "<DocVQA>How much?"),
])  # fmt: skip
def test_a_task_stands_for_its_prompt(prompt, read):
    asked = florence.asked(prompt)
    assert (asked.before, asked.region, asked.after) == (read, (), "")


def test_a_region_is_four_steps():
    asked = florence.asked(f"<REGION_TO_OCR> {BOX}")
    assert (asked.before, asked.region, asked.after) == ("What text is in the region ", (100, 200, 500, 999), "?")


@pytest.mark.parametrize(("prompt", "said"), [
    ("See <OD>", "<OD> stands in the middle"), ("<CAPTION><OD>", "<OD> stands in the middle"),
    ("<CAPTION> of a cat", "Nothing may follow <CAPTION>"), ("<REFERRING_EXPRESSION_SEGMENTATION>  ", "needs a text"),
    ("<REGION_TO_CATEGORY>", "needs a region"), ("<REGION_TO_CATEGORY>the cat", "is no region"),
    (f"<REGION_TO_SEGMENTATION>{BOX}<loc_1>", "is no region"), (f"<REGION_TO_OCR>{BOX} now", "is no region"),
    ("<REGION_TO_OCR><loc_5><loc_0><loc_4><loc_9>", "is no region"),
    ("<REGION_TO_OCR><loc_1000><loc_0><loc_1001><loc_9>", "is no region"),
])  # fmt: skip
def test_what_is_no_prompt_of_a_task_is_refused_with_an_example(prompt, said):
    with pytest.raises(InvalidParameter, match=said) as caught:
        florence.asked(prompt)
    assert caught.value.hint


def test_boxes_are_the_middles_of_their_steps():
    text = f"a cat{BOX}{OTHER}the dog{OTHER}it{BOX}"
    cat, dog = parse("florence", text, 1, 1)
    assert cat.phrase == "a cat" and dog.phrase == "the dog"
    np.testing.assert_allclose(cat.boxes, [[0.1005, 0.2005, 0.5005, 0.9995], [0.0005, 0.0005, 0.0095, 0.0195]])
    assert text[slice(*cat.start_end)] == f"a cat{BOX}{OTHER}"
    assert [place.phrase for place in florence.read(text, 1, 1, TASKS["<OD>"])] == ["a cat", "the dog", "it"]


def test_lines_and_outlines_have_the_box_around_them():
    (line,) = florence.read(f"Total 4.20{QUAD}", 200, 100, TASKS["<OCR_WITH_REGION>"])
    assert line.phrase == "Total 4.20" and len(line.polygons[0]) == 4
    np.testing.assert_allclose(line.boxes, [[0.0005, 0.0005, 0.0995, 0.0495]])
    (shape,) = florence.read(f"{QUAD}<sep>{BOX}<loc_7>", 1, 1, TASKS["<REGION_TO_SEGMENTATION>"])
    assert shape.phrase == "" and [len(outline) for outline in shape.polygons] == [4]  # two corners are no outline


def test_an_answer_in_pixels_is_cut_to_whole_ones():
    said = florence.answer(TASKS["<OD>"], f"</s><s>caf\u00e9{BOX}</s>", 640, 480)
    assert said == {"bboxes": [[64, 96, 320, 479]], "labels": ["caf"]}
    assert florence.answer(TASKS["<CAPTION>"], "</s><s>A cat.</s><pad>", 1, 1) == "A cat."
    said = florence.answer(TASKS["<OPEN_VOCABULARY_DETECTION>"], f"cat<poly>{QUAD}</poly>", 100, 100)
    assert said["polygons_labels"] == ["cat"] and said["bboxes"] == [] and len(said["polygons"][0][0]) == 8


@pytest.mark.parametrize("text", [
    "", "<", "<loc_", "<loc_1><loc_2>", "cat<loc_5><loc_5><loc_5><loc_5>", "cat<loc_9><loc_9><loc_1><loc_1>",
    "<loc_99999><loc_1><loc_1><loc_1>", "<poly></poly><sep><sep>", "a" * 100_000, "<loc_1>" * 50_000, "<sep>" * 50_000,
    "<" * 100_000, "<poly>" * 20_000, "a<loc_1>" * 20_000,
    "<loc_1>" * 20_000 + "<poly>", "</poly>" + "<poly>" * 20_000 + "</poly>",
])  # fmt: skip
def test_no_text_is_a_failure_of_any_task(text):
    for task in TASKS.values():
        florence.answer(task, text, 640, 480)
        assert all(isinstance(place, Grounded) for place in florence.read(text, 640, 480, task))


def test_places_become_boxes_with_names():
    found, labels = detections(florence.read(f"cat{BOX}dog{OTHER}cat{OTHER}", 1, 1, TASKS["<OD>"]), 1000, 200)
    assert type(found) is Detections and labels == ("cat", "dog") and found.class_id.tolist() == [0, 1, 0]
    np.testing.assert_allclose(found.xyxy[0], [100.5, 40.1, 500.5, 199.9], rtol=1e-6)
    assert found.confidence.tolist() == [1, 1, 1] and found.image_metadata == {"width": 1000, "height": 200}


def test_outlines_become_instances_one_each():
    said = florence.read(f"{QUAD}<sep>{QUAD}", 1, 1, TASKS["<REFERRING_EXPRESSION_SEGMENTATION>"])
    found, labels = detections(said, 1000, 1000)
    assert isinstance(found, InstanceDetections) and labels == ("region",) and len(found) == 2
    assert found.polygons[0].tolist() == [[0, 0], [100, 0], [100, 50], [0, 50]]
    nothing, none = detections([], 9, 9)
    assert len(nothing) == 0 and nothing.xyxy.shape == (0, 4) and none == ()
