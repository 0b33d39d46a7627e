"""What ``tritonvision batch`` takes, and what it refuses before anything is started."""

import os

import pytest

from tritonvision import tasks
from tritonvision.cli import batch as command
from tritonvision.cli.question import Question
from tritonvision.engine.facts import Facts
from tritonvision.errors import InvalidParameter, NotSupported


@pytest.mark.parametrize("task", [tasks.PROMPTABLE.name, tasks.TRACKING.name, "no-such-task"])
def test_a_model_that_needs_something_else_for_each_picture_is_refused(task):
    with pytest.raises(NotSupported, match="each picture"):
        command._asked(Facts("m", task), Question())


def test_settings_are_complete_and_a_question_is_asked_of_a_model_that_writes():
    asked, prompt = command._asked(Facts("m", "object-detection"), Question(confidence=0.3))
    assert asked["confidence"] == 0.3 and "iou_threshold" in asked and prompt == ""
    _, prompt = command._asked(Facts("m", tasks.VLM.name), Question(texts=("What is there?",)))
    assert prompt == "What is there?"


@pytest.mark.parametrize(
    ("task", "texts"), [(tasks.VLM.name, ()), (tasks.OPEN_VOCABULARY.name, ()), (tasks.EMBEDDING.name, ("a cat",))]
)
def test_a_question_that_does_not_fit_is_refused(task, texts):
    with pytest.raises(InvalidParameter):
        command._asked(Facts("m", task), Question(texts=texts))


def test_paths_are_kept_from_the_root_and_addresses_as_they_are(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert command._absolute("photos") == os.path.join(os.getcwd(), "photos")
    assert command._absolute("s3://bucket/photos") == "s3://bucket/photos"
