"""Promptable masks: a picture is encoded once for all processes of a server, then a prompt runs only the decoder.

Prompts are points on and off the object, a box, and the logits of an earlier answer. The arithmetic around the networks
is that of transformers' ``SamProcessor``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from tritonvision import tasks
from tritonvision.errors import InvalidParameter
from tritonvision.pictures import MAX_PIXELS, decode
from tritonvision.python_backend.images import resize
from tritonvision.python_backend.masks import run_lengths
from tritonvision.python_backend.masks.decode import Axis, areas
from tritonvision.python_backend.masks.decode import decode as masks_on
from tritonvision.python_backend.runtime import encoding_cache
from tritonvision.python_backend.runtime.networks import Call

TASK = tasks.PROMPTABLE
_MOST_POINTS = 256  # each is one more token that attends to the whole picture, or one more prompt
POINTS = 1, 2, _MOST_POINTS + 2  # least, usual and most points that the network reads; a box is two more
_AT_ONCE = 8  # prompts: the largest batch of a network
_ANSWERS = {"masks", "scores", "low_res_masks"}
_SHRINK = 4  # the masks that the decoder gives and takes are so much smaller than the encoder's frame
_LABELS = (-1, 0, 1, 2, 3)  # no point, off the object, on it, upper left and lower right corner of a box


class Composition:
    """Masks of the objects that prompts select.

    Args:
        call: runs the networks ``encoder`` and ``decoder``.
        options: ``side``, pixels of the encoder's square frame, and ``model``, which tells the encodings of one network
            from those of another.
        cache: of encodings; by default the server's.
    """

    def __init__(self, call: Call, options: Mapping[str, Any], cache: encoding_cache.SharedCache | None = None):
        cv2.setNumThreads(1)
        self._call = call
        self._side = int(options["side"])
        self._model = str(options.get("model", ""))
        self._cache = cache or encoding_cache.of_server("encodings")

    def answer(
        self, sample: Mapping[str, Any], parameters: Mapping[str, Any], wanted: set[str] | None = None
    ) -> dict[str, np.ndarray]:
        """The masks of one prompt, or with ``each_point`` of one prompt a point, one after another.

        Args:
            sample: ``image``, an encoded picture or ``.npy`` bytes, or instead of it ``embeddings`` float32
                ``[256,64,64]`` of one, with the setting ``image_size``; ``mask_input`` float32 ``[256,256]``, one of
                the ``low_res_masks`` of an earlier answer.
            parameters: settings of the task, resolved. Coordinates are pixels of the (oriented) picture.
            wanted: names of outputs; the decoder does not run when only ``embeddings`` are.

        Returns:
            ``masks`` objects ``[k]`` of bytes (none when ``mask_format`` is), ``scores`` float32 ``[k]``, the IoU that
            the network expects of each, ``low_res_masks`` float32 ``[k,256,256]`` logits, ``image_size`` int32 ``[2]``
            (height, width), and ``embeddings`` when wanted. k is 3 a prompt with ``multimask``, the three proposals in
            the network's order, else 1; minus those below ``min_score`` or ``min_stability``.

        Raises:
            InvalidParameter: a prompt outside the picture, or no picture at all.
        """
        embeddings, (height, width) = self._encoding(sample, parameters)
        outputs = {"image_size": np.array([height, width], dtype=np.int32)}
        asked = _ANSWERS if wanted is None else _ANSWERS & wanted
        if asked:
            outputs |= self._selected(embeddings, sample.get("mask_input"), parameters, height, width, asked)
        if wanted is not None and "embeddings" in wanted:
            outputs["embeddings"] = embeddings
        return outputs

    def _selected(
        self, embeddings: np.ndarray, mask_input: np.ndarray | None, parameters: Mapping[str, Any], height: int,
        width: int, asked: set[str],
    ) -> dict[str, np.ndarray]:  # fmt: skip
        """The masks of all prompts, as many of them at once as the decoder takes."""
        coords, labels = self._prompts(parameters, height, width)
        if mask_input is not None and len(coords) > 1:
            raise InvalidParameter("An earlier mask goes with one prompt, not with 'each_point'.")
        small, form = self._side // _SHRINK, parameters["mask_format"]
        earlier = np.zeros((small, small), np.float32) if mask_input is None else _finite("mask_input", mask_input)
        earlier = earlier.reshape(1, 1, small, small).astype(np.float32, copy=False)
        proposals = slice(1, None) if parameters["multimask"] else slice(0, 1)
        scores, logits, encoded = [], [], []
        for first in range(0, len(coords), _AT_ONCE):
            part = slice(first, first + _AT_ONCE)
            count = len(coords[part])
            given = {
                "embeddings": np.repeat(embeddings[None], count, 0), "point_coords": coords[part],
                "point_labels": labels[part], "mask_input": np.repeat(earlier, count, 0),
                "has_mask": np.full((count, 1), mask_input is not None, np.float32),
            }  # fmt: skip
            found = self._call("decoder", given, ["low_res_masks", "iou_scores"])
            proposed = found["low_res_masks"][:, proposals].reshape(-1, small, small)
            for mask, score in zip(proposed, found["iou_scores"][:, proposals].ravel(), strict=True):
                if not self._counts(mask, score, parameters, height, width):
                    continue
                scores.append(score)
                if "low_res_masks" in asked:
                    logits.append(mask)
                if "masks" in asked and form != "none":
                    patch = self._patch(mask, height, width, parameters["mask_threshold"])
                    encoded.append(run_lengths.encode(*patch, height, width, form))
        return {
            "scores": np.array(scores, dtype=np.float32),
            "low_res_masks": np.array(logits, dtype=np.float32).reshape(-1, small, small),
            "masks": np.array(encoded, dtype=object),
        }

    def _encoding(self, sample: Mapping[str, Any], parameters: Mapping[str, Any]) -> tuple[np.ndarray, tuple[int, int]]:
        """The encoded picture and its (height, width): the caller's, from the cache, or computed."""
        if "image" in sample:
            data = bytes(sample["image"])
            facts = f"{self._model} {parameters['auto_orient']} ".encode()
            key = hashlib.sha256(facts + hashlib.sha256(data).digest()).hexdigest()
            embeddings, size = self._cache.fetch(key, lambda: self._encode(data, parameters["auto_orient"]))
            return embeddings, (int(size[0]), int(size[1]))
        if "embeddings" not in sample:
            raise InvalidParameter("There is neither a picture nor the embeddings of one.")
        return _finite("embeddings", sample["embeddings"]), _picture_size(parameters["image_size"])

    def _encode(self, data: bytes, auto_orient: bool) -> tuple[np.ndarray, np.ndarray]:
        picture = decode(data, auto_orient)
        pixels, geometry = resize.longest(picture, self._side, self._side)
        inputs = {"pixels": pixels[None], "valid_size": np.array([geometry.valid_size], dtype=np.int32)}
        (embeddings,) = self._call("encoder", inputs, ["embeddings"])["embeddings"]
        return embeddings, np.array(picture.shape[:2], dtype=np.int64)

    def _prompts(self, parameters: Mapping[str, Any], height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """float32 ``[n,p,2]`` in the encoder's frame and ``[n,p]``: the points of each prompt, and their labels."""
        alone = [_points(prompt, height, width) for prompt in _apart(parameters)]
        valid_height, valid_width = resize.fitted(height, width, self._side)
        coords = np.array([points for points, _ in alone], dtype=np.float64)
        coords *= (valid_width / width, valid_height / height)
        return coords.astype(np.float32), np.array([labels for _, labels in alone], dtype=np.float32)

    def _counts(
        self, logits: np.ndarray, score: np.float32, parameters: Mapping[str, Any], height: int, width: int
    ) -> bool:
        """Whether a mask reaches ``min_score`` (the network's IoU estimate) and ``min_stability`` (its area at a higher
        logit over that at a lower one).
        """
        if parameters["min_score"] > 0 and not score > np.float32(parameters["min_score"]):
            return False
        if parameters["min_stability"] <= 0:
            return True
        level, offset = parameters["mask_threshold"], parameters["stability_offset"]
        box, axes = self._where(logits > level - offset, height, width)
        if box is None:
            return False
        inner, outer = areas(np.ones(1, np.float32), logits[None], *axes, box, (level + offset, level - offset))
        return outer > 0 and bool(np.float32(inner / outer) > np.float32(parameters["min_stability"]))

    def _patch(self, logits: np.ndarray, height: int, width: int, level: float) -> tuple[np.ndarray, int, int]:
        """Where one mask is, bool, cut out of the picture, and the left and upper edge of the cut.

        Logits are enlarged to the encoder's frame, cut where the padding begins, and enlarged to the picture: for the
        pixels of the cut two small matrix products.
        """
        box, axes = self._where(logits > level, height, width)
        if box is None:
            return np.zeros((0, 0), dtype=bool), 0, 0
        return masks_on(np.ones(1, np.float32), logits[None], *axes, box, level), box[0], box[1]

    def _where(
        self, cells: np.ndarray, height: int, width: int
    ) -> tuple[tuple[int, int, int, int] | None, tuple[Axis, Axis]]:
        """The box of the picture's pixels whose interpolation reads ``cells``, bool ``[256,256]``, and the two axes'
        weights. No box without a cell.
        """
        content = resize.fitted(height, width, self._side)
        rows, columns = (
            Axis(cells=len(cells), factor=_SHRINK, offset=0, content=inside, length=length)
            for length, inside in zip((height, width), content, strict=True)
        )
        if not cells.any():
            return None, (rows, columns)
        spans = []
        for number, axis in enumerate((rows, columns)):
            seen = np.flatnonzero(cells.any(axis=1 - number))
            # as far as the neighbours of the cells, and one pixel of the frame for the second enlargement
            edges = np.array([seen[0] - 1, seen[-1] + 2]) * _SHRINK * axis.length / axis.content + (-2, 2)
            spans.append([int(edge) for edge in np.clip(np.rint(edges), 0, axis.length)])
        (top, bottom), (left, right) = spans
        return (left, top, right, bottom), (rows, columns)


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


def _points(parameters: Mapping[str, Any], height: int, width: int) -> tuple[list[list[float]], list[float]]:
    """A prompt as points with labels, ``[n,2]`` and ``[n]``: a box is its two corners. Without a box a padding point
    (label -1) is appended, as in the network's training; an empty prompt is that point alone.
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
        return [*points, [left, top], [right, bottom]], [*labels, 2, 3]
    if not points:
        points, labels = [[0, 0]], [-1]
    if set(labels) & {2, 3}:
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
