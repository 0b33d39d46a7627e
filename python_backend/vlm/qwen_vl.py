"""The prompts of Qwen2.5-VL, Qwen3-VL and Cosmos-Reason1: ChatML, pictures of any size, positions of three axes.

A picture is resized to whole *units* of ``merge`` x ``merge`` patches, as many as the bounds in pixels allow, and cut
into patches; each unit becomes one token. That is ``Qwen2VLImageProcessorPil`` of transformers 5.23 to the bit. What
the library computes of a picture's grid inside its network is computed here, so the graph holds arithmetic only:
where patches lie, how they share windows (Qwen2.5-VL), between which learned positions they lie (Qwen3-VL).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tokenizers
from PIL import Image

from tritonvision.errors import InvalidParameter
from tritonvision.grounding.smart_resize import read_size
from tritonvision.pictures import size_of
from tritonvision.python_backend.generation.prompt import Prompt, Size, check, details
from tritonvision.python_backend.vlm.tokens import Part, Tokens
from tritonvision.tasks import HIGH

START, END, TEXT_END = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
SEEN_START, SEEN_END, PICTURE = "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"
DEEP = "deepstack.{}.embeds"  # the further inputs of a decoder with a deep stack, and the vision network's outputs

Grid = tuple[int, int]


class Reader:
    """See :class:`tritonvision.python_backend.generation.prompt.Reader`.

    Args:
        options: ``patch`` (pixels), ``merge`` (patches), ``window`` (units, 0 for none), ``table`` (side of the grid of
            learned positions, 0 for none), ``deep`` (how many further inputs the decoder has), ``min_pixels``,
            ``max_pixels``, ``image_token``, ``end_ids``, ``context``, ``system`` (the message of a conversation
            without one, empty for none), ``only_users_show`` (whether pictures stand in the user's messages alone, and
            a system message at the beginning).
        tokenizer: with the special tokens. Those spelt in callers' texts are tokenized as text.
    """

    def __init__(self, options: Mapping[str, Any], tokenizer: tokenizers.Tokenizer):
        self.end_ids = tuple(options["end_ids"])
        self.context = options["context"]
        self._options, self._image_token = options, options["image_token"]
        self._unit = options["patch"] * options["merge"]
        self._tokens = Tokens(tokenizer, self.context)
        deep = (DEEP.format(n) for n in range(options["deep"]))
        self._injections = {"inputs_embeds": "image_embeds"} | {name: name for name in deep}

    def read(self, messages: Sequence[Mapping[str, Any]], sizes: Sequence[Size]) -> Prompt:
        """The prompt of a conversation with pictures of these ``sizes`` (height, width).

        Raises:
            InvalidParameter: an unknown role, nobody asks anything, parts and pictures do not match, a message or a
                picture has no place in the template, a picture is too narrow, or it is longer than the context.
        """
        check(messages, len(sizes))
        if self._options["only_users_show"]:
            _check_places(messages)
        grids = [self._grid(size, detail) for size, detail in zip(sizes, details(messages), strict=True)]
        input_ids = self._tokens.read(self._conversation(messages, iter(grids)))
        return Prompt(input_ids, self._image_token, positions(input_ids, self._image_token, grids), self._injections)

    def vision_inputs(self, picture: np.ndarray, detail: str = HIGH) -> Mapping[str, np.ndarray]:
        """Inputs of the vision network for one picture, RGB uint8 ``[h,w,3]``, in a batch of one.

        Of U units with M patches of P numbers each: ``pixels`` uint8 ``[1,U*M,P]`` and ``position_ids`` int64
        ``[1,U*M,2]`` (row and column), unit by unit; with learned positions ``table_ids`` int64 and ``table_weights``
        float32 ``[1,U*M,4]``. Where patches share windows, see :func:`in_windows` instead.
        """
        tall, wide = self._size(size_of(picture), detail)
        image = np.asarray(Image.fromarray(picture).resize((wide, tall), Image.Resampling.BICUBIC))
        return vision_inputs(image, self._options)

    def _size(self, size: Size, detail: str) -> Size:
        """(height, width) that a picture is resized to."""
        return read_size(size, (self._unit, self._options["min_pixels"], self._options["max_pixels"]), detail)

    def _grid(self, size: Size, detail: str) -> Grid:
        """Rows and columns of units."""
        tall, wide = self._size(size, detail)
        return tall // self._unit, wide // self._unit

    def _conversation(self, messages: Sequence[Mapping[str, Any]], grids: Iterator[Grid]) -> Iterator[Part]:
        """Texts and special tokens, as the chat template puts them."""
        special = self._tokens.special
        if self._options["system"] and messages[0]["role"] != "system":
            yield from self._message("system", [self._options["system"]])
        for message in messages:
            parts: list[Part] = []
            for part in message["content"]:
                if part["type"] == "image":
                    rows, columns = next(grids)
                    tokens = [self._image_token] * (rows * columns)
                    parts += [special(SEEN_START), *tokens, special(SEEN_END)]
                else:
                    parts.append(part["text"])
            yield from self._message(message["role"], parts)
        yield special(START)
        yield "assistant\n"

    def _message(self, role: str, parts: Sequence[Part]) -> Iterator[Part]:
        yield self._tokens.special(START)
        yield f"{role}\n"
        yield from parts
        yield self._tokens.special(END)
        yield "\n"


def _check_places(messages: Sequence[Mapping[str, Any]]) -> None:
    """Raise InvalidParameter for what the template of Qwen3-VL would leave out without a word."""
    for number, message in enumerate(messages):
        if message["role"] == "system" and number:
            raise InvalidParameter(
                "This model reads a system message at the beginning of a conversation only.",
                hint="Put it first, or say it as the user.",
            )
        if message["role"] != "user" and any(part["type"] == "image" for part in message["content"]):
            raise InvalidParameter(
                "This model reads pictures in the messages of the user only.", hint="Move the picture there."
            )


def positions(input_ids: np.ndarray, image_token: int, grids: Sequence[Grid]) -> np.ndarray | None:
    """M-RoPE: int64 ``[3,S]``, time, height and width of each token; None of a text, whose axes all count from 0.

    The tokens of a picture share one time and have the rows and columns of its ``grids`` (units); the text behind it
    goes on after the largest of these.
    """
    if not grids:
        return None
    found = np.empty((3, len(input_ids)), dtype=np.int64)
    pictures = input_ids == image_token
    begin = at = 0
    for rows, columns in grids:
        first = begin + int(pictures[begin:].argmax())
        found[:, begin:first] = at + np.arange(first - begin)
        at += first - begin
        begin = first + rows * columns
        found[0, first:begin] = at
        found[1:, first:begin] = at + np.indices((rows, columns)).reshape(2, -1)
        at += max(rows, columns)
    found[:, begin:] = at + np.arange(len(input_ids) - begin)
    return found


def vision_inputs(image: np.ndarray, options: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """See :meth:`Reader.vision_inputs`: of a picture uint8 ``[h,w,3]`` of whole units.

    Args:
        options: ``patch``, ``merge``, ``window`` and ``table`` of :class:`Reader`.
    """
    patch, merge = options["patch"], options["merge"]
    rows, columns = image.shape[0] // patch, image.shape[1] // patch
    pixels = image.reshape(rows, patch, columns, patch, 3).swapaxes(1, 2).reshape(rows, columns, -1)
    places = np.indices((rows, columns)).transpose(1, 2, 0)
    if options["window"]:
        return in_windows(by_unit(pixels, merge), by_unit(places, merge), options["window"])
    inputs = {"pixels": pixels, "position_ids": places}
    if options["table"]:
        inputs["table_ids"], inputs["table_weights"] = between(rows, columns, options["table"])
    return {name: by_unit(values, merge).reshape(1, rows * columns, -1) for name, values in inputs.items()}


def by_unit(values: np.ndarray, merge: int) -> np.ndarray:
    """``[rows,columns,n]`` of patches to ``[rows/merge, columns/merge, merge*merge, n]``, unit by unit."""
    rows, columns, count = values.shape
    units = values.reshape(rows // merge, merge, columns // merge, merge, count).swapaxes(1, 2)
    return units.reshape(rows // merge, columns // merge, merge * merge, count)


def in_windows(pixels: np.ndarray, places: np.ndarray, window: int) -> dict[str, np.ndarray]:
    """Units in windows of ``window`` x ``window``, those at the right and lower edge filled up.

    Args:
        pixels, places: ``[rows,columns,M,n]``, see :func:`by_unit`.

    Returns:
        ``pixels`` uint8 ``[1,W,L,P]`` and ``position_ids`` int64 ``[1,W,L,2]`` of W windows of L patches, -1 where a
        window is filled up; ``order`` int64 ``[1,U]``: where the units of the picture are among all W * window**2.
    """
    rows, columns = pixels.shape[:2]
    order = np.arange(rows * columns).reshape(rows, columns, 1, 1)
    filled = [_windows(pixels, window, 0), _windows(places, window, -1), _windows(order, window, -1)]
    count, numbers = len(filled[0]), filled[2].ravel()
    found = np.flatnonzero(numbers >= 0)
    return {
        "pixels": filled[0].reshape(1, count, -1, pixels.shape[-1]),
        "position_ids": filled[1].reshape(1, count, -1, 2),
        "order": found[numbers[found].argsort()][None],
    }


def _windows(units: np.ndarray, window: int, fill: int) -> np.ndarray:
    """``[rows,columns,M,n]`` to ``[W,window*window,M,n]``."""
    rows, columns, *rest = units.shape
    padding = [(0, -rows % window), (0, -columns % window), (0, 0), (0, 0)]
    padded = np.pad(units, padding, constant_values=fill)
    across = padded.shape[1] // window
    return padded.reshape(-1, window, across, window, *rest).swapaxes(1, 2).reshape(-1, window * window, *rest)


def between(rows: int, columns: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """The four learned positions of a ``side`` x ``side`` grid around each patch of a grid stretched over it, corners
    on corners: ids int64 and weights float32, both ``[rows,columns,4]``.
    """
    (top, down), (left, right) = (_taps(count, side) for count in (rows, columns))
    ids = top[:, None, :, None] * side + left[None, :, None, :]
    weights = down[:, None, :, None] * right[None, :, None, :]
    return ids.reshape(rows, columns, 4), weights.reshape(rows, columns, 4)


def _taps(count: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """The two neighbours of each of ``count`` places on an axis of ``side``, int64, and their weights, float32."""
    exact = np.arange(count, dtype=np.float32) * np.float32(side - 1) / np.float32(max(count - 1, 1))
    low = np.floor(exact)
    share = exact - low
    ids = np.minimum(low.astype(np.int64)[:, None] + np.arange(2), side - 1)
    return ids, np.stack([1 - share, 1 - np.abs(share - 1)], axis=1)
