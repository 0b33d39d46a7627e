"""A small vocabulary like BERT's, for random networks: no package contains the released one."""

from __future__ import annotations

import itertools
import string
from collections.abc import Iterable

# Ids of special tokens and punctuation in BERT's uncased vocabulary, on which networks depend.
SPECIALS = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103}
PUNCTUATION = {".": 1012, "?": 1029}
_FIRST = 1996  # id of the first word; lower ids are special tokens or unused
_MARK = "##"  # prefix of a piece that continues a word


def tokenizer_json(texts: Iterable[str]) -> bytes:
    """``tokenizer.json`` of the ``tokenizers`` package: BERT's normalising, splitting and WordPiece.

    Each word of ``texts`` is one token. Other words in Latin letters become pieces of one and two letters, so no ASCII
    text is unknown. The same texts give the same file.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    normalizer, splitter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    words = {word for text in texts for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))}
    letters = string.ascii_lowercase + string.digits
    pieces = [*letters, *map("".join, itertools.product(string.ascii_lowercase, repeat=2))]
    known = words | {*string.punctuation, *pieces, *(_MARK + piece for piece in pieces)}
    numbered = {word: _FIRST + index for index, word in enumerate(sorted(known - PUNCTUATION.keys()))}
    tokenizer = Tokenizer(models.WordPiece(SPECIALS | PUNCTUATION | numbered, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(name, SPECIALS[name]) for name in ("[CLS]", "[SEP]")]
    )
    tokenizer.add_special_tokens(list(SPECIALS))
    return tokenizer.to_str().encode()
