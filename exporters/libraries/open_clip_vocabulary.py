"""The vocabulary of CLIP as a ``tokenizer.json``, built from the one in open_clip's package."""

from __future__ import annotations

import json
import string
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from open_clip.tokenizer import SimpleTokenizer

# Contractions of open_clip's pattern, which ignores case; then a long s (U+017F) also matches an s.
_WORDS = ("<{s}tart_of_text>", "<end_of_text>", "'{s}", "'t", "'re", "'ve", "'m", "'ll", "'d")


def tokenizer_json(reference: SimpleTokenizer) -> bytes:
    """A ``tokenizer.json`` with which ``tokenizers`` gives the same ids as ``reference`` for cleaned texts.

    Texts are cleaned by :func:`tritonvision.python_backend.vocabulary.clip_tokenizer.clean`; the post-processor adds
    the start and end tokens.
    """
    start, end = reference.all_special_ids
    names = {id: name for name, id in reference.encoder.items()}
    vocabulary = {name: id for name, id in reference.encoder.items() if id not in (start, end)}
    merges = [list(pair) for pair in sorted(reference.bpe_ranks, key=reference.bpe_ranks.get)]
    for id in (start, end):  # open_clip takes them as special tokens also where a text contains them
        chain = _pieces(names[id], reference.bpe_ranks)
        while len(chain) > 1:
            merges.append(chain[:2])
            chain[:2] = ["".join(chain[:2])]
            vocabulary[chain[0]] = id if len(chain) == 1 else len(vocabulary) + 2
    return json.dumps(_file(vocabulary, merges, (names[start], start), (names[end], end))).encode()


def _pieces(word: str, ranks: dict[tuple[str, str], int]) -> list[str]:
    """The tokens of ``word`` after applying the merges."""
    pieces = [*word[:-1], f"{word[-1]}</w>"]
    while found := [pair for pair in zip(pieces, pieces[1:], strict=False) if pair in ranks]:
        pair = min(found, key=ranks.__getitem__)
        at = next(i for i in range(len(pieces)) if tuple(pieces[i : i + 2]) == pair)
        pieces[at : at + 2] = ["".join(pair)]
    return pieces


def _file(
    vocabulary: dict[str, int], merges: list[list[str]], start: tuple[str, int], end: tuple[str, int]
) -> dict[str, Any]:
    letters, number, others = (f"[{_ranges(group)}]" for group in (r"[\p{L}]", r"[\p{N}]", r"[^\s\p{L}\p{N}]"))
    words = "|".join(_WORDS).format(s="[sſ]")
    pattern = f"{words}|{letters}+|{number}|{others}+"
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Removed", "invert": True}
    bytes_ = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, bytes_]},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [_special(start), {"Sequence": {"id": "A", "type_id": 0}}, _special(end)], "pair": [],
            "special_tokens": {name: {"id": name, "ids": [id], "tokens": [name]} for name, id in (start, end)},
        },
        "decoder": None,
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": "</w>", "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            "vocab": vocabulary, "merges": merges,
        },
    }  # fmt: skip


def _special(token: tuple[str, int]) -> dict[str, Any]:
    return {"SpecialToken": {"id": token[0], "type_id": 0}}


def _ranges(group: str) -> str:
    """All characters that ``group`` of the reference's pattern matches, as the inside of a character class.

    They are enumerated, because the two regular expression engines differ: that of ``tokenizers`` does not know 17,000
    letters of Unicode 17, and for the reference's, when it ignores case, U+0345 is in no category.
    """
    import regex

    pattern = regex.compile(group, regex.IGNORECASE)
    surrogates = range(0xD800, 0xE000)
    found = (c for c in range(sys.maxunicode + 1) if c not in surrogates and pattern.match(chr(c)))
    return "".join(f"{_literal(first)}-{_literal(last)}" for first, last in _runs(found))


def _literal(code: int) -> str:
    return rf"\{chr(code)}" if chr(code) in string.punctuation else chr(code)


def _runs(numbers: Iterable[int]) -> list[list[int]]:
    """First and last of each run of consecutive numbers."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return runs
