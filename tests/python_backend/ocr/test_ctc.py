"""Reading of CTC: repeats collapse, blanks part them, confidence is the weakest step; pieces of words are joined."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonvision.python_backend.ocr import ctc

LETTERS = "abcdefghij"


def said(path, confidence=0.9):
    """Logits under which each step says one letter of ``path``, ``-`` the blank, with that probability."""
    count = len(LETTERS) + 1
    logits = np.full((len(path), count), np.log((1 - confidence) / (count - 1)), np.float32)
    for step, letter in enumerate(path):
        logits[step, LETTERS.index(letter) if letter != "-" else count - 1] = np.log(confidence)
    return logits


@pytest.mark.parametrize(
    "path, text", [("aab-b", "abb"), ("----", ""), ("-a--a-", "aa"), ("jjj", "j"), ("abcabc", "abcabc")]
)
def test_the_best_path_is_collapsed(path, text):
    assert ctc.decode(said(path), LETTERS)[0] == text


def test_confidence_is_that_of_the_least_sure_step():
    logits = said("abc", 0.95)
    logits[1] = said("b", 0.4)[0]
    assert ctc.decode(logits, LETTERS)[1] == pytest.approx(0.4, abs=1e-6)


def test_confidence_survives_large_logits():
    assert ctc.decode(said("ab") + 5000, LETTERS)[1] == pytest.approx(0.9, abs=1e-3)


@given(st.text(LETTERS, max_size=20), st.floats(0.3, 0.99))
def test_any_word_parted_by_blanks_is_read_back(word, confidence):
    text, sure = ctc.decode(said("-".join(word) or "-", confidence), LETTERS)
    assert text == word and 0 < sure <= 1


def test_pieces_are_laid_over_each_other():
    assert ctc.join(["abcdi", "cdefgh"], 0.5, 0.5) == "abcdefgh"
    assert ctc.join(["harbour", "bour mas", "master"], 0.5, 0.5) == "harbour master"


@pytest.mark.parametrize("pieces", [[""], ["abc"], ["", "abc"], ["a", "b"], ["", ""]])
def test_what_cannot_overlap_is_put_together(pieces):
    assert ctc.join(pieces, 0.5, 0.2) == "".join(pieces)
