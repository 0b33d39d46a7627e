"""SmolVLM's prompt: the conversation as its chat template writes it, pictures as tiles and the tokens that hold them.

A picture is resized until its longer edge has ``longest_edge`` pixels, stretched to whole tiles, cut, and given once
more as a whole; at a low ``detail`` it is given as a whole only. Either is ``SmolVLMProcessor`` with its Pillow image
processor (transformers 5.23) to the bit, the second with ``do_image_splitting=False``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tokenizers
from PIL import Image

from tritonvision.pictures import size_of
from tritonvision.python_backend.generation.prompt import Prompt, Size, check, details
from tritonvision.python_backend.vlm.tokens import Part, Tokens
from tritonvision.tasks import HIGH, is_low

START, END_OF_UTTERANCE = "<|im_start|>", "<end_of_utterance>"
AROUND, GLOBAL, PICTURE = "<fake_token_around_image>", "<global-img>", "<image>"


class Reader:
    """See :class:`tritonvision.python_backend.generation.prompt.Reader`.

    Args:
        options: ``tile``, ``longest_edge`` (pixels), ``tokens_per_tile``, ``image_token``, ``end_ids``, ``context``.
        tokenizer: with SmolVLM's special tokens. Special tokens spelt in callers' texts are tokenized as text.
    """

    def __init__(self, options: Mapping[str, Any], tokenizer: tokenizers.Tokenizer):
        self.end_ids = tuple(options["end_ids"])
        self.context = options["context"]
        self._tile, self._longest = options["tile"], options["longest_edge"]
        self._tokens_per_tile, self._image_token = options["tokens_per_tile"], options["image_token"]
        self._tokens = Tokens(tokenizer, self.context)

    def read(self, messages: Sequence[Mapping[str, Any]], sizes: Sequence[Size]) -> Prompt:
        """The prompt of a conversation with pictures of these ``sizes`` (height, width).

        Raises:
            InvalidParameter: an unknown role, nobody asks anything, parts and pictures do not match, or it is longer
                than the context.
        """
        check(messages, len(sizes))
        grids = iter([self._grid(size, detail) for size, detail in zip(sizes, details(messages), strict=True)])
        return Prompt(self._tokens.read(self._conversation(messages, grids)), self._image_token)

    def vision_inputs(self, picture: np.ndarray, detail: str = HIGH) -> Mapping[str, np.ndarray]:
        """``pixels`` uint8 ``[tiles, tile, tile, 3]`` of one picture, RGB uint8 ``[h,w,3]``."""
        low = is_low(detail, size_of(picture), self._tile)
        return {"pixels": (whole if low else tiles)(picture, self._longest, self._tile)}

    def _grid(self, size: Size, detail: str) -> tuple[int, int]:
        return (0, 0) if is_low(detail, size, self._tile) else grid(*size, self._longest, self._tile)

    def _conversation(self, messages: Sequence[Mapping[str, Any]], grids: Iterator[tuple[int, int]]) -> Iterator[Part]:
        """Texts (str) and special tokens (int), as the chat template puts them."""
        yield self._tokens.special(START)
        for message in messages:
            parts = message["content"]
            yield f"{message['role'].capitalize()}{':' if parts[0]['type'] == 'image' else ': '}"
            for part in parts:
                if part["type"] == "image":
                    yield from self._picture(*next(grids))
                else:
                    yield part["text"]
            yield self._tokens.special(END_OF_UTTERANCE)
            yield "\n"
        yield "Assistant:"

    def _picture(self, rows: int, columns: int) -> Iterator[Part]:
        """Where the rows of ``image_embeds`` go: each tile by its place, then the picture as a whole."""
        special = self._tokens.special
        around, tile = special(AROUND), [self._image_token] * self._tokens_per_tile
        for row in range(1, rows + 1):
            for column in range(1, columns + 1):
                yield from (around, special(f"<row_{row}_col_{column}>"), *tile)
            yield "\n"
        if rows:
            yield "\n"
        yield from (around, special(GLOBAL), *tile, around)


def grid(height: int, width: int, longest: int, tile: int) -> tuple[int, int]:
    """Rows and columns of tiles of a picture of that size; (0, 0) when it is one tile and is not cut."""
    rows, columns = (side // tile for side in _sizes(height, width, longest, tile)[1])
    return (0, 0) if rows == columns == 1 else (rows, columns)


def tiles(picture: np.ndarray, longest: int, tile: int) -> np.ndarray:
    """RGB uint8 ``[h,w,3]`` to uint8 ``[rows x columns + 1, tile, tile, 3]``: row by row, the whole picture last."""
    image = Image.fromarray(picture)
    for height, width in _sizes(*size_of(picture), longest, tile):
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    rows, columns = image.height // tile, image.width // tile
    last = np.asarray(image.resize((tile, tile), Image.Resampling.LANCZOS))[None]
    if rows == columns == 1:
        return last
    cut = np.asarray(image).reshape(rows, tile, columns, tile, 3).swapaxes(1, 2).reshape(-1, tile, tile, 3)
    return np.concatenate([cut, last])


def whole(picture: np.ndarray, longest: int, tile: int) -> np.ndarray:
    """RGB uint8 ``[h,w,3]`` to uint8 ``[1, tile, tile, 3]``: the picture as one tile."""
    height, width = _sizes(*size_of(picture), longest, tile)[0]
    image = Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(image.resize((tile, tile), Image.Resampling.LANCZOS))[None]


def _sizes(height: int, width: int, longest: int, tile: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """(height, width) a picture is resized to: first to the longer edge, the other one even, then to whole tiles."""
    wide, aspect = width >= height, width / height
    if wide:
        first = max(_even(int(longest / aspect)), 1), longest
    else:
        first = longest, max(_even(int(longest * aspect)), 1)
    aspect = first[1] / first[0]
    if first[1] >= first[0]:
        across = _whole(first[1], tile)
        return first, (_whole(int(across / aspect), tile), across)
    down = _whole(first[0], tile)
    return first, (down, _whole(int(down * aspect), tile))


def _even(side: int) -> int:
    return side + side % 2


def _whole(side: int, tile: int) -> int:
    return math.ceil(side / tile) * tile
