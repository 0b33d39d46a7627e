"""The text of a page whose detector draws regions: CRAFT finds them, they are joined to lines, a recogniser reads each.

Steps are those of easyocr 1.7.2: ``Reader.readtext`` with its default options.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from tritonvision import tasks
from tritonvision.pictures import decode, size_of
from tritonvision.python_backend.ocr import craft_boxes, craft_lines, ctc, grey_lines
from tritonvision.python_backend.ocr.grey_lines import Line
from tritonvision.python_backend.ocr.page_layout import LINE
from tritonvision.python_backend.runtime.networks import Call

TASK = tasks.STRUCTURED_OCR
# JSON: the recogniser's ``characters`` in their order, a string, before which the blank comes; ``ignored`` of them.
CHARACTERS = "characters.json"
_UNSURE = 0.1  # confidence below which a line is read again with more contrast
_MOST = 8  # lines of one width in one batch of the recogniser


class Composition:
    """Lines of one picture.

    Args:
        call: runs the networks ``detector`` and ``recogniser``.
        options: ``longest``, pixels of the longest side that the detector sees, and the assets.
    """

    def __init__(self, call: Call, options: Mapping[str, Any]):
        self._call = call
        self._longest = int(options["longest"])
        found = json.loads(options["assets"][CHARACTERS])
        self._characters = found["characters"]
        self._allowed = np.ones(len(self._characters) + 1, dtype=bool)
        for character in found["ignored"]:  # of a character that stands there twice the first
            self._allowed[self._characters.index(character) + 1] = False

    def answer(
        self, sample: Mapping[str, Any], parameters: Mapping[str, Any], wanted: set[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Lines in easyocr's order: the level ones row by row, then the turned ones.

        Args:
            sample: ``image``, an encoded picture or ``.npy`` bytes.
            parameters: settings of the task, resolved.

        Returns:
            ``polygons`` float32 ``[n, 4, 2]`` corners in pixels, clockwise from the upper left of the text; ``boxes``
            float32 ``[n, 4]`` around them; ``scores`` float32 ``[n]``; ``class_ids`` int32 ``[n]``, all lines;
            ``texts`` bytes ``[n]``; ``parents`` int32 ``[n]``, all -1; ``text`` bytes ``[1]``, a line each; and
            ``image_size`` int32 ``[2]`` (height, width).
        """
        picture = decode(sample["image"], parameters["auto_orient"])
        pixels, factor = craft_boxes.fit(picture, self._longest)
        maps = self._call("detector", {"pixels": pixels[None]}, ["maps"])["maps"][0]
        level, turned = craft_lines.group(craft_boxes.find(maps, factor))
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        cut = [grey_lines.upright(grey, box) for box in level] + [grey_lines.turned(grey, quad) for quad in turned]
        lines = [line for line in cut if line is not None]
        return _answer(lines, self._read_twice(lines), size_of(picture))

    def _read_twice(self, lines: Sequence[Line]) -> list[tuple[str, float]]:
        """Text and confidence of each line; of one that is unsure the surer reading of two."""
        found = self._read([line.pixels for line in lines], [line.width for line in lines])
        unsure = [i for i, (_, confidence) in enumerate(found) if confidence < _UNSURE]
        again = self._read([grey_lines.stretched(lines[i].pixels) for i in unsure], [lines[i].width for i in unsure])
        for i, second in zip(unsure, again, strict=True):
            if second[1] >= found[i][1]:
                found[i] = second
        return found

    def _read(self, pictures: Sequence[np.ndarray], widths: Sequence[int]) -> list[tuple[str, float]]:
        """Each at its own width, those of one width together: padding changes what is read."""
        found: dict[int, tuple[str, float]] = {}
        for width in sorted(set(widths)):
            same = [i for i, each in enumerate(widths) if each == width]
            for start in range(0, len(same), _MOST):
                batch = same[start : start + _MOST]
                pixels = np.stack([grey_lines.padded(pictures[i], width) for i in batch])
                logits = self._call("recogniser", {"pixels": pixels}, ["logits"])["logits"]
                for i, steps in zip(batch, logits, strict=True):
                    found[i] = ctc.decode_allowed(steps, self._characters, self._allowed)
        return [found[i] for i in range(len(pictures))]


def _answer(
    lines: Sequence[Line], read: Sequence[tuple[str, float]], shape: tuple[int, int]
) -> dict[str, np.ndarray]:  # fmt: skip
    polygons = np.array([line.corners for line in lines], np.float32).reshape(-1, 4, 2)
    texts = [text for text, _ in read]
    return {
        "boxes": np.concatenate([polygons.min(axis=1), polygons.max(axis=1)], axis=1),
        "polygons": polygons,
        "scores": np.array([confidence for _, confidence in read], np.float32),
        "class_ids": np.full(len(lines), LINE, np.int32),
        "texts": np.array([text.encode() for text in texts], object),
        "parents": np.full(len(lines), -1, np.int32),
        "text": np.array(["\n".join(texts).encode()], object),
        "image_size": np.array(shape, np.int32),
    }
