"""InternVL's prompt: a conversation in ChatML, pictures as the tokens of their tiles.

As the chat template of the released checkpoints writes it and ``InternVLProcessor`` (transformers 5.23) reads it.
``<ref>`` and ``<box>``, by which its authors ask for places and it answers with them, are words that everybody may
write; the tokens of turns and pictures are not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tokenizers

from tritonvision.pictures import size_of
from tritonvision.python_backend.generation.prompt import Prompt, Size, check, details
from tritonvision.python_backend.vlm import tiles
from tritonvision.python_backend.vlm.tokens import Part, Tokens
from tritonvision.tasks import HIGH, is_low

START, END = "<|im_start|>", "<|im_end|>"
OPEN, CLOSE, PICTURE = "<img>", "</img>", "<IMG_CONTEXT>"
MARKS = ("<quad>", "</quad>", "<ref>", "</ref>", "<box>", "</box>")
_MARKED = re.compile(f"({'|'.join(map(re.escape, MARKS))})")


class Reader:
    """See :class:`tritonvision.python_backend.generation.prompt.Reader`.

    Args:
        options: ``tile`` (pixels), ``least`` and ``most`` (tiles of a picture, without the whole of it),
            ``tokens_per_tile``, ``image_token``, ``end_ids``, ``context``.
        tokenizer: with InternVL's special tokens.
    """

    def __init__(self, options: Mapping[str, Any], tokenizer: tokenizers.Tokenizer):
        self.end_ids = tuple(options["end_ids"])
        self.context = options["context"]
        self._tile, self._range = options["tile"], (options["least"], options["most"])
        self._tokens_per_tile, self._image_token = options["tokens_per_tile"], options["image_token"]
        self._tokens = Tokens(tokenizer, self.context)

    def read(self, messages: Sequence[Mapping[str, Any]], sizes: Sequence[Size]) -> Prompt:
        """The prompt of a conversation with pictures of these ``sizes`` (height, width).

        Raises:
            InvalidParameter: see :func:`check`, or it is longer than the context.
        """
        check(messages, len(sizes))
        counts = (tiles.count(*self._grid(*picture)) for picture in zip(sizes, details(messages), strict=True))
        return Prompt(self._tokens.read(self._conversation(messages, counts)), self._image_token)

    def vision_inputs(self, picture: np.ndarray, detail: str = HIGH) -> Mapping[str, np.ndarray]:
        """``pixels`` uint8 ``[tiles, tile, tile, 3]`` of one picture, RGB uint8 ``[h,w,3]``."""
        return {"pixels": tiles.cut(picture, self._tile, *self._grid(size_of(picture), detail))}

    def _grid(self, size: Size, detail: str) -> tuple[int, int]:
        """Rows and columns of tiles."""
        return (1, 1) if is_low(detail, size, self._tile) else tiles.grid(*size, self._tile, *self._range)

    def _conversation(self, messages: Sequence[Mapping[str, Any]], counts: Iterator[int]) -> Iterator[Part]:
        special = self._tokens.special
        for message in messages:
            yield from (special(START), f"{message['role']}\n")
            for part in message["content"]:
                if part["type"] == "image":
                    places = [self._image_token] * (self._tokens_per_tile * next(counts))
                    yield from (special(OPEN), *places, special(CLOSE), "\n")
                else:
                    yield from (special(word) if word in MARKS else word for word in _MARKED.split(part["text"]))
            yield from (special(END), "\n")
        yield from (special(START), "assistant\n")
