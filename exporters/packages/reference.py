"""The reference pipeline of packages: inference-models' documented steps around a graph, in numpy and OpenCV.

Written from the documentation of ``inference_config.json``. It shares no code with the steps that serve, nor with the
recognition of outputs (:mod:`~tritonvision.exporters.packages.layouts`, ``heads``): an error in shared code would not
be noticed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from PIL import Image

from tritonvision.exporters.contract import Tensors
from tritonvision.exporters.libraries.torch_env import greedy_nms
from tritonvision.exporters.packages.config import CROP, FLOAT, ROUNDED, InferenceConfig
from tritonvision.exporters.packages.description import Description
from tritonvision.exporters.packages.wrap import PackageGraph

_CLASS_SHIFT = np.float32(7680)  # pixels by which ultralytics offsets each class's boxes for one NMS over all classes
_STRIDE = 4  # network pixels per cell of the mask prototypes
_GREY = 127  # grey of the padding of a YOLO's pictures


@dataclass(frozen=True)
class Prepared:
    """A picture as the network's pixels; its pixel (x, y) is at ``(x * gain_x + left, y * gain_y + top)`` there."""

    pixels: np.ndarray
    size: tuple[int, int]
    gain: tuple[float, float]
    corner: tuple[int, int]

    @property
    def content(self) -> tuple[int, int]:
        """(height, width) of the picture in the pixels."""
        return round(self.size[0] * self.gain[1]), round(self.size[1] * self.gain[0])


def normalised(pixels: np.ndarray, config: InferenceConfig) -> np.ndarray:
    """float32 ``[B, 3, H, W]`` as the package's network reads them, of RGB pixels ``[B, H, W, 3]``."""
    given = config.network_input
    values = (pixels if given.color_mode == "rgb" else pixels[..., ::-1]).astype(np.float32)
    if given.scaling_factor is not None:
        values = values / np.float32(given.scaling_factor)
    if given.normalization is not None:
        means, deviations = np.asarray(given.normalization, dtype=np.float32)
        values = (values - means) / deviations
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2))


def prepare(picture: np.ndarray, described: Description) -> Prepared:
    """RGB uint8 ``[h, w, 3]`` by the resize modes of inference-models."""
    given = described.config.network_input
    height, width = described.config.size
    h, w = picture.shape[:2]
    mode, grey = given.resize_mode, given.padding_value or 0
    if mode == "fit-longer-edge":  # for a network of one size
        yolo = _outputs(described.graph) in ("rows", "final")
        mode, grey = ("letterbox", _GREY) if yolo else ("stretch", 0)
    if cut := CROP.fullmatch(mode):
        return _cropped(picture, (height, width), float(cut[1]), cut[2])
    if mode in ("stretch", FLOAT):
        values = picture / np.float32(255) if mode == FLOAT else picture
        pixels = cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR)
        return Prepared(pixels, (h, w), (width / w, height / h), (0, 0))
    canvas = np.full((height, width, 3), grey, dtype=np.uint8)
    if mode == "center-crop":
        canvas[:] = 0
        rows, columns = np.arange(height) - (height - h) // 2, np.arange(width) - (width - w) // 2
        if h > height:
            rows = np.arange(height) + (h - height) // 2
        if w > width:
            columns = np.arange(width) + (w - width) // 2
        ys, xs = np.flatnonzero((rows >= 0) & (rows < h)), np.flatnonzero((columns >= 0) & (columns < w))
        canvas[np.ix_(ys, xs)] = picture[np.ix_(rows[ys], columns[xs])]
        return Prepared(canvas, (h, w), (1, 1), (int(-columns[0]), int(-rows[0])))
    scale = min(height / h, width / w)
    if mode == ROUNDED:  # the larger half of an odd rest goes to the right and to the bottom, as above
        new_w, new_h = max(round(w * scale), 1), max(round(h * scale), 1)
    else:
        new_w, new_h = max(int(w * scale), 1), max(int(h * scale), 1)
    left, top = int((width - new_w) / 2), int((height - new_h) / 2)
    canvas[top : top + new_h, left : left + new_w] = cv2.resize(picture, (new_w, new_h))
    return Prepared(canvas, (h, w), (new_w / w, new_h / h), (left, top))


def _cropped(picture: np.ndarray, size: tuple[int, int], percent: float, name: str) -> Prepared:
    """torchvision's ``Resize`` of the shorter side with an antialiasing filter of Pillow's, and ``CenterCrop``."""
    (h, w), (height, width) = picture.shape[:2], size
    shorter = int(min(size) * 100 / percent)
    new_h, new_w = (shorter, int(shorter * w / h)) if h < w else (int(shorter * h / w), shorter)
    filters = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
    left, top = int(round((new_w - width) / 2.0)), int(round((new_h - height) / 2.0))
    whole = np.asarray(Image.fromarray(picture).resize((new_w, new_h), filters[name]))
    return Prepared(
        whole[top : top + height, left : left + width], (h, w), (new_w / w, new_h / h), (-left, -top)
    )  # fmt: skip


def predict(picture: np.ndarray, settings: Mapping[str, Any], described: Description) -> Tensors:
    """The public outputs for RGB uint8 ``[h, w, 3]``."""
    prepared = prepare(picture, described)
    answer = described.graph(normalised(prepared.pixels[None], described.config))
    outputs = [value[0] for value in answer.values()]
    kept = [i for i, name in enumerate(described.names) if name not in described.config.removed]
    match _outputs(described.graph):
        case "classes":
            return _classes(outputs[0], settings, described)
        case "queries":
            return _queries(outputs, settings, kept, picture.shape[:2])
        case "final":
            return _final(outputs, settings, kept, prepared)
    return _dense(outputs, settings, kept, prepared)


def _outputs(graph: PackageGraph) -> str:
    """``classes`` for one value per class, ``queries`` for a DETR's boxes and logits, ``rows`` for a YOLO's output,
    ``final`` for that of one with its suppression inside.
    """
    shapes = [shape[1:] for shape in graph.shapes.values()]
    if len(shapes[0]) == 1:
        return "classes"
    if len(shapes) == 2 and len(shapes[1]) == 2:
        return "queries"
    return "final" if shapes[0][1] == 6 + sum(shape[0] for shape in shapes[1:]) else "rows"


def _sigmoid(values: np.ndarray) -> np.ndarray:
    """float32, by the hyperbolic tangent, which does not overflow."""
    return ((1 + np.tanh(values.astype(np.float64) / 2)) / 2).astype(np.float32)


def _softmax(values: np.ndarray) -> np.ndarray:
    """float32 over one axis, by the logarithm of the sum."""
    exact = values.astype(np.float64)
    return np.exp(exact - np.logaddexp.reduce(exact)).astype(np.float32)


def _classes(values: np.ndarray, settings: Mapping[str, Any], described: Description) -> Tensors:
    given = described.config.post_processing
    independent = described.task == "multi-label-classification" or len(values) == 1
    activation = given.type if given else ("sigmoid" if independent else "softmax")
    scores = values
    if given is None or not given.fused:
        scores = {"softmax": _softmax, "sigmoid": _sigmoid}[activation](values)
    order = sorted(np.flatnonzero(scores >= settings["confidence"]), key=lambda i: -scores[i])
    return {"scores": scores, "class_ids": np.array(order, dtype=np.int32)}


def _queries(outputs: list[np.ndarray], settings: Mapping[str, Any], kept: list[int], size: tuple) -> Tensors:
    """Boxes are the output of four columns; of two such, the one whose values are fractions of the picture."""
    wide = [output.shape[1] for output in outputs]
    fractions = [float(((output >= 0) & (output <= 1)).mean()) for output in outputs]
    first = wide[0] == 4 if wide[0] != wide[1] else fractions[0] > fractions[1]
    boxes, logits = outputs if first else outputs[::-1]
    likely = _sigmoid(logits[:, kept])
    best = np.argsort(-likely, axis=None, kind="stable")[:300]
    queries, kinds = np.unravel_index(best, likely.shape)
    scores = likely[queries, kinds]
    x, y, w, h = (boxes[queries] * np.array([size[1], size[0]] * 2, dtype=np.float32)).T
    corners = np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], axis=1)
    above = scores > settings["confidence"]
    return _answer(corners[above], scores[above], kinds[above], size)


def _dense(outputs: list[np.ndarray], settings: Mapping[str, Any], kept: list[int], prepared: Prepared) -> Tensors:
    rows = outputs[0].T
    classes = rows[:, [4 + column for column in kept]]
    kinds, scores = classes.argmax(1), classes.max(1)
    rows, kinds, scores = (part[scores > settings["confidence"]] for part in (rows, kinds, scores))
    x, y, w, h = rows[:, :4].T
    corners = np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], axis=1)
    apart = 0 if settings["class_agnostic_nms"] else kinds[:, None].astype(np.float32) * _CLASS_SHIFT
    best = np.asarray(greedy_nms(corners + apart, scores, settings["iou_threshold"]), dtype=int)
    best = best[: settings["max_detections"]]
    return _placed(corners[best], scores[best], kinds[best], rows[best], outputs, prepared)


def _final(outputs: list[np.ndarray], settings: Mapping[str, Any], kept: list[int], prepared: Prepared) -> Tensors:
    rows = outputs[0]
    rows = rows[(rows[:, 4] > settings["confidence"]) & np.isin(rows[:, 5], kept)]
    rows = rows[np.argsort(-rows[:, 4], kind="stable")][: settings["max_detections"]]
    kinds = np.searchsorted(kept, rows[:, 5])
    return _placed(rows[:, :4], rows[:, 4], kinds, rows, outputs, prepared)


def _placed(
    corners: np.ndarray, scores: np.ndarray, kinds: np.ndarray, rows: np.ndarray, outputs: list[np.ndarray],
    prepared: Prepared,
) -> Tensors:  # fmt: skip
    """Boxes in picture pixels, and their masks where there is a second output; the last of ``rows`` weigh them."""
    shift = np.array(prepared.corner * 2, dtype=np.float32)
    corners = (corners - shift) / np.array(prepared.gain * 2, dtype=np.float32)
    found = _answer(corners, scores, kinds, prepared.size)
    if len(outputs) == 2:
        coefficients = rows[:, -outputs[1].shape[0] :]
        masks = [_mask(c, outputs[1], prepared, box) for c, box in zip(coefficients, found["boxes"], strict=True)]
        found["masks"] = np.array(masks, dtype=object)
    return found


def _answer(corners: np.ndarray, scores: np.ndarray, kinds: np.ndarray, size: tuple[int, int]) -> Tensors:
    limits = np.array([size[1], size[0]] * 2, dtype=np.float32)
    boxes = np.clip(corners, 0, limits).astype(np.float32)
    return {"boxes": boxes, "scores": scores.astype(np.float32), "class_ids": kinds.astype(np.int32)}


def _mask(coefficients: np.ndarray, prototypes: np.ndarray, prepared: Prepared, box: np.ndarray) -> bytes:
    """Run lengths of one mask: logits without the padding, enlarged to the picture, over 0 and inside the box."""
    from pycocotools import mask

    logits = np.einsum("c,chw->hw", coefficients, prototypes)
    (left, top), (height, width) = prepared.corner, prepared.content
    edges = left, top, left + width, top + height
    factor = next(f for f in (1, 2, _STRIDE) if all(edge * f % _STRIDE == 0 for edge in edges))
    cells = [edge * factor // _STRIDE for edge in edges]
    if factor > 1:
        logits = cv2.resize(logits, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)
    logits = np.ascontiguousarray(logits[cells[1] : cells[3], cells[0] : cells[2]])
    whole = cv2.resize(logits, prepared.size[::-1], interpolation=cv2.INTER_LINEAR) > 0
    y, x = np.mgrid[: prepared.size[0], : prepared.size[1]]
    x1, y1, x2, y2 = box
    whole &= (x >= x1) & (x < x2) & (y >= y1) & (y < y2)
    return mask.encode(np.asfortranarray(whole, dtype=np.uint8))["counts"]
