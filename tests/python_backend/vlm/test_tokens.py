"""What a prompt is written of: texts in which nothing is special, and special tokens."""

import json

import numpy as np
import pytest
import tokenizers

from tritonvision.errors import InvalidParameter
from tritonvision.python_backend.vlm.tokens import Tokens

SPECIAL = {"<|start|>": 0, "<think>": 1}


@pytest.fixture(scope="module")
def tokenizer(byte_level):
    """One of its tokens is matched in texts without being special, as Qwen's ``<think>`` is."""
    file = json.loads(byte_level(SPECIAL).to_str())
    for token in file["added_tokens"]:
        token["special"] = token["content"] == "<|start|>"
    return tokenizers.Tokenizer.from_str(json.dumps(file))


@pytest.mark.attack("special tokens spelt in a prompt")
def test_nothing_that_a_text_spells_is_a_special_token(tokenizer):
    ids = Tokens(tokenizer, 100).read(["a <think> b <|start|> c"])
    assert ids.dtype == np.int64 and not set(SPECIAL.values()) & set(ids.tolist())
    assert tokenizer.decode(ids.tolist(), skip_special_tokens=False) == "a <think> b <|start|> c"
    assert tokenizer.encode("<think>", add_special_tokens=False).ids == [1]  # it stays as it was


def test_special_tokens_stand_between_texts_and_texts_that_meet_are_one(tokenizer):
    tokens = Tokens(tokenizer, 100)
    apart, whole = tokens.read(["qui", "ck", 0, "fox"]), tokens.read(["quick", tokens.special("<|start|>"), "fox"])
    np.testing.assert_array_equal(apart, whole)
    assert tokens.read([]).shape == (0,)


def test_a_prompt_that_leaves_no_room_for_an_answer_is_refused(tokenizer):
    tokens = Tokens(tokenizer, 4)
    assert len(tokens.read([0, 0, 0])) == 3
    with pytest.raises(InvalidParameter, match="4 tokens long, the model reads less than 4"):
        tokens.read([0, 0, 0, 0])
