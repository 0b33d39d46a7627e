"""Phrase grounding: boxes of the classes that a request names, by a network that reads picture and text together."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import tokenizers

from tritonvision import tasks
from tritonvision.errors import InvalidParameter
from tritonvision.pictures import decode
from tritonvision.python_backend.images import resize
from tritonvision.python_backend.runtime.networks import Call
from tritonvision.python_backend.vocabulary import selection
from tritonvision.python_backend.vocabulary.clip_tokenizer import LONGEST

TASK = tasks.OPEN_VOCABULARY
START, END, DOT, QUESTION = 101, 102, 1012, 1029  # [CLS], [SEP], "." and "?" in BERT's vocabulary: they part phrases
MOST_TOKENS = 256  # of a caption, start and end included
_MOST_CLASSES = (MOST_TOKENS - 2) // 2  # each is a token and a dot at least
_LEAST_SIDE = 224  # pixels: below there may be fewer places in the picture than the network has queries
_KEPT = 64  # captions


@dataclass(frozen=True)
class Caption:
    """Classes as the network reads them.

    Attributes:
        ids: int64 ``[T]``, start, the classes with a dot behind each, end.
        mask: uint8 ``[T,T]``, 1 where tokens see each other.
        positions: int64 ``[T]``, of each token in its phrase.
        spans: where the words of each class are among the tokens.
    """

    ids: np.ndarray
    mask: np.ndarray
    positions: np.ndarray
    spans: tuple[np.ndarray, ...]


class Composition:
    """Boxes of the named classes in one picture.

    Of the texts only tokens and masks are cached, by list of texts: the network fuses words and picture from its first
    layers on, so no embedding depends on a text alone.

    Args:
        call: runs the network, role ``""``.
        options: ``shortest`` and ``longest``, pixels that the sides of a picture get, and ``assets`` with the BERT
            vocabulary, ``tokenizer.json``.
    """

    def __init__(self, call: Call, options: Mapping[str, Any]):
        cv2.setNumThreads(1)
        self._call = call
        self._sides = int(options["shortest"]), int(options["longest"])
        self._tokenizer = tokenizers.Tokenizer.from_str(options["assets"]["tokenizer.json"].decode())
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._captions: OrderedDict[tuple[str, ...], Caption] = OrderedDict()

    def answer(
        self, sample: Mapping[str, Any], parameters: Mapping[str, Any], wanted: set[str] | None = None
    ) -> dict[str, np.ndarray]:
        """The boxes of one picture that show one of the classes, best first.

        A class scores in a box what its best token scores there, so class ids count the caller's texts also where two
        are equal (the first wins) or one contains another. A class needs a token over ``text_threshold`` (None: as
        ``confidence``) in a box, and a box without such a class is dropped.

        Args:
            sample: ``image``, an encoded picture or ``.npy`` bytes.
            parameters: settings of the task, resolved.

        Returns:
            ``boxes`` float32 ``[n,4]`` corners in picture pixels, ``scores`` float32 ``[n]``, ``class_ids`` int32
            ``[n]``, ``image_size`` int32 ``[2]`` (height, width).

        Raises:
            InvalidParameter: no classes, too many, an empty one, or examples, which the network cannot read.
        """
        if parameters["example_boxes"] is not None:
            raise InvalidParameter("This model reads texts, not examples.", hint="Name the classes in 'texts'.")
        caption = self._caption(selection.class_names(parameters, _MOST_CLASSES))
        picture = decode(sample["image"], parameters["auto_orient"])
        pixels, valid_size = framed(resize.shortest(picture, *self._sides)[0])
        inputs = {
            "pixels": pixels[None], "valid_size": np.array([valid_size], dtype=np.int32),
            "input_ids": caption.ids[None], "text_token_mask": caption.mask[None],
            "position_ids": caption.positions[None],
        }  # fmt: skip
        found = self._call("", inputs, ["boxes", "token_scores"])
        tokens = found["token_scores"][0]
        scores = np.stack([tokens[:, span].max(1) for span in caption.spans], axis=1)
        text_threshold = parameters["text_threshold"]
        if text_threshold is not None:
            scores[scores <= np.float32(text_threshold)] = -1
        height, width = picture.shape[:2]
        boxes = found["boxes"][0] * np.array([width, height] * 2, dtype=np.float32)
        return selection.select(boxes, scores, (height, width), parameters)

    def _caption(self, texts: Sequence[str]) -> Caption:
        """Of the last few lists of texts they are kept."""
        key = tuple(texts)
        if key not in self._captions:
            self._captions[key] = caption(self._tokenizer, texts)
            if len(self._captions) > _KEPT:
                self._captions.popitem(last=False)
        self._captions.move_to_end(key)
        return self._captions[key]


def caption(tokenizer: tokenizers.Tokenizer, texts: Sequence[str]) -> Caption:
    """The classes ``texts`` as one caption, "a cat. a dog.", as transformers' GroundingDinoProcessor joins them.

    Raises:
        InvalidParameter: more than 256 tokens, or a class without a word. Nothing is truncated: that would silently
            drop the classes at the end.
    """
    if sum(map(len, texts)) > LONGEST:
        raise _too_long()
    ids, spans = [START], []
    for index, text in enumerate(texts):
        piece = tokenizer.encode(text.strip().lower().rstrip(". "), add_special_tokens=False).ids
        words = np.flatnonzero(~np.isin(piece, (START, END, DOT, QUESTION)))
        if not len(words):
            raise InvalidParameter(f"The text of class {index} has no word in it.", hint="Say what to look for.")
        spans.append(len(ids) + words)
        ids += [*piece, DOT]
    ids.append(END)
    if len(ids) > MOST_TOKENS:
        raise _too_long()
    mask, positions = phrases(ids)
    return Caption(np.array(ids, dtype=np.int64), mask.astype(np.uint8), positions, tuple(spans))


def _too_long() -> InvalidParameter:
    return InvalidParameter(
        f"The classes are longer than {MOST_TOKENS} tokens together, which is all that the model reads.",
        hint="Ask for some of them at a time; a token is a short word or a part of a longer one.",
    )


def phrases(ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Which tokens see each other, bool ``[T,T]``, and their positions, int64 ``[T]``, as transformers'
    ``generate_masks_with_special_tokens_and_transfer_map`` has them.

    A special token closes the phrase before it and is its last token. The first and the last token of all close no
    phrase, and tokens after the last special token are in none: each of these attends to itself only, at position 0.
    """
    mask, positions = np.eye(len(ids), dtype=bool), np.zeros(len(ids), dtype=np.int64)
    start = 0
    for end in np.flatnonzero(np.isin(ids, (START, END, DOT, QUESTION))):
        if 0 < end < len(ids) - 1:
            mask[start : end + 1, start : end + 1] = True
            positions[start : end + 1] = np.arange(end + 1 - start)
        start = end + 1
    return mask, positions


def framed(pixels: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
    """Pixels uint8 ``[H,W,3]`` of at least 224 a side, and the (height, width) of what is the picture.

    A strip gets a black rest below or at the right, which the network masks like that of a batch of unequal pictures.
    """
    height, width = pixels.shape[:2]
    rest = max(_LEAST_SIDE - height, 0), max(_LEAST_SIDE - width, 0)
    return np.pad(pixels, ((0, rest[0]), (0, rest[1]), (0, 0))), (height, width)
