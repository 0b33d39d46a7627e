"""Texts to ids, with a vocabulary small enough to read; CLIP's own is compared with open_clip's in tests/exporters."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonvision.errors import InvalidParameter
from tritonvision.python_backend.vocabulary import clip_tokenizer
from tritonvision.python_backend.vocabulary.clip_tokenizer import Tokenizer, clean

WORDS = ["a", "cat", "dog", "'s", "[unknown]"]
START, END = 5, 6


def special(name: str, id: int) -> dict:
    return {"id": name, "ids": [id], "tokens": [name]}


@pytest.fixture(scope="module")
def small() -> Tokenizer:
    """Four words between a start and an end, eight ids a text."""
    vocabulary = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None, "decoder": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": {
            "type": "TemplateProcessing", "pair": [],
            "single": [
                {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "</s>", "type_id": 0}},
            ],
            "special_tokens": {"<s>": special("<s>", START), "</s>": special("</s>", END)},
        },
        "model": {"type": "WordLevel", "vocab": {w: i for i, w in enumerate(WORDS)}, "unk_token": "[unknown]"},
    }  # fmt: skip
    return Tokenizer(json.dumps(vocabulary), 8)


def test_ids_stand_between_start_and_end_and_zeros_follow(small):
    ids = small("A  cat \n dog")
    assert ids.dtype == np.int64
    assert ids.tolist() == [START, 0, 1, 2, END, 0, 0, 0]


def test_an_empty_text_is_start_and_end(small):
    for text in ("", " \t\n", "&nbsp;"):
        assert small(text).tolist() == [START, END, 0, 0, 0, 0, 0, 0]


def test_a_text_that_just_fits_is_read_and_one_more_token_refused(small):
    assert small("cat " * 6).tolist() == [START, *[1] * 6, END]
    with pytest.raises(InvalidParameter, match="longer than 6 tokens"):
        small("cat " * 7)


@pytest.mark.parametrize("words", [6, 7, 100, 5000])
def test_a_text_that_may_be_cut_is_read_from_its_beginning(small, words):
    assert small("cat " * words, truncate=True).tolist() == [START, *[1] * 6, END]
    assert small("cat", truncate=True).tolist() == small("cat").tolist()


def test_a_text_nobody_would_read_is_refused_before_it_is_looked_at(small, monkeypatch):
    monkeypatch.setattr(clip_tokenizer, "clean", None)
    with pytest.raises(InvalidParameter, match="longer than"):
        small("x" * (clip_tokenizer.LONGEST + 1))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("  A\tPhoto\r\nof  a CAT ", "a photo of a cat"), ("&lt;b&gt; &amp;amp; &amp;lt;", "<b> & <"),
        ("“don’t”", '"don\'t"'), ("schÃ¶n", "schön"), ("e\u0301", "é"), ("ﬁne", "fine"), ("３", "3"),
        ("\x1b[36mblue\x1b[0m", "blue"), ("ΟΔΟΣ", "οδος"), ("\ufeffx", "x"), ("&eacute;", "é"),
    ],
)  # fmt: skip
def test_texts_are_cleaned_as_clip_cleans_them(text, wanted):
    assert clean(text) == wanted


@given(st.text(max_size=50))
def test_any_text_becomes_ids_or_is_refused_for_its_length(small, text):
    try:
        ids = small(text)
    except InvalidParameter:
        assert len(clean(text).split()) > 6
    else:
        assert ids[0] == START and END in ids and ids.shape == (8,)
