"""Promptable masks: a picture is encoded once for all processes of a server, then a prompt runs only the decoder.

Prompts are points on and off the object, a box, and the logits of an earlier answer. The arithmetic around the networks
is that of transformers' ``SamProcessor`` or, where the frame is filled, of its ``Sam2Processor``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from tritonvision import tasks
from tritonvision.errors import InvalidParameter
from tritonvision.pictures import MAX_PIXELS, decode
from tritonvision.python_backend.images import resize
from tritonvision.python_backend.masks import run_lengths
from tritonvision.python_backend.masks.low_resolution import Enlargement
from tritonvision.python_backend.runtime import encoding_cache
from tritonvision.python_backend.runtime.networks import Call

TASK = tasks.PROMPTABLE
_MOST_POINTS = 256  # each is one more token that attends to the whole picture, or one more prompt
POINTS = 1, 2, _MOST_POINTS + 2  # least, usual and most points that the network reads; a box is two more
AT_ONCE = 8  # prompts: the largest batch of a network
_ANSWERS = {"masks", "scores", "low_res_masks"}
_SHRINK = 4  # the masks that the decoder gives and takes are so much smaller than the encoder's frame
_LABELS = (-1, 0, 1, 2, 3)  # no point, off the object, on it, upper left and lower right corner of a box


class Composition:
    """Masks of the objects that prompts select.

    Args:
        call: runs the networks ``encoder`` and ``decoder``.
        options: ``side``, pixels of the encoder's square frame; ``model``, which tells the encodings of one network
            from those of another; and of SAM2 ``filled``: see :class:`Filled`.
        cache: of encodings; by default the server's.
    """

    def __init__(self, call: Call, options: Mapping[str, Any], cache: encoding_cache.SharedCache | None = None):
        cv2.setNumThreads(1)
        self._call = call
        self._side = int(options["side"])
        self._model = str(options.get("model", ""))
        self._cache = cache or encoding_cache.of_server("encodings")
        self._filled = Filled(**options["filled"]) if options.get("filled") else None
        self._features = ("embeddings", *(self._filled.levels if self._filled else ()))

    def answer(
        self, sample: Mapping[str, Any], parameters: Mapping[str, Any], wanted: set[str] | None = None
    ) -> dict[str, np.ndarray]:
        """The masks of one prompt, or with ``each_point`` of one prompt a point, one after another.

        Args:
            sample: ``image``, an encoded picture or ``.npy`` bytes, or instead of it ``embeddings`` float32
                ``[256,64,64]`` of one (with its finer levels, where the network has them) and the setting
                ``image_size``; ``mask_input`` float32 ``[256,256]``, one of the ``low_res_masks`` of an earlier answer.
            parameters: settings of the task, resolved. Coordinates are pixels of the (oriented) picture.
            wanted: names of outputs; the decoder does not run when only ``embeddings`` are.

        Returns:
            ``masks`` objects ``[k]`` of bytes (none when ``mask_format`` is), ``scores`` float32 ``[k]``, the IoU that
            the network expects of each, ``low_res_masks`` float32 ``[k,256,256]`` logits, ``image_size`` int32 ``[2]``
            (height, width), and ``embeddings`` and finer levels when wanted. k is 3 a prompt with ``multimask``, in the
            network's order, else 1; minus those below ``min_score`` or ``min_stability``.

        Raises:
            InvalidParameter: a prompt outside the picture, or no picture at all.
        """
        features, (height, width) = self._encoding(sample, parameters)
        outputs = {"image_size": np.array([height, width], dtype=np.int32)}
        asked = _ANSWERS if wanted is None else _ANSWERS & wanted
        if asked:
            outputs |= self._selected(features, sample.get("mask_input"), parameters, height, width, asked)
        return outputs | {name: value for name, value in features.items() if wanted is not None and name in wanted}

    def _selected(
        self, features: Mapping[str, np.ndarray], mask_input: np.ndarray | None, parameters: Mapping[str, Any],
        height: int, width: int, asked: set[str],
    ) -> dict[str, np.ndarray]:  # fmt: skip
        """The masks of all prompts, as many of them at once as the decoder takes."""
        coords, labels = self._prompts(parameters, height, width)
        if mask_input is not None and len(coords) > 1:
            raise InvalidParameter("An earlier mask goes with one prompt, not with 'each_point'.")
        small, form = self._side // _SHRINK, parameters["mask_format"]
        earlier = np.zeros((small, small), np.float32) if mask_input is None else _finite("mask_input", mask_input)
        earlier = earlier.reshape(1, 1, small, small).astype(np.float32, copy=False)
        enlargement = self._enlargement(height, width)
        scores, logits, encoded = [], [], []
        for first in range(0, len(coords), AT_ONCE):
            part = slice(first, first + AT_ONCE)
            count = len(coords[part])
            found = self._decoded(features, {
                "point_coords": coords[part], "point_labels": labels[part], "mask_input": np.repeat(earlier, count, 0),
                "has_mask": np.full((count, 1), mask_input is not None, np.float32),
            })  # fmt: skip
            proposed, expected = self._proposals(*found, parameters["multimask"])
            for mask, score in zip(proposed, expected, strict=True):
                if not _counts(mask, score, parameters, enlargement):
                    continue
                scores.append(score)
                if "low_res_masks" in asked:
                    logits.append(mask)
                if "masks" in asked and form != "none":
                    patch = enlargement.patch(mask, parameters["mask_threshold"])
                    encoded.append(run_lengths.encode(*patch, height, width, form))
        return {
            "scores": np.array(scores, dtype=np.float32),
            "low_res_masks": np.array(logits, dtype=np.float32).reshape(-1, small, small),
            "masks": np.array(encoded, dtype=object),
        }

    def _decoded(
        self, features: Mapping[str, np.ndarray], prompts: Mapping[str, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Logits float32 ``[n,4,h,w]`` and scores ``[n,4]`` of n prompts about one picture."""
        names = ["low_res_masks", "iou_scores"]
        if self._filled is None:  # every prompt brings the picture along
            count = len(prompts["has_mask"])
            pictures = {name: np.repeat(value[None], count, 0) for name, value in features.items()}
            found = self._call("decoder", {**pictures, **prompts}, names)
            return found["low_res_masks"], found["iou_scores"]
        found = self._call("decoder", {n: v[None] for n, v in {**features, **prompts}.items()}, names)
        return found["low_res_masks"][0], found["iou_scores"][0]

    def _proposals(self, logits: np.ndarray, scores: np.ndarray, many: bool) -> tuple[np.ndarray, np.ndarray]:
        """Of each prompt the three proposals or the one answer: logits ``[k,h,w]`` and scores ``[k]``."""
        if many:
            logits, scores = logits[:, 1:], scores[:, 1:]
        else:
            chosen = np.zeros(len(scores), np.int64) if self._filled is None else self._filled.answers(logits, scores)
            rows = np.arange(len(scores))
            logits, scores = logits[rows, chosen], scores[rows, chosen]
        return logits.reshape(-1, *logits.shape[-2:]), scores.ravel()

    def _encoding(
        self, sample: Mapping[str, Any], parameters: Mapping[str, Any]
    ) -> tuple[dict[str, np.ndarray], tuple[int, int]]:
        """The encoded picture and its (height, width): the caller's, from the cache, or computed."""
        if "image" in sample:
            data = bytes(sample["image"])
            facts = f"{self._model} {parameters['auto_orient']} ".encode()
            key = hashlib.sha256(facts + hashlib.sha256(data).digest()).hexdigest()
            *found, size = self._cache.fetch(key, lambda: self._encode(data, parameters["auto_orient"]))
            return dict(zip(self._features, found, strict=True)), (int(size[0]), int(size[1]))
        if "embeddings" not in sample:
            raise InvalidParameter("There is neither a picture nor the embeddings of one.")
        missing = [name for name in self._features if name not in sample]
        if missing:
            raise InvalidParameter(f"'embeddings' of this model go with '{missing[0]}'.", hint="Or send the picture.")
        return {name: _finite(name, sample[name]) for name in self._features}, _picture_size(parameters["image_size"])

    def _encode(self, data: bytes, auto_orient: bool) -> tuple[np.ndarray, ...]:
        picture = decode(data, auto_orient)
        rule = resize.longest if self._filled is None else resize.squash
        pixels, geometry = rule(picture, self._side, self._side)
        inputs = {"pixels": pixels[None]}
        if self._filled is None:
            inputs["valid_size"] = np.array([geometry.valid_size], dtype=np.int32)
        found = self._call("encoder", inputs, self._features)
        return *(found[name][0] for name in self._features), np.array(picture.shape[:2], dtype=np.int64)

    def _content(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of what the picture covers of the encoder's frame."""
        return resize.fitted(height, width, self._side) if self._filled is None else (self._side, self._side)

    def _prompts(self, parameters: Mapping[str, Any], height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """float32 ``[n,p,2]`` in the encoder's frame and ``[n,p]``: the points of each prompt, and their labels."""
        alone = [_points(prompt, height, width, self._filled is not None) for prompt in _apart(parameters)]
        valid_height, valid_width = self._content(height, width)
        coords = np.array([points for points, _ in alone], dtype=np.float64)
        coords *= (valid_width / width, valid_height / height)
        return coords.astype(np.float32), np.array([labels for _, labels in alone], dtype=np.float32)

    def _enlargement(self, height: int, width: int) -> Enlargement:
        """How masks lie over the picture: enlarged to the encoder's frame and cut where the padding begins, then
        enlarged to the picture; of a filled frame at once.
        """
        factor = _SHRINK if self._filled is None else 1
        tall, wide = (inside * factor // _SHRINK for inside in self._content(height, width))
        return Enlargement.of(self._side // _SHRINK, factor, (tall, wide), (height, width))


def _counts(logits: np.ndarray, score: np.float32, parameters: Mapping[str, Any], enlargement: Enlargement) -> bool:
    """Whether a mask reaches ``min_score`` (the network's IoU estimate) and ``min_stability`` (its area at a higher
    logit over that at a lower one).
    """
    if parameters["min_score"] > 0 and not score > np.float32(parameters["min_score"]):
        return False
    if parameters["min_stability"] <= 0:
        return True
    stability = enlargement.stability(logits, parameters["mask_threshold"], parameters["stability_offset"])
    return bool(stability > np.float32(parameters["min_stability"]))


@dataclass(frozen=True)
class Filled:
    """What is otherwise where the picture fills the encoder's frame, its aspect ignored: in SAM2.

    The decoder reads a picture once for several prompts, every prompt ends with a point that is none, and the single
    answer is the first mask only where that is stable.

    Attributes:
        levels: further outputs of the encoder, finer than ``embeddings``, which the decoder reads.
        offset: how far the threshold of logits moves either way for a mask's stability.
        stable: the least share of its area that a stable mask keeps.
    """

    levels: Sequence[str]
    offset: float
    stable: float

    def answers(self, logits: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Which mask of each prompt answers it, int64 ``[n]``: the first if it is stable, else the best proposal.

        Args:
            logits, scores: float32 ``[n,4,h,w]`` and ``[n,4]``.
        """
        inner, outer = (np.count_nonzero(logits[:, 0] > level, axis=(1, 2)) for level in (self.offset, -self.offset))
        shares = np.where(outer > 0, inner.astype(np.float32) / np.maximum(outer, 1).astype(np.float32), 1)
        return np.where(shares >= np.float32(self.stable), 0, 1 + scores[:, 1:].argmax(axis=1))


def _apart(parameters: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The prompts of a request: with ``each_point`` its points one by one. Raises InvalidParameter."""
    if not parameters["each_point"]:
        return [parameters]
    points, labels = parameters["points"] or [], parameters["point_labels"]
    labels = [1.0] * len(points) if labels is None else labels
    if not points or parameters["box"] is not None:
        raise InvalidParameter("With 'each_point' there must be points, and no box.")
    _check_points(points, labels)
    if set(labels) & {2, 3}:
        raise InvalidParameter("With 'each_point' a label must be 1 (on the object), 0 (off it) or -1 (no point).")
    return [
        {"points": [point], "point_labels": [label], "box": None} for point, label in zip(points, labels, strict=True)
    ]


def _points(
    parameters: Mapping[str, Any], height: int, width: int, padded: bool
) -> tuple[list[list[float]], list[float]]:
    """A prompt as points with labels, ``[n,2]`` and ``[n]``: a box is its two corners. Without a box, or always where
    ``padded``, a padding point (label -1) is appended, as in the network's training; an empty prompt is such points.
    """
    points, labels, box = parameters["points"] or [], parameters["point_labels"], parameters["box"]
    labels = [1.0] * len(points) if labels is None else labels
    _check_points(points, labels)
    if not set(labels) <= set(_LABELS):
        raise InvalidParameter("A point's label must be 1 (on the object), 0 (off it) or -1 (no point).")
    for (x, y), label in zip(points, labels, strict=True):
        if label != -1 and not (0 <= x <= width and 0 <= y <= height):
            raise InvalidParameter(f"The point ({x:g}, {y:g}) lies outside the picture of {width} x {height} pixels.")
    if box is not None:
        left, top, right, bottom = box
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            raise InvalidParameter(
                f"The box must be left, top, right, bottom inside the picture of {width} x {height} pixels."
            )
        points, labels = [*points, [left, top], [right, bottom]], [*labels, 2, 3]
    if not points:
        points, labels = [[0, 0]], [-1]
    if set(labels) & {2, 3} and not padded:
        return points, labels
    return [*points, [0, 0]], [*labels, -1]


def _check_points(points: Sequence[Any], labels: Sequence[Any]) -> None:
    if len(points) != len(labels):
        raise InvalidParameter(f"There are {len(points)} points and {len(labels)} labels.")
    if len(points) > _MOST_POINTS:
        raise InvalidParameter(f"A prompt may have {_MOST_POINTS} points, not {len(points)}.")


def _picture_size(given: Sequence[float] | None) -> tuple[int, int]:
    """(height, width) of the picture behind embeddings that came without it. Raises InvalidParameter."""
    if given is None:
        raise InvalidParameter("Embeddings need the 'image_size' (height, width) of their picture.")
    height, width = given
    if not (height >= 1 and width >= 1 and height == int(height) and width == int(width)):
        raise InvalidParameter("'image_size' must be the height and width in whole pixels.")
    if height * width > MAX_PIXELS:
        raise InvalidParameter(f"'image_size' is over the limit of {MAX_PIXELS / 1e6:g} million pixels.")
    return int(height), int(width)


def _finite(name: str, values: np.ndarray) -> np.ndarray:
    if not np.isfinite(values).all():
        raise InvalidParameter(f"'{name}' must hold finite numbers only.")
    return values
