import os
import subprocess
import sys

import pytest

from tritonvision import errors
from tritonvision.errors import TritonVisionError

KINDS = sorted(errors.BY_CODE.values(), key=lambda kind: kind.code)


def test_the_tree_is_small_and_every_code_is_its_own():
    assert len(KINDS) <= 18
    assert {kind.code for kind in KINDS} == set(errors.BY_CODE)
    assert len(KINDS) == 1 + len(TritonVisionError.__subclasses__())


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.code)
def test_an_error_without_words_says_the_sentence_of_its_kind(kind):
    error = kind()
    assert error.message.endswith(".") and "\n" not in error.message
    assert str(error) == error.message
    assert error.hint == "" and error.retry_after is None


def test_errors_have_their_sentences_without_docstrings(tmp_path):
    program = "from tritonvision import errors; print(*(k().message for k in errors.BY_CODE.values()), sep='\\n')"
    said = [
        subprocess.run(
            [sys.executable, "-c", program], env=os.environ | {"PYTHONOPTIMIZE": level}, capture_output=True, text=True,
            check=True,
        ).stdout
        for level in ("", "2")
    ]  # fmt: skip
    assert said[0] == said[1] and said[0].count("\n") == len(errors.BY_CODE)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.code)
def test_only_what_may_pass_by_itself_is_retryable_and_mistakes_of_the_caller_are_4xx(kind):
    assert 400 <= kind.status <= 599
    assert not (kind.retryable and kind.status < 500)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.code)
def test_an_error_crosses_the_wire_and_keeps_kind_and_sentence(kind):
    sent = kind("The sides 0 x 7 are [odd].")
    # Triton puts words of its own around a step's message
    text = f"in ensemble 'x', Failed to process the request(s), message: {errors.to_wire(sent)}"
    received = errors.from_wire(text)
    assert type(received) is kind
    assert received.message == sent.message


def test_what_follows_the_sentence_on_the_wire_stays_behind():
    received = errors.from_wire("[invalid_picture] It is empty.\n\nAt:\n  /opt/secret/model.py(3): execute")
    assert received.message == "It is empty."


@pytest.mark.parametrize("text", ["", "Failed to allocate", "[nobody_knows] A sentence.", "[INVALID] x"])
def test_a_text_that_no_step_of_ours_wrote_is_no_error_of_ours(text):
    assert errors.from_wire(text) is None
