"""Texts to token ids as CLIP's own tokenizer gives them: cleaned, lower-cased, byte-level pairs, padded with zeros."""

from __future__ import annotations

import html

import ftfy
import numpy as np
import tokenizers

from tritonvision.errors import InvalidParameter

# Characters of a text that is tokenized. What fits a context of 77 has a few hundred; only blanks make it longer.
LONGEST = 10_000


def clean(text: str) -> str:
    """Mojibake and quotes repaired, HTML entities resolved (twice), blanks collapsed, lower case."""
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()


class Tokenizer:
    """A text to the token ids of one context.

    Args:
        vocabulary: a ``tokenizer.json`` of the ``tokenizers`` package; its post-processor puts the start and the end.
        context: ids of a text, padding included.
    """

    def __init__(self, vocabulary: str, context: int):
        self._tokenizer = tokenizers.Tokenizer.from_str(vocabulary)
        self.context = context

    def __call__(self, text: str, truncate: bool = False) -> np.ndarray:
        """int64 ``[context]``: start, text, end, zeros. An empty text is start and end.

        Args:
            truncate: whether of a text that does not fit only the beginning is read.

        Raises:
            InvalidParameter: the text does not fit, and is not to be cut: half a text means something else.
        """
        too_long = len(text) > LONGEST
        ids = [] if too_long and not truncate else self._tokenizer.encode(clean(text[:LONGEST])).ids
        if truncate:
            ids = [*ids[: self.context - 1], ids[-1]] if len(ids) > self.context else ids
        elif too_long or len(ids) > self.context:
            raise InvalidParameter(
                f"The text is longer than {self.context - 2} tokens, which is all that the model reads.",
                hint="Shorten it, or send 'truncate': a token is a short word or a part of a longer one.",
            )
        padded = np.zeros(self.context, dtype=np.int64)
        padded[: len(ids)] = ids
        return padded
