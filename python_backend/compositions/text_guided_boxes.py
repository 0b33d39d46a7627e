"""Text-guided boxes: objects in a picture that match texts, by a detector that reads their embeddings (YOLO-World).

The texts guide the detector from its neck on, so nothing of a picture is kept; the embeddings of texts are. What the
detector finds is dense boxes, and is treated as such.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from tritonvision import tasks
from tritonvision.errors import InvalidParameter
from tritonvision.pictures import decode
from tritonvision.python_backend.images import resize
from tritonvision.python_backend.postprocess import dense_boxes
from tritonvision.python_backend.runtime.networks import Call
from tritonvision.python_backend.vocabulary.clip_tokenizer import Tokenizer
from tritonvision.python_backend.vocabulary.selection import class_names
from tritonvision.python_backend.vocabulary.text_encodings import TextEncodings

TASK = tasks.OPEN_VOCABULARY
TOKENIZER = "tokenizer.json"
CONTEXT = 77  # tokens of a text
MOST_CLASSES = 1000
IOU_THRESHOLD = 0.7  # of ultralytics' predict, where a request leaves it open: such a detector finds everything often
_FOUND = ("boxes", "scores", "class_ids")


class Composition:
    """Boxes of the classes that a request names.

    Args:
        call: runs the networks ``image`` and ``text``.
        options: ``height`` and ``width`` of the detector's pixels; ``assets`` with ``tokenizer.json``.
    """

    def __init__(self, call: Call, options: Mapping[str, Any]):
        cv2.setNumThreads(1)
        self._call = call
        self._size = int(options["height"]), int(options["width"])
        self._tokenizer = Tokenizer(options["assets"][TOKENIZER].decode(), CONTEXT)
        self._texts = TextEncodings(call)

    def answer(
        self, sample: Mapping[str, Any], parameters: Mapping[str, Any], wanted: set[str] | None = None
    ) -> dict[str, np.ndarray]:
        """The boxes of one picture that show one of the classes, best first.

        Args:
            sample: ``image``, an encoded picture or ``.npy`` bytes.
            parameters: settings of the task, resolved; without an ``iou_threshold`` it is 0.7.

        Returns:
            ``boxes`` float32 ``[n,4]`` corners in picture pixels, ``scores`` float32 ``[n]``, ``class_ids`` int32
            ``[n]``, ``image_size`` int32 ``[2]`` (height, width).

        Raises:
            InvalidParameter: no classes, too many, an empty or a too long one, or examples.
        """
        if parameters["example_boxes"] is not None:
            raise InvalidParameter("This model reads texts, not examples.", hint="Name the classes in 'texts'.")
        texts = class_names(parameters, MOST_CLASSES)
        queries = self._texts([self._tokens(index, text) for index, text in enumerate(texts)])
        picture = decode(sample["image"], parameters["auto_orient"])
        pixels, geometry = resize.letterbox(picture, *self._size)
        found = self._call("image", {"pixels": pixels[None], "queries": queries[None]}, _FOUND)
        settings = {**parameters, "max_candidates": len(found["scores"][0]), "classes": None}
        if settings["iou_threshold"] is None:
            settings["iou_threshold"] = IOU_THRESHOLD
        boxes = dense_boxes.post({name: found[name][0] for name in _FOUND}, geometry, settings)
        return boxes | {"image_size": np.array(picture.shape[:2], dtype=np.int32)}

    def _tokens(self, index: int, text: str) -> np.ndarray:
        """int64 ``[77]``: start, text, end, zeros. Raises InvalidParameter where it does not fit."""
        try:
            return self._tokenizer(text)
        except InvalidParameter as error:
            raise InvalidParameter(
                f"The text of class {index} is longer than {CONTEXT - 2} tokens, which is all that the model reads.",
                hint="Shorten it; a token is a short word or a part of a longer one.",
            ) from error
