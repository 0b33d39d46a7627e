"""Small real tokenizers for exports of random weights, which have no hub to fetch the true one from.

They are trained in a second on the only prose that every installation has: the sources of this package.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources

VOCABULARY = 1000  # tokens beside the special ones


def byte_pairs(special: Mapping[str, int]) -> str:
    """A byte-level BPE as GPT-2's family has it, digits one by one: the text of its ``tokenizer.json``.

    Args:
        special: tokens that are no text, with their ids. The others fill the ids that are free, from the lowest on.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(_prose(), trainer)
    file = json.loads(tokenizer.to_str())
    taken = set(special.values())
    free = (id for id in range(VOCABULARY + len(special)) if id not in taken)
    vocabulary = sorted(file["model"]["vocab"], key=file["model"]["vocab"].get)
    file["model"]["vocab"] = dict(zip(vocabulary, free, strict=False)) | dict(special)
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    file["added_tokens"] = [
        {"id": id, "content": token, "special": True, **plain}
        for token, id in sorted(special.items(), key=lambda item: item[1])
    ]
    return json.dumps(file)


def _prose() -> list[str]:
    files = resources.files("tritonvision").iterdir()
    return [file.read_text("utf-8") for file in sorted(files, key=lambda file: file.name) if file.name.endswith(".py")]
