"""What a person may ask beside a picture, and what is refused before anything is started."""

import pytest

from tritonvision.cli.options import read_schema
from tritonvision.cli.question import ask
from tritonvision.errors import InvalidParameter

SAM, CLIP, DETECTION = "interactive-instance-segmentation", "embedding", "object-detection"
FOLLOWED = "video-instance-segmentation"
NAMED, PAGE, LINE, WRITTEN = "open-vocabulary-object-detection", "structured-ocr", "text-only-ocr", "vlm"


def test_points_boxes_and_texts_become_settings_of_the_task():
    question = ask(None, ["220,140", "10.5,20,0"], "1,2,30,40", None)
    assert question.parameters(SAM) == {
        "points": [[220.0, 140.0], [10.5, 20.0]], "point_labels": [1, 0], "box": [1.0, 2.0, 30.0, 40.0],
    }  # fmt: skip
    assert ask(0.7, None, None, None).parameters(DETECTION) == {"confidence": 0.7}
    assert ask(0.7, None, None, None).parameters("depth-estimation") == {}
    named = ask(0.3, None, None, ["a cat", "a dog"])
    assert named.texts == ("a cat", "a dog") and named.parameters(CLIP) == named.parameters(WRITTEN) == {}
    assert named.parameters(NAMED) == {"texts": ["a cat", "a dog"], "confidence": 0.3}


def test_a_schema_is_a_setting_of_models_that_write_and_of_no_other():
    question = ask(None, None, None, ["What?"], None, {"type": "object"})
    assert question.parameters(WRITTEN) == {"schema": {"type": "object"}}
    with pytest.raises(InvalidParameter, match="takes no --schema"):
        ask(None, None, None, None, None, {}).check("resnet18", "classification")


@pytest.mark.parametrize(("text", "sentence"), [
    ("{", "is no JSON"), ("[1]", "must be a JSON object"), ("[" * 100_000, "is no JSON"), (None, "cannot be read"),
])  # fmt: skip
def test_a_file_that_is_no_schema_is_refused(tmp_path, text, sentence):
    file = tmp_path / "schema.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(InvalidParameter, match=sentence):
        read_schema(file)


def test_a_file_is_read_as_the_schema_that_it_holds(tmp_path):
    (tmp_path / "schema.json").write_text('{"type": "null"}')
    assert read_schema(tmp_path / "schema.json") == {"type": "null"} and read_schema(None) is None


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
        (FOLLOWED, (None, None, None, None), "has to be shown"),
        (DETECTION, (None, ["1,2"], None, None), "takes no --point"),
        (DETECTION, (None, None, "1,2,3,4", None), "takes no --point and no --box"),
        (DETECTION, (None, None, None, ["a cat"]), "takes no --text"),
        (SAM, (None, ["1,2"], None, ["a cat"]), "takes no --text"),
        (PAGE, (None, None, None, ["a cat"]), "takes no --text"),
        (LINE, (None, None, None, ["a cat"]), "takes no --text"),
        (NAMED, (None, None, None, None), "what to look for"),
        (NAMED, (None, None, None, ["a cat", " "]), "is empty"),
        (WRITTEN, (None, None, None, None), "has to be asked"),
        (WRITTEN, (None, None, None, ["a cat?", "a dog?"]), "asked one --text"),
    ],
)
def test_what_a_model_cannot_be_asked_is_refused_in_a_sentence(task, options, words):
    with pytest.raises(InvalidParameter, match=words):
        ask(*options).check("some-model", task)


def test_the_length_of_an_answer_is_asked_of_models_that_write():
    for task in (WRITTEN, LINE):
        question = ask(None, None, None, ["Who?"] if task == WRITTEN else None, 60)
        question.check("some-model", task)
        assert question.parameters(task)["max_new_tokens"] == 60
    with pytest.raises(InvalidParameter, match="takes no --max-tokens"):
        ask(None, None, None, None, 60).check("yolov8n-640", DETECTION)


def test_what_a_model_can_be_asked_passes():
    ask(None, ["1,2"], None, None).check("sam-vit_b", SAM)
    ask(None, None, "1,2,3,4", None).check("sam2-rt-tiny", FOLLOWED)
    ask(None, None, None, ["a cat"]).check("clip/RN50", CLIP)
    ask(0.5, None, None, None).check("yolov8n-640", DETECTION)
    ask(None, None, None, ["a cat", "a dog"]).check("owlv2-base-patch14", NAMED)
    ask(None, None, None, ["Who is this?"]).check("smolvlm-256m", WRITTEN)
    ask(None, None, None, None).check("doctr-db_resnet50", PAGE)


@pytest.mark.parametrize("texts", [None, ["a?", "b?"]])
def test_predict_refers_to_chat_for_questions_it_cannot_send(texts):
    with pytest.raises(InvalidParameter) as caught:
        ask(None, None, None, texts).check("smolvlm-256m", WRITTEN)
    assert "tritonvision chat smolvlm-256m" in caught.value.hint
