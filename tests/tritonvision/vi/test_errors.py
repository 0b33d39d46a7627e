"""Vi's errors: each is one of Python's own, and none of ours is without one."""

from __future__ import annotations

import pytest

from tritonvision import errors
from tritonvision.vi.errors import ViError, ViFileNotFoundError, ViMissingModelError, builtin_name, of


@pytest.mark.parametrize(("error", "builtin"), [
    (errors.InvalidPicture(), ValueError), (errors.InvalidParameter(), ValueError),
    (errors.PictureTooLarge(), ValueError), (errors.Unauthorized(), PermissionError),
    (errors.Forbidden(), PermissionError), (errors.UnknownModel(), LookupError),
    (errors.DeadlineExceeded(), TimeoutError), (errors.ServerUnavailable(), ConnectionError),
    (errors.Overloaded(), ConnectionError), (errors.ModelLoading(), ConnectionError), (errors.NoRoom(), MemoryError),
    (errors.NotSupported(), NotImplementedError), (errors.TritonVisionError(), RuntimeError),
    (errors.BrokenModel(), RuntimeError), (errors.SetupError(), ValueError),
])  # fmt: skip
def test_an_error_of_ours_is_one_of_python_s(error, builtin):
    found = of(error)
    assert isinstance(found, ViError) and isinstance(found, builtin)
    assert builtin_name(found) == builtin.__name__


def test_it_keeps_what_is_known():
    found = of(errors.Overloaded("Too much work.", hint="Wait.", retry_after=3))
    assert (found.message, found.suggestion, found.error_code, found.status_code, found.retry_after) == (
        "Too much work.", "Wait.", "overloaded", 503, 3,
    )  # fmt: skip
    assert str(found) == "Too much work. Wait."


@pytest.mark.parametrize("message", ["", errors.OUT_OF_MEMORY])
def test_exhausted_memory_says_so_in_the_words_that_programs_look_for(message):
    assert str(of(errors.NoRoom(message))).count("out of memory") == 1


def test_a_missing_file_reads_as_a_sentence():
    error = ViFileNotFoundError("There is no file 'x.jpg'.")
    assert isinstance(error, FileNotFoundError) and str(error) == "There is no file 'x.jpg'."
    assert isinstance(ViMissingModelError("No model is named."), AttributeError)
