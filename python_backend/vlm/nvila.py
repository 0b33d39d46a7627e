"""NVILA's prompt: a conversation in ChatML, a picture as the tokens of its tiles, each with the end of a line.

As VILA's ``generate_content`` and the processor of the checkpoints in Hugging Face's layout build it. Only the one
picture of a conversation is cut; of several, each is read as one view. A small model (Lite) reads every tile by itself.
A larger one reads a picture at several scales, merged patch by patch before the projector (dynamic S2): the tiles of
the last scale are nearest to the picture's shape, those before it are squares of 1, 4, ... tiles.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tokenizers

from tritonvision.pictures import size_of
from tritonvision.python_backend.generation.prompt import Prompt, Size, check, details
from tritonvision.python_backend.vlm import tiles
from tritonvision.python_backend.vlm.tokens import Part, Tokens
from tritonvision.tasks import HIGH, LOW, is_low

START, END, PICTURE = "<|im_start|>", "<|im_end|>", "<image>"
SYSTEM = "You are a helpful assistant"  # where the conversation begins with nothing of the kind
MOST = 12  # tiles of the last scale


class Reader:
    """See :class:`tritonvision.python_backend.generation.prompt.Reader`.

    Args:
        options: ``tile`` (pixels), ``patches`` (across a tile), ``shuffle`` (patches across a token), ``scales``,
            ``image_token``, ``end_ids``, ``context``.
        tokenizer: with Qwen2's special tokens and the picture's.
    """

    def __init__(self, options: Mapping[str, Any], tokenizer: tokenizers.Tokenizer):
        self.end_ids = tuple(options["end_ids"])
        self.context = options["context"]
        self._tile, self._patches, self._scales = options["tile"], options["patches"], options["scales"]
        self._across = -(-self._patches // options["shuffle"])  # tokens across a tile
        self._image_token = options["image_token"]
        self._tokens = Tokens(tokenizer, self.context)
        (self._line,) = self._tokens.read(["\n"]).tolist()

    def read(self, messages: Sequence[Mapping[str, Any]], sizes: Sequence[Size]) -> Prompt:
        """The prompt of a conversation with pictures of these ``sizes`` (height, width).

        Raises:
            InvalidParameter: see :func:`check`, or it is longer than the context.
        """
        check(messages, len(sizes))
        asked = details(messages)
        views = [LOW if len(sizes) > 1 or is_low(asked[0], size, self._tile) else HIGH for size in sizes]
        ids = self._tokens.read(self._conversation(messages, zip(sizes, views, strict=True)))
        return Prompt(ids, self._image_token, details=tuple(views))

    def vision_inputs(self, picture: np.ndarray, detail: str = HIGH) -> Mapping[str, np.ndarray]:
        """Of one picture, RGB uint8 ``[h,w,3]``: ``pixels`` uint8 ``[tiles,tile,tile,3]``.

        At several scales ``[1,tiles,tile,tile,3]``, all of them; ``places`` int64 ``[1,blocks,patches^2,4 x scales]``,
        which patches of the tiles are merged into which of the blocks; and ``order`` int64 ``[1,tokens]``, which of the
        blocks' tokens comes when.
        """
        grid = (1, 1) if is_low(detail, size_of(picture), self._tile) else self._grid(size_of(picture))
        if self._scales == 1:
            return {"pixels": tiles.cut(picture, self._tile, *grid)}
        squares = [(side, side) for side in range(1, self._scales)]
        shapes = [grid] if grid == (1, 1) else [*squares, grid]
        pixels = np.concatenate([tiles.stretched(picture, self._tile, *shape) for shape in shapes])
        places = _places(shapes, self._patches)
        if len(shapes) == 1:  # one view is that of every scale
            places = np.tile(places, self._scales)
        order = _numbers(*grid, self._across).reshape(-1)
        return {"pixels": pixels[None], "places": places[None], "order": order[None]}

    def _grid(self, size: Size) -> tuple[int, int]:
        """Rows and columns of tiles of the last scale: no fewer than a square of it would have."""
        return tiles.grid(*size, self._tile, self._scales**2, MOST)

    def _conversation(
        self, messages: Sequence[Mapping[str, Any]], pictures: Iterator[tuple[Size, str]]
    ) -> Iterator[Part]:
        special = self._tokens.special
        if messages[0]["role"] != "system":
            yield from (special(START), f"system\n{SYSTEM}", special(END), "\n")
        for message in messages:
            yield from (special(START), f"{message['role']}\n")
            for part in message["content"]:
                if part["type"] == "image":
                    yield from self._picture(*next(pictures))
                else:
                    yield part["text"]
            yield from (special(END), "\n")
        yield from (special(START), "assistant\n")

    def _picture(self, size: Size, view: str) -> Iterator[Part]:
        """Where the rows of ``image_embeds`` go, and the ends of lines that the author's encoder puts behind them."""
        rows, columns = (1, 1) if view == LOW else self._grid(size)
        tokens = [self._image_token] * self._across**2
        if self._scales > 1:
            yield from (*tokens * (rows * columns), self._line)
            return
        for _ in range(tiles.count(rows, columns)):
            yield from (*tokens, self._line)
            if view == HIGH:
                yield "\n"


def _places(shapes: Sequence[tuple[int, int]], patches: int) -> np.ndarray:
    """Which patches of all tiles are merged: int64 ``[blocks, patches^2, 4 x scales]``.

    Args:
        shapes: rows and columns of the tiles of each scale, whose tiles follow each other; the blocks are the tiles of
            the last one.
        patches: across a tile.

    Each patch of the last scale gets, of each scale, those that it lies over: one or two on an axis, where one counts
    twice. Their mean is what an interpolation by area gives.
    """
    rows, columns = shapes[-1]
    first, found = 0, []
    for shape in shapes:
        numbers = first * patches**2 + _numbers(*shape, patches)
        (top, bottom), (left, right) = (
            _under(count, size * patches) for count, size in zip(numbers.shape, (rows, columns), strict=True)
        )
        found += [_blocks(numbers[np.ix_(y, x)], patches) for y in (top, bottom) for x in (left, right)]
        first += shape[0] * shape[1]
    return np.stack(found, -1)


def _numbers(rows: int, columns: int, side: int) -> np.ndarray:
    """int64 ``[rows x side, columns x side]``: the cells of tiles that lie side by side, counted tile by tile."""
    numbers = np.arange(rows * columns * side * side).reshape(rows, columns, side, side)
    return numbers.swapaxes(1, 2).reshape(rows * side, columns * side)


def _blocks(grid: np.ndarray, side: int) -> np.ndarray:
    """``[rows x side, columns x side]`` to ``[rows x columns, side^2]``."""
    rows, columns = (length // side for length in grid.shape)
    return grid.reshape(rows, side, columns, side).swapaxes(1, 2).reshape(-1, side * side)


def _under(count: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """The first and the last of ``count`` cells that each of ``length`` equal parts of the same line lies over."""
    part = np.arange(length)
    return part * count // length, -(-(part + 1) * count // length) - 1
