"""Moondream2's prompt: ``<|endoftext|>``, 729 rows of the picture, and the tokens of one of its four skills.

A prompt is a question, or begins with the name of another skill: ``caption: short`` (or ``normal``, ``long``),
``detect: cat``, ``point: cat``. Places are no text: after such a prompt the network is asked for numbers instead of
words (:class:`Places`), and the answer is the JSON that the author's ``detect`` and ``point`` return.

A picture is read as a whole and in overlapping crops; what is seen in the crops is put together without their margins
and averaged to the same number of rows (``overlap_crop_image`` with Pillow, ``reconstruct_from_crops``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tokenizers
from PIL import Image

from tritonvision.errors import InvalidParameter
from tritonvision.python_backend.generation.prompt import HIGH, Prompt, Size, check

BEGIN, ANSWER, COORDINATE = 0, 3, 5  # ids of control tokens; the last one holds the place of a picture's rows
BINS = 1024  # of a coordinate, of a width, of a height
PLACES = 3 * BINS  # logits of a step behind those of the words: x or y, width, height
_MOST_OBJECTS = 50
_DIGITS = 4
_SKILLS = ("caption", "detect", "point")
TEMPLATES: Mapping[str, Any] = {
    "query": ([1, 15381, 2], [3]), "detect": ([1, 7235, 476, 2], [3]), "point": ([1, 2581, 2], [3]),
    "short": [1, 32708, 2, 12492, 3], "normal": [1, 32708, 2, 6382, 3], "long": [1, 32708, 2, 4059, 3],
}  # fmt: skip


class Reader:
    """See :class:`tritonvision.python_backend.generation.prompt.Reader`.

    Args:
        options: ``side``, ``patch`` (pixels), ``margin`` (patches), ``crops`` (at most), ``words`` (the vocabulary),
            ``end_ids``, ``context``; ``templates`` (JSON) where they are not the released ones.
        tokenizer: special tokens spelt in a prompt are tokenized as text.

    Attributes:
        words: how many of the decoder's logits are of words.
    """

    def __init__(self, options: Mapping[str, Any], tokenizer: tokenizers.Tokenizer):
        self.end_ids = tuple(options["end_ids"])
        self.context, self.words = options["context"], options["words"]
        self._side, self._patch, self._margin = options["side"], options["patch"], options["margin"]
        self._crops = options["crops"]
        self._templates = json.loads(options["templates"]) if "templates" in options else TEMPLATES
        self._texts = tokenizers.Tokenizer.from_str(tokenizer.to_str())
        self._texts.encode_special_tokens = True

    def read(self, messages: Sequence[Mapping[str, Any]], sizes: Sequence[Size]) -> Prompt:
        """The prompt about a picture of this size (height, width), or a question without one.

        Raises:
            InvalidParameter: it is a conversation, has several pictures, a skill lacks its picture or its object, or
                it is longer than the context.
        """
        check(messages, len(sizes))
        if len(messages) > 1 or len(sizes) > 1:
            raise InvalidParameter(
                "This model answers one prompt about one picture.",
                hint="Send one message of the user's: a picture, and a question or 'detect: cat'.",
            )
        text = "".join(part["text"] for part in messages[0]["content"] if part["type"] == "text")
        skill, about = skill_of(text)
        if not sizes and skill != "query":
            raise InvalidParameter(f"'{skill}' is about a picture.", hint="Send a picture with the prompt.")
        rows = (self._side // self._patch) ** 2 if sizes else 0
        input_ids = [BEGIN, *[COORDINATE] * rows, *self._tokens(skill, about)]
        if len(input_ids) >= self.context:
            raise InvalidParameter(
                f"The prompt is {len(input_ids)} tokens long, the model reads less than {self.context}.",
                hint="Shorten the prompt.",
            )
        speaker = Places(self.words, about, skill == "detect") if skill in ("detect", "point") else None
        return Prompt(
            np.array(input_ids, dtype=np.int64), COORDINATE, bidirectional=rows + 1 if rows else 0, speaker=speaker
        )

    def vision_inputs(self, picture: np.ndarray, detail: str = HIGH) -> Mapping[str, np.ndarray]:
        """Inputs of the vision network for one picture, RGB uint8 ``[h,w,3]``; there is one resolution.

        ``pixels`` uint8 ``[1,n,side,side,3]``: the whole picture, and its crops. ``places`` int64 ``[1,H,W]``: which
        patch of which crop each patch of the picture is. ``rows`` and ``columns`` float32 ``[1,g,H]`` and ``[1,g,W]``:
        how those are averaged to a grid of g.
        """
        grid = self._side // self._patch
        tiling = tiles_of(picture.shape[0], picture.shape[1], self._side, self._patch, self._margin, self._crops)
        places = stitched(tiling, grid, self._margin)
        rows, columns = (pooling(count, grid) for count in places.shape)
        pixels = crops(picture, tiling, self._side, self._patch * self._margin)
        return {"pixels": pixels[None], "places": places[None], "rows": rows[None], "columns": columns[None]}

    def _tokens(self, skill: str, about: str) -> list[int]:
        if skill == "caption":
            return list(self._templates[about])
        before, after = self._templates[skill]
        if skill == "query":  # the author's code puts the end of its template twice
            after = [*after, *after]
        else:
            about = f" {about}"
        return [*before, *self._texts.encode(about, add_special_tokens=False).ids, *after]


class Places:
    """Chooses numbers instead of words: one place after another, until there are no more.

    It stands for the sampler and for the text of an answer. Each step's logits are those of words, then BINS each of a
    coordinate, of a width and of a height. Where a place may begin, ``<|endoftext|>`` ends the answer. Otherwise the
    tokens of a place are words + x, words + y and, of a box, words + BINS + width * BINS + height.

    Args:
        words: the vocabulary.
        about: the object, in the prompt's words.
        sized: boxes rather than points.
    """

    stopped = False

    def __init__(self, words: int, about: str, sized: bool):
        self._words, self._about, self._sized = words, about, sized
        self._place: list[int] = []
        self._found: list[list[int]] = []

    def __call__(self, logits: np.ndarray) -> int:
        """The next token; the likeliest number, or BEGIN at the end."""
        numbers = logits[self._words :].reshape(3, BINS).argmax(1)
        if not self._place and (len(self._found) == _MOST_OBJECTS or logits[: self._words].argmax() == BEGIN):
            return BEGIN
        if len(self._place) < 2:
            return self._words + int(numbers[0])
        return self._words + BINS + int(numbers[1]) * BINS + int(numbers[2])

    def push(self, token: int) -> str:
        """Take a token; the text comes when the answer ends."""
        self._place.append(token - self._words)
        if len(self._place) == 2 + self._sized:
            self._found.append(self._place)
            self._place = []
        return ""

    def flush(self) -> str:
        """The places: JSON in the form of the author's ``detect`` and ``point``, with the object's name."""
        kind, of = ("objects", box) if self._sized else ("points", point)
        found = [{name: round(value, _DIGITS) for name, value in of(place).items()} for place in self._found]
        return json.dumps({"object": self._about, kind: found})


def skill_of(text: str) -> tuple[str, str]:
    """A prompt's skill, ``query``, ``caption``, ``detect`` or ``point``, and the text, length or object it is about.

    Raises:
        InvalidParameter: a caption of another length, or no object.
    """
    name, colon, about = text.partition(":")
    skill, about = name.strip().lower(), about.strip()
    if not colon or skill not in _SKILLS:
        return "query", text
    if skill == "caption":
        about = about.lower() or "normal"
        if about not in ("short", "normal", "long"):
            raise InvalidParameter(
                f"'{about[:40]}' is no length of a caption.", hint="Ask 'caption: short', 'normal' or 'long'."
            )
    elif not about:
        raise InvalidParameter(f"'{skill}:' names no object.", hint=f"Ask '{skill}: cat'.")
    return skill, about


def point(place: Sequence[int]) -> dict[str, float]:
    """``x`` and ``y`` of two bins, as fractions of the picture."""
    return {"x": place[0] / BINS, "y": place[1] / BINS}


def box(place: Sequence[int]) -> dict[str, float]:
    """The corners of two bins and the number of a size, as fractions of the picture; they may lie outside of it."""
    x, y = place[0] / BINS, place[1] / BINS
    width, height = (2.0 ** (bin / (BINS - 1) * 10 - 10) for bin in divmod(place[2] - BINS, BINS))
    return {"x_min": x - width / 2, "y_min": y - height / 2, "x_max": x + width / 2, "y_max": y + height / 2}


def tiles_of(height: int, width: int, side: int, patch: int, margin: int, most: int) -> tuple[int, int]:
    """Rows and columns of crops that a picture of that size is read in.

    Args:
        side: pixels of a crop.
        patch: pixels of a patch.
        margin: patches of a crop, on each edge, that belong to its neighbour.
        most: crops at most.
    """
    inner = side - 2 * patch * margin
    height, width = height - 2 * patch * margin, width - 2 * patch * margin
    if height <= inner or width <= inner:
        return 1, 1
    rows, columns = math.ceil(height / inner), math.ceil(width / inner)
    if rows * columns > most:
        shrink = math.sqrt(most / (rows * columns))
        return max(1, math.floor(rows * shrink)), max(1, math.floor(columns * shrink))
    rows = max(math.floor(math.sqrt(most * height / width)), rows)
    columns = max(math.floor(math.sqrt(most * width / height)), columns)
    if rows * columns > most:
        if columns > rows:
            columns = math.floor(most / rows)
        else:
            rows = math.floor(most / columns)
    return max(1, rows), max(1, columns)


def crops(picture: np.ndarray, tiling: tuple[int, int], side: int, margin: int) -> np.ndarray:
    """RGB uint8 ``[h,w,3]`` to uint8 ``[1 + rows x columns, side, side, 3]``: the whole first, then row by row.

    Args:
        margin: pixels on each edge that two neighbours have in common.
    """
    image, inner = Image.fromarray(picture), side - 2 * margin
    height, width = (count * inner + 2 * margin for count in tiling)
    large = np.asarray(image.resize((width, height), Image.Resampling.LANCZOS))
    whole = np.asarray(image.resize((side, side), Image.Resampling.LANCZOS))
    parts = [
        large[row * inner :, column * inner :][:side, :side] for row in range(tiling[0]) for column in range(tiling[1])
    ]
    return np.stack([whole, *parts])


def stitched(tiling: tuple[int, int], grid: int, margin: int) -> np.ndarray:
    """int64 ``[H,W]``: for each patch of the picture its number among all patches of the crops, crop by crop.

    A patch that two crops have is taken from the one in whose margin it is not; a margin on the picture's edge stays.
    """
    inner = grid - 2 * margin

    def along(count: int) -> tuple[np.ndarray, np.ndarray]:
        """The crop of each patch of one axis, and its place in the crop."""
        place = np.arange(count * inner + 2 * margin)
        crop = np.clip((place - margin) // inner, 0, count - 1)
        return crop, place - crop * inner

    (row, y), (column, x) = along(tiling[0]), along(tiling[1])
    crop = row[:, None] * tiling[1] + column
    return crop * grid**2 + y[:, None] * grid + x


def pooling(count: int, grid: int) -> np.ndarray:
    """float32 ``[grid, count]``: the matrix of adaptive average pooling of one axis."""
    matrix = np.zeros((grid, count), dtype=np.float32)
    for place in range(grid):
        begin, end = place * count // grid, -(-(place + 1) * count // grid)
        matrix[place, begin:end] = 1 / (end - begin)
    return matrix
