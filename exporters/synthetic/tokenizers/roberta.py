"""A small tokenizer like RoBERTa's for random weights: byte-level BPE in which every id stands for a text."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING

from tritonvision.exporters.parity import text_pages

if TYPE_CHECKING:
    from transformers import RobertaTokenizer

_FIRST = ["<s>", "<pad>", "</s>", "<unk>"]  # ids 0 to 3 in RoBERTa's vocabulary; the last id is the mask


def vocabulary(size: int) -> RobertaTokenizer:
    """RoBERTa's tokenizer over a small vocabulary, its special tokens at their ids, filled up to ``size`` tokens.

    Trained on the text of the test pages, then filled with concatenations of two or three of its tokens: every id that
    a network with random weights may generate stands for a text, and no two ids for the same one.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import RobertaTokenizer

    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=size - 1, min_frequency=2, show_progress=False, special_tokens=_FIRST,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )  # fmt: skip
    trained.train_from_iterator([text_pages.TEXT], trainer)
    model = json.loads(trained.to_str())["model"]
    ids: dict[str, int] = model["vocab"]
    letters = [token for token in ids if token.isalpha() and token.isascii() and len(token) > 1]
    parts = sorted(letters, key=lambda token: ids[token])
    words = ("Ġ" + "".join(chosen) for count in (2, 3) for chosen in itertools.product(parts, repeat=count))
    while len(ids) < size - 1:
        ids.setdefault(next(words), len(ids))
    ids["<mask>"] = size - 1
    return RobertaTokenizer(vocab=ids, merges=[tuple(pair) for pair in model["merges"]])
