"""The text of a page: a detector finds the words, a recogniser reads them, their geometry gives the lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tritonvision import tasks
from tritonvision.pictures import decode, size_of
from tritonvision.python_backend.ocr import ctc, page_layout, text_pixels, text_regions
from tritonvision.python_backend.ocr.page_layout import Word
from tritonvision.python_backend.runtime.networks import Call

TASK = tasks.STRUCTURED_OCR
VOCABULARY = "vocabulary.txt"  # the recogniser's characters in their order; the blank comes after them
_MOST = 8  # pieces of words in one batch of the recogniser


class Composition:
    """Words, lines and block of one picture.

    Args:
        call: runs the networks ``detector`` and ``recogniser``.
        options: ``page`` and ``word``, (height, width) of what the networks read, and the assets.
    """

    def __init__(self, call: Call, options: Mapping[str, Any]):
        self._call = call
        (page_height, page_width), (word_height, word_width) = options["page"], options["word"]
        self._page, self._word = (page_height, page_width), (word_height, word_width)
        self._vocabulary = options["assets"][VOCABULARY].decode()

    def answer(
        self, sample: Mapping[str, Any], parameters: Mapping[str, Any], wanted: set[str] | None = None
    ) -> dict[str, np.ndarray]:
        """The tensors of :func:`page_layout.page` and ``image_size`` int32 ``[2]`` (height, width).

        Args:
            sample: ``image``, an encoded picture or ``.npy`` bytes.
            parameters: settings of the task, resolved.
        """
        picture = decode(sample["image"], parameters["auto_orient"])
        shape = size_of(picture)
        pixels = text_pixels.fit(picture, *self._page, centred=True)
        found = self._call("detector", {"pixels": pixels[None]}, ["probabilities"])
        boxes = text_regions.unpadded(text_regions.find(found["probabilities"][0]), *shape)
        crops, kept = text_pixels.crops(picture, boxes)
        words = [
            Word(*read, tuple(box)) for read, box in zip(self._read(crops), boxes[kept].tolist(), strict=True)
        ]  # fmt: skip
        return {**page_layout.page(words, shape), "image_size": np.array(shape, np.int32)}

    def _read(self, crops: Sequence[np.ndarray]) -> list[tuple[str, float]]:
        """Text and confidence of each word; of one in pieces their mean."""
        words = [text_pixels.split(crop) for crop in crops]
        pieces = [text_pixels.fit(piece, *self._word, centred=False) for word in words for piece in word.pictures]
        read: list[tuple[str, float]] = []
        for start in range(0, len(pieces), _MOST):
            pixels = np.stack(pieces[start : start + _MOST])
            logits = self._call("recogniser", {"pixels": pixels}, ["logits"])["logits"]
            read.extend(ctc.decode(sample, self._vocabulary) for sample in logits)
        found, remaining = [], iter(read)
        for word in words:
            texts, confidences = zip(*(next(remaining) for _ in word.pictures), strict=True)
            text = ctc.join(texts, text_pixels.OVERLAP, word.overlap)
            found.append((text, sum(confidences) / len(confidences)))
        return found
