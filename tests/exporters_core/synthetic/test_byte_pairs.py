"""The tokenizers of random exports: every text there and back, special tokens where they belong."""

import hashlib

import pytest
import tokenizers

from tritonvision.exporters.synthetic.tokenizers import byte_pairs

SPECIAL = {"<start>": 0, "<end>": 2, "<picture>": 5000}


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizers.Tokenizer.from_str(byte_pairs.byte_pairs(SPECIAL))


@pytest.mark.parametrize("text", ["Hello, world 2026!", "Grüße 😀\n\tx", "日本", " "])
def test_every_text_comes_back(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_special_tokens_have_their_ids_and_no_other_token_has(tokenizer):
    assert {token: tokenizer.token_to_id(token) for token in SPECIAL} == SPECIAL
    ids = list(tokenizer.get_vocab().values())
    assert len(set(ids)) == len(ids) == byte_pairs.VOCABULARY + len(SPECIAL)
    assert sorted(ids)[:-1] == list(range(len(ids) - 1))


def test_special_tokens_are_found_in_a_text_and_left_out_of_one(tokenizer):
    ids = tokenizer.encode("a<picture>b").ids
    assert ids.count(5000) == 1 and tokenizer.decode(ids) == "ab"


def test_words_are_few_tokens(tokenizer):
    text = "The model answers with a sentence about the picture."
    assert len(tokenizer.encode(text).ids) < len(text) / 2


def test_it_is_the_same_every_time():
    assert byte_pairs.byte_pairs(SPECIAL) == byte_pairs.byte_pairs(SPECIAL)


def test_no_edit_of_the_package_changes_it():
    """It was trained on the package's own sources once: a reworded docstring changed every random export.

    Another version of ``tokenizers`` may write another file; then this line changes, and nothing else.
    """
    digest = hashlib.sha256(byte_pairs.byte_pairs(SPECIAL).encode()).hexdigest()
    assert tokenizers.__version__ == "0.23.3"
    assert digest == "0d0d5b22bad22720093cd3d27a3eb5aa6e308d3da5e72b155b045efb7b633bc4"
