"""The named answer about one picture: what ``predict`` prints, and what ``--json`` holds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tritonvision.results import (
    ClassificationPrediction,
    DepthMap,
    Detections,
    InstanceDetections,
    InstancesRLEMasks,
    KeyPoints,
    L2CSGazeDetection,
    MultiLabelClassificationPrediction,
    Result,
    SAMPrediction,
    parts,
)

_BEST_CLASSES = 5
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # but for tabs and line feeds
_LINE_ENDS = re.compile("[\n\u2028\u2029]")


@dataclass(frozen=True)
class Answer:
    """One picture's result with the names of its classes and key points.

    A comparison with texts is a classification whose classes are the texts and whose scores are cosines.

    Attributes:
        text: what a model wrote of which the result are the places; empty of other answers.
        ids: int64 (n,) of boxes that a model followed; None of other answers.
    """

    result: Result
    labels: Sequence[str]
    keypoint_labels: Sequence[str] = ()
    text: str = ""
    ids: np.ndarray | None = None

    def predictions(self, confidence: float | None) -> list[dict[str, Any]]:
        """Named predictions, best first: what ``--json`` prints.

        A box is ``[left, top, right, bottom]`` in pixels of the oriented picture; one without an extent is a ``point``
        ``[x, y]``. Of a classification everything at or
        over ``confidence`` is named, or the best five when it is None. A text, recognised or generated, is one
        prediction, ``{"text"}``; that of a page has its ``words`` too, ``{"text", "box"}`` each, in reading order.
        """
        result = self.result
        if isinstance(result, str):
            return [{"text": result}]
        if isinstance(result, tuple) and isinstance(result[0], str):
            return [_page(*result)]
        if isinstance(result, ClassificationPrediction):
            return self._classes(result.confidence[0], confidence)
        if isinstance(result, MultiLabelClassificationPrediction):
            return self._classes(result.confidence, confidence)
        if isinstance(result, DepthMap):
            return [_depth(result)]
        if isinstance(result, SAMPrediction):
            return _masks(result)
        if isinstance(result, np.ndarray):
            return [{
                "dimensions": result.shape[1], "norm": float(np.linalg.norm(result)), "embedding": result[0].tolist(),
            }]  # fmt: skip
        points, detections, gaze = (None, result, None) if not isinstance(result, tuple) else (*result, None)[:3]
        return [self._box(detections, points, gaze, i) for i in range(len(detections))]

    def _classes(self, scores: np.ndarray, confidence: float | None) -> list[dict[str, Any]]:
        order = np.argsort(-scores, kind="stable")
        kept = order[:_BEST_CLASSES] if confidence is None else order[scores[order] >= confidence]
        return [{"class": self.labels[i], "class_id": int(i), "confidence": float(scores[i])} for i in kept]

    def _box(
        self, detections: Detections, points: KeyPoints | None, gaze: L2CSGazeDetection | None, i: int
    ) -> dict[str, Any]:
        class_id = int(detections.class_id[i])
        named: dict[str, Any] = {
            "class": self.labels[class_id], "class_id": class_id, "confidence": float(detections.confidence[i]),
        }  # fmt: skip
        corners = _corners(detections, i)
        named |= {"point": corners[:2]} if corners[:2] == corners[2:] else {"box": corners}
        if gaze is not None:
            named["yaw"], named["pitch"] = float(gaze.yaw[i]), float(gaze.pitch[i])
        if isinstance(detections, InstanceDetections) and detections.mask is not None:
            named |= _mask(detections.mask, i)
        elif isinstance(detections, InstanceDetections) and detections.polygons is not None:
            named["polygon"] = detections.polygons[i].tolist()
        if points is not None:
            named["keypoints"] = [
                {"class": name, "x": round(float(x), 2), "y": round(float(y), 2)}
                for name, (x, y) in zip(self.keypoint_labels, points.xy[i], strict=False)
            ]
        return named


def _corners(detections: Detections, i: int) -> list[float]:
    return [round(float(v), 2) for v in detections.xyxy[i]]


def _page(text: str, found: Detections) -> dict[str, Any]:
    """The text and its words, or its lines where these are not divided; without confidences, which the Roboflow route
    does not tell.
    """
    told = found.bboxes_metadata or ()
    return {"text": text, "words": [{"text": told[i]["text"], "box": _corners(found, i)} for i in parts(found)]}


def _depth(found: DepthMap) -> dict[str, Any]:
    """Where it is nearest and farthest, in pixels; the values have no unit."""
    nearness = found.nearness()
    near, far = (np.unravel_index(v, nearness.shape) for v in (nearness.argmax(), nearness.argmin()))
    return {
        "meaning": found.meaning, "lowest": float(found.values.min()), "highest": float(found.values.max()),
        "nearest": [int(near[1]), int(near[0])], "farthest": [int(far[1]), int(far[0])],
    }  # fmt: skip


def _masks(found: SAMPrediction) -> list[dict[str, Any]]:
    masks = found.masks
    assert masks is not None, "no command asks for outlines"
    order = np.argsort(-found.scores, kind="stable")
    return [
        {"class": f"mask {rank + 1}", "confidence": float(found.scores[i]), **_mask(masks, i)}
        for rank, i in enumerate(order.tolist())
    ]


def _mask(masks: InstancesRLEMasks, i: int) -> dict[str, Any]:
    from pycocotools import mask

    rle = masks.to_coco_rle_masks()[i]
    return {"area": int(mask.area(rle)), "rle": {"size": rle["size"], "counts": rle["counts"].decode()}}


def printable(text: str) -> str:
    """``text`` without control characters, since a model may generate any."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def lines(name: str, predictions: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The lines printed for one picture, see :meth:`Answer.predictions`."""
    if predictions and "text" in predictions[0]:
        yield from _text_lines(name, predictions[0])
        return
    if predictions and "meaning" in predictions[0]:
        yield from _depth_lines(name, predictions[0])
        return
    if predictions and "embedding" in predictions[0]:
        found = predictions[0]
        yield f"{name}: a vector of {found['dimensions']} numbers, length {found['norm']:.4f}"
        return
    counted = "nothing found" if not predictions else f"{len(predictions)} prediction{'s' * (len(predictions) > 1)}"
    yield f"{name}: {counted}"
    for found in predictions:
        place = f"   {told}" if (told := where(found)) else ""
        if "yaw" in found:
            place += "   yaw {:+.1f}, pitch {:+.1f} degrees".format(*np.degrees([found["yaw"], found["pitch"]]))
        if "area" in found:
            place += f"   mask of {found['area']} px"
        yield f"  {found['class']:<20} {found['confidence']:.4f}{place}"
        for point in found.get("keypoints", ()):
            yield f"    {point['class']:<18} {point['x']:.1f}, {point['y']:.1f}"


def where(found: Mapping[str, Any]) -> str:
    """The place of a prediction, see :meth:`Answer.predictions`; empty where it has none."""
    if "point" in found:
        return "at {:.1f}, {:.1f}".format(*found["point"])
    return "box {:.1f}, {:.1f} to {:.1f}, {:.1f}".format(*found["box"]) if "box" in found else ""


def _text_lines(name: str, found: dict[str, Any]) -> Iterator[str]:
    """The text behind the name, further lines below it; of a page the number of words, and all its lines below."""
    said = printable(found["text"].strip()).splitlines() or ["no text"]
    if "words" in found and found["text"].strip():
        count = len(found["words"])
        yield f"{name}: {count} word{'s' * (count != 1)}"
    else:
        yield f"{name}: {said.pop(0)}"
    for line in said:
        yield f"  {line}".rstrip()


class TextAsItComes:
    """Writes a text piece by piece, in the form in which :func:`lines` gives the whole of it.

    Until :meth:`show` is called the pieces are kept. White space is held back until something follows it.

    Args:
        write: takes what is to be shown next.
    """

    def __init__(self, name: str, write: Callable[[str], None]):
        self._name, self._write = name, write
        self._kept, self._shows = "", False
        self.began = False

    def add(self, piece: str) -> None:
        """The next piece of the text."""
        self._kept += printable(piece)
        if self._shows:
            self._flush()

    def show(self) -> None:
        """Write what came so far, and from now on what comes when it comes."""
        self._shows = True
        self._flush()

    def _flush(self) -> None:
        if not self.began:
            self._kept = self._kept.lstrip()
        ready = self._kept.rstrip()
        if ready:
            self._kept = self._kept[len(ready) :]
            lead = "" if self.began else f"{self._name}: "
            self._write(lead + "\n  ".join(_LINE_ENDS.split(ready)))
            self.began = True


def _depth_lines(name: str, found: dict[str, Any]) -> Iterator[str]:
    meaning = "larger is farther" if found["meaning"] == "depth" else "without a unit; larger is nearer"
    yield f"{name}: {found['lowest']:.4g} to {found['highest']:.4g}, {meaning}"
    yield "  nearest at {}, {}; farthest at {}, {}".format(*found["nearest"], *found["farthest"])
