"""What a person may ask beside a picture, and what is refused before anything is started."""

import pytest

from tritonvision.cli.question import ask
from tritonvision.errors import InvalidParameter

SAM, CLIP, DETECTION = "interactive-instance-segmentation", "embedding", "object-detection"


def test_points_boxes_and_texts_become_settings_of_the_task():
    question = ask(None, ["220,140", "10.5,20,0"], "1,2,30,40", None)
    assert question.parameters(SAM) == {
        "points": [[220.0, 140.0], [10.5, 20.0]], "point_labels": [1, 0], "box": [1.0, 2.0, 30.0, 40.0],
    }  # fmt: skip
    assert ask(0.7, None, None, None).parameters(DETECTION) == {"confidence": 0.7}
    assert ask(0.7, None, None, None).parameters("depth-estimation") == {}
    assert ask(None, None, None, ["a cat", "a dog"]).texts == ("a cat", "a dog")


@pytest.mark.parametrize("point", ["", "1", "1,2,3", "a,b", "1,2,3,4"])
def test_what_is_no_point_is_refused_with_the_way_to_write_one(point):
    with pytest.raises(InvalidParameter) as caught:
        ask(None, [point], None, None)
    assert "X,Y" in caught.value.hint


@pytest.mark.parametrize("box", ["1,2,3", "5,5,1,9", "1,9,5,9", "x"])
def test_what_is_no_box_is_refused_with_the_way_to_write_one(box):
    with pytest.raises(InvalidParameter) as caught:
        ask(None, None, box, None)
    assert "LEFT,TOP,RIGHT,BOTTOM" in caught.value.hint


@pytest.mark.parametrize(
    ("task", "options", "words"),
    [
        (SAM, (None, None, None, None), "has to be shown"),
        (DETECTION, (None, ["1,2"], None, None), "takes no --point"),
        (DETECTION, (None, None, "1,2,3,4", None), "takes no --point and no --box"),
        (DETECTION, (None, None, None, ["a cat"]), "takes no --text"),
        (SAM, (None, ["1,2"], None, ["a cat"]), "takes no --text"),
    ],
)
def test_what_a_model_cannot_be_asked_is_refused_in_a_sentence(task, options, words):
    with pytest.raises(InvalidParameter, match=words):
        ask(*options).check("some-model", task)


def test_what_a_model_can_be_asked_passes():
    ask(None, ["1,2"], None, None).check("sam-vit_b", SAM)
    ask(None, None, None, ["a cat"]).check("clip/RN50", CLIP)
    ask(0.5, None, None, None).check("yolov8n-640", DETECTION)
