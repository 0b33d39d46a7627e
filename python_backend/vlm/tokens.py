"""Token ids of a prompt that is written in pieces: texts, in which nothing is special, and special tokens."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

import numpy as np
import tokenizers

from tritonvision.errors import InvalidParameter

Part = str | int  # a text, or the id of a special token


class Tokens:
    """A tokenizer that reads nothing but words in a text, whatever it spells.

    Args:
        tokenizer: stays as it is.
        context: tokens of a prompt and its answer together.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer, context: int):
        file = json.loads(tokenizer.to_str())
        file["added_tokens"] = []  # not all of them are marked as special, and none stands in a text
        self._texts = tokenizers.Tokenizer.from_str(json.dumps(file))
        self._id_of, self._context = tokenizer.token_to_id, context

    def special(self, token: str) -> int:
        """The id of a token of the family's own."""
        found = self._id_of(token)
        assert found is not None, f"the tokenizer has no {token}"
        return found

    def read(self, parts: Iterable[Part]) -> np.ndarray:
        """int64 ``[S]``; adjacent texts are tokenized as one.

        Raises:
            InvalidParameter: they leave no room for an answer.
        """
        ids = np.array([*self._ids(parts)], dtype=np.int64)
        if len(ids) >= self._context:
            raise InvalidParameter(
                f"The prompt is {len(ids)} tokens long, the model reads less than {self._context}.",
                hint="Shorten the conversation or send fewer pictures.",
            )
        return ids

    def _ids(self, parts: Iterable[Part]) -> Iterator[int]:
        text = ""
        for part in parts:
            if isinstance(part, str):
                text += part
                continue
            yield from self._encode(text)
            text = ""
            yield part
        yield from self._encode(text)

    def _encode(self, text: str) -> list[int]:
        return self._texts.encode(text, add_special_tokens=False).ids if text else []
