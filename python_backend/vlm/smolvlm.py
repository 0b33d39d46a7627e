"""SmolVLM's prompt: the conversation as its chat template writes it, pictures as tiles and the tokens that hold them.

A picture is resized until its longer edge has ``longest_edge`` pixels, stretched to whole tiles, cut, and given once
more as a whole: ``SmolVLMProcessor`` with its Pillow image processor (transformers 5.23) to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tokenizers
from PIL import Image

from tritonvision.errors import InvalidParameter
from tritonvision.pictures import size_of
from tritonvision.python_backend.generation.prompt import Prompt, Size, check

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
        self._texts = tokenizers.Tokenizer.from_str(tokenizer.to_str())
        self._texts.encode_special_tokens = True
        self._special = tokenizer.token_to_id

    def read(self, messages: Sequence[Mapping[str, Any]], sizes: Sequence[Size]) -> Prompt:
        """The prompt of a conversation with pictures of these ``sizes`` (height, width).

        Raises:
            InvalidParameter: an unknown role, nobody asks anything, parts and pictures do not match, or it is longer
                than the context.
        """
        check(messages, len(sizes))
        grids = iter([grid(*size, self._longest, self._tile) for size in sizes])
        input_ids = list(self._ids(self._conversation(messages, grids)))
        if len(input_ids) >= self.context:
            raise InvalidParameter(
                f"The prompt is {len(input_ids)} tokens long, the model reads less than {self.context}.",
                hint="Shorten the conversation or send fewer pictures.",
            )
        return Prompt(np.array(input_ids, dtype=np.int64), self._image_token)

    def vision_inputs(self, picture: np.ndarray) -> Mapping[str, np.ndarray]:
        """``pixels`` uint8 ``[tiles, tile, tile, 3]`` of one picture, RGB uint8 ``[h,w,3]``."""
        return {"pixels": tiles(picture, self._longest, self._tile)}

    def _conversation(self, messages: Sequence[Mapping[str, Any]], grids: Iterator[tuple[int, int]]) -> Iterator[Any]:
        """Texts (str) and special tokens (int), as the chat template puts them."""
        yield self._special(START)
        for message in messages:
            parts = message["content"]
            yield f"{message['role'].capitalize()}{':' if parts[0]['type'] == 'image' else ': '}"
            for part in parts:
                if part["type"] == "image":
                    yield from self._picture(*next(grids))
                else:
                    yield part["text"]
            yield self._special(END_OF_UTTERANCE)
            yield "\n"
        yield "Assistant:"

    def _picture(self, rows: int, columns: int) -> Iterator[Any]:
        """Where the rows of ``image_embeds`` go: each tile by its place, then the picture as a whole."""
        around, tile = self._special(AROUND), [self._image_token] * self._tokens_per_tile
        for row in range(1, rows + 1):
            for column in range(1, columns + 1):
                yield from (around, self._special(f"<row_{row}_col_{column}>"), *tile)
            yield "\n"
        if rows:
            yield "\n"
        yield from (around, self._special(GLOBAL), *tile, around)

    def _ids(self, parts: Iterator[str | int]) -> Iterator[int]:
        """Token ids; adjacent texts are tokenized as one."""
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
    whole = np.asarray(image.resize((tile, tile), Image.Resampling.LANCZOS))[None]
    if rows == columns == 1:
        return whole
    cut = np.asarray(image).reshape(rows, tile, columns, tile, 3).swapaxes(1, 2).reshape(-1, tile, tile, 3)
    return np.concatenate([cut, whole])


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
