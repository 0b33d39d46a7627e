"""The text of a page: a detector finds the words, a recogniser reads them, their geometry gives the lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tritonvision import tasks
from tritonvision.pictures import decode, size_of
from tritonvision.python_backend.ocr import ctc, page_layout, page_turning, text_pixels, text_regions
from tritonvision.python_backend.ocr.page_layout import Word
from tritonvision.python_backend.runtime.networks import Call

TASK = tasks.STRUCTURED_OCR
VOCABULARY = "vocabulary.txt"  # the recogniser's characters in their order; the blank or the end comes after them
CROP, PAGE = "crop-orientation", "page-orientation"  # roles of the networks that tell which side is up
SIDES = {CROP: (256, 256), PAGE: (512, 512)}  # height, width of what they read
_MOST = 8  # pieces of words in one batch of the recogniser


class Composition:
    """Words, lines and blocks of one picture.

    Args:
        call: runs the networks ``detector`` and ``recogniser``, and ``crop-orientation`` and ``page-orientation`` where
            the options ask for them.
        options: ``page`` and ``word``, (height, width) of what the networks read, and the assets. What may be absent:
            ``decoding``, a key of :data:`ctc.DECODERS`; ``turned``, words may stand at any angle; ``blocks``, lines are
            divided into blocks; ``orientation``, the angle of the page is told; ``straighten``, it is put straight.
    """

    def __init__(self, call: Call, options: Mapping[str, Any]):
        self._call = call
        (page_height, page_width), (word_height, word_width) = options["page"], options["word"]
        self._page, self._word = (page_height, page_width), (word_height, word_width)
        self._vocabulary = options["assets"][VOCABULARY].decode()
        self._decode = ctc.DECODERS[options.get("decoding", "ctc")]
        self._turned, self._blocks, self._orientation, self._straighten = (
            bool(options.get(name)) for name in ("turned", "blocks", "orientation", "straighten")
        )

    def answer(
        self, sample: Mapping[str, Any], parameters: Mapping[str, Any], wanted: set[str] | None = None
    ) -> dict[str, np.ndarray]:
        """The tensors of :func:`page_layout.page` and ``image_size`` int32 ``[2]`` (height, width); where the angle is
        told ``orientation`` int32 ``[1]``, degrees by which the page has to be turned counter-clockwise.

        Args:
            sample: ``image``, an encoded picture or ``.npy`` bytes.
            parameters: settings of the task, resolved.
        """
        picture = decode(sample["image"], parameters["auto_orient"])
        shape = size_of(picture)
        probabilities = self._probabilities(picture)
        found: dict[str, np.ndarray] = {"image_size": np.array(shape, np.int32)}
        if self._turned:
            found["polygons"] = np.zeros((0, 4, 2), np.float32)  # where there is no word
        angle = 0
        if self._orientation or self._straighten:
            angle = page_turning.angle_of(probabilities, page_turning.TURNS[self._upside(PAGE, [picture])[0]])
        if self._orientation:
            found["orientation"] = np.array([angle], np.int32)
        if not self._straighten:
            return found | page_layout.page(self._words(picture, probabilities), shape, self._blocks)
        straight = page_turning.straightened(picture, angle)
        words = self._words(straight.picture, self._probabilities(straight.picture))
        return found | page_layout.page(words, shape, self._blocks, size_of(straight.picture), straight.back)

    def _probabilities(self, picture: np.ndarray) -> np.ndarray:
        pixels = text_pixels.fit(picture, *self._page, centred=True)
        return self._call("detector", {"pixels": pixels[None]}, ["probabilities"])["probabilities"][0]

    def _words(self, picture: np.ndarray, probabilities: np.ndarray) -> list[Word]:
        """The words of a picture, in the order of their regions."""
        find = text_regions.find_turned if self._turned else text_regions.find
        boxes = text_regions.unpadded(find(probabilities), *size_of(picture))
        crops, kept = (text_pixels.turned_crops if self._turned else text_pixels.crops)(picture, boxes)
        boxes = boxes[kept]
        if self._turned:
            turns = self._upside(CROP, crops)
            crops = [np.rot90(crop, -turn) for crop, turn in zip(crops, turns, strict=True)]
            boxes = np.array([np.roll(box, turn, axis=0) for box, turn in zip(boxes, turns, strict=True)])
        return [Word(*read, box) for read, box in zip(self._read(crops), boxes, strict=True)]

    def _upside(self, role: str, pictures: Sequence[np.ndarray]) -> list[int]:
        """How many quarters each is turned clockwise, 0 to 3."""
        pixels = [text_pixels.fit(picture, *SIDES[role], centred=True) for picture in pictures]
        found: list[int] = []
        for start in range(0, len(pixels), _MOST):
            logits = self._call(role, {"pixels": np.stack(pixels[start : start + _MOST])}, ["logits"])["logits"]
            found.extend(logits.argmax(axis=1).tolist())
        return found

    def _read(self, crops: Sequence[np.ndarray]) -> list[tuple[str, float]]:
        """Text and confidence of each word; of one in pieces their mean."""
        words = [text_pixels.split(crop) for crop in crops]
        pieces = [text_pixels.fit(piece, *self._word, centred=False) for word in words for piece in word.pictures]
        read: list[tuple[str, float]] = []
        for start in range(0, len(pieces), _MOST):
            pixels = np.stack(pieces[start : start + _MOST])
            logits = self._call("recogniser", {"pixels": pixels}, ["logits"])["logits"]
            read.extend(self._decode(sample, self._vocabulary) for sample in logits)
        found, remaining = [], iter(read)
        for word in words:
            texts, confidences = zip(*(next(remaining) for _ in word.pictures), strict=True)
            text = ctc.join(texts, text_pixels.OVERLAP, word.overlap)
            found.append((text, sum(confidences) / len(confidences)))
        return found
