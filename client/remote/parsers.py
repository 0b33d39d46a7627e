"""Parses the JSON of a facade's routes to result types: the inverse of the dialects."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

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
)


class Reading(NamedTuple):
    """A result, and the names in its answer: by class id, and by number of the key point."""

    result: Result
    labels: Sequence[str]
    keypoint_labels: Sequence[str] = ()


def to_reading(task: str, body: Mapping[str, Any]) -> Reading:
    """Parses the JSON of ``/infer/object_detection`` and similar routes."""
    metadata = {"height": body["image"]["height"], "width": body["image"]["width"]}
    listed = body["predictions"]
    if task == "classification":
        return _to_classification(listed, body, metadata)
    labels = _labels((p["class_id"], p["class"]) for p in listed)
    detections = _to_detections(listed, metadata)
    if task == "instance-segmentation":
        return Reading(_to_instances(listed, detections, metadata), labels)
    if task != "keypoint-detection":
        return Reading(detections, labels)
    names = _labels((k["class_id"], k["class"]) for p in listed for k in p["keypoints"])
    xy = np.zeros((len(listed), len(names), 2), dtype=np.float32)
    sure = np.zeros((len(listed), len(names)), dtype=np.float32)  # a point that was left out stays at 0
    for i, prediction in enumerate(listed):
        for k in prediction["keypoints"]:
            xy[i, k["class_id"]] = k["x"], k["y"]
            sure[i, k["class_id"]] = k["confidence"]
    return Reading((KeyPoints(xy, detections.class_id, sure, metadata), detections), labels, names)


def _to_detections(listed: Sequence[Mapping[str, Any]], metadata: dict[str, int]) -> Detections:
    """Centre and size, as the routes tell them, as corners."""
    class_id = np.array([p["class_id"] for p in listed], dtype=np.int32)
    centre = np.array([[p["x"], p["y"]] for p in listed], dtype=np.float64).reshape(-1, 2)
    half = np.array([[p["width"], p["height"]] for p in listed], dtype=np.float64).reshape(-1, 2) / 2
    confidence = np.array([p["confidence"] for p in listed], dtype=np.float32)
    xyxy = np.hstack([centre - half, centre + half]).astype(np.float32)
    return Detections(xyxy, class_id, confidence, metadata)


def _to_instances(
    listed: Sequence[Mapping[str, Any]], boxes: Detections, metadata: dict[str, int]
) -> InstanceDetections:  # fmt: skip
    """With the masks in the requested format."""
    found = InstanceDetections(boxes.xyxy, boxes.class_id, boxes.confidence, metadata)
    if any("points" in p for p in listed):
        found.polygons = [np.array([[q["x"], q["y"]] for q in p["points"]], np.int32).reshape(-1, 2) for p in listed]
    elif all("rle" in p for p in listed):
        size = metadata["height"], metadata["width"]
        found.mask = InstancesRLEMasks(size, [p["rle"]["counts"].encode() for p in listed])
    return found


def to_page(body: Mapping[str, Any]) -> tuple[str, Detections]:
    """Parses ``/doctr/ocr`` with ``generate_bounding_boxes``: blocks, lines and words, all of confidence 1; corners of
    those that may be turned.
    """
    listed = body["predictions"]
    angle = {"orientation": body["orientation"]} if "orientation" in body else {}
    found = _to_detections(listed, {"height": body["image"]["height"], "width": body["image"]["width"], **angle})
    rows = {region["detection_id"]: i for i, region in enumerate(listed)}
    found.bboxes_metadata = [
        {"text": p["text"], "parent": rows.get(p.get("parent_id"), -1)}
        | ({"polygon": [[q["x"], q["y"]] for q in p["points"]]} if "points" in p else {})
        for p in listed
    ]
    return body["result"], found


def _to_classification(
    listed: Any, body: Mapping[str, Any], metadata: dict[str, int]
) -> Reading:  # fmt: skip
    if isinstance(listed, dict):  # multi-label: every class, by name
        pairs = [(p["class_id"], name, p["confidence"]) for name, p in listed.items()]
    else:
        pairs = [(p["class_id"], p["class"], p["confidence"]) for p in listed]
    labels = _labels((i, name) for i, name, _ in pairs)
    scores = np.zeros(len(labels), dtype=np.float32)
    for i, _, confidence in pairs:
        scores[i] = confidence
    if isinstance(listed, dict):
        chosen = [listed[name]["class_id"] for name in body["predicted_classes"]]
        return Reading(MultiLabelClassificationPrediction(np.array(chosen, dtype=np.int64), scores, metadata), labels)
    best = pairs[0][0] if pairs else 0  # the answer is best first; rounded scores may tie
    return Reading(ClassificationPrediction(np.array([best], dtype=np.int64), scores[None], [metadata]), labels)


def _labels(pairs: Iterable[tuple[int, str]]) -> tuple[str, ...]:
    """Names by class id; an id without a name in the answer gets its number."""
    named = dict(pairs)
    return tuple(named.get(i, str(i)) for i in range(max(named, default=-1) + 1))


def to_depth(body: Mapping[str, Any], meaning: str) -> DepthMap:
    """Parses Hugging Face's depth estimation with ``return_tensor``."""
    values = np.array(body["predicted_depth"], dtype=np.float32)
    height, width = values.shape
    return DepthMap(values, meaning, {"height": height, "width": width})


def to_masks(archive: bytes) -> SAMPrediction:
    """Parses ``/sam/segment_image`` in ``binary``."""
    from pycocotools import mask

    with np.load(io.BytesIO(archive), allow_pickle=False) as found:
        dense, logits = found["masks"], found["low_res_masks"]
        scores = found["scores"] if "scores" in found else np.ones(len(dense), dtype=np.float32)
    height, width = dense.shape[1:]
    counts = [mask.encode(np.asfortranarray(m > 0).astype(np.uint8))["counts"] for m in dense]
    masks = InstancesRLEMasks((height, width), counts)
    return SAMPrediction(scores, masks, None, logits, {"height": height, "width": width})


def to_outlines(body: Mapping[str, Any], metadata: dict[str, int]) -> SAMPrediction:
    """Parses ``/sam/segment_image`` in ``json``, which has no logits."""
    polygons = [np.array(points, dtype=np.int32).reshape(-1, 2) for points in body["masks"]]
    return SAMPrediction(np.array(body["scores"], dtype=np.float32), None, polygons, None, metadata)


def to_every_mask(body: Mapping[str, Any], metadata: dict[str, int]) -> SAMPrediction:
    """Parses Hugging Face's mask generation."""
    from PIL import Image
    from pycocotools import mask

    counts = []
    for text in body["masks"]:
        with Image.open(io.BytesIO(base64.b64decode(text))) as picture:
            counts.append(mask.encode(np.asfortranarray(np.asarray(picture) > 0).astype(np.uint8))["counts"])
    masks = InstancesRLEMasks((metadata["height"], metadata["width"]), counts)
    return SAMPrediction(np.array(body["scores"], dtype=np.float32), masks, image_metadata=metadata)


def to_gaze(
    body: Mapping[str, Any], metadata: dict[str, int]
) -> tuple[KeyPoints, Detections, L2CSGazeDetection]:  # fmt: skip
    """Parses one picture of ``/gaze/gaze_detection``."""
    listed = body["predictions"]
    detections = _to_detections([{"class_id": 0, **p["face"]} for p in listed], metadata)
    points = [[[mark["x"], mark["y"]] for mark in p["face"].get("landmarks", ())] for p in listed]
    xy = np.array(points, dtype=np.float32).reshape(len(listed), len(points[0]) if points else 0, 2)
    angles = (np.array([p[name] for p in listed], dtype=np.float32) for name in ("yaw", "pitch"))
    keypoints = KeyPoints(xy, detections.class_id, np.ones(xy.shape[:2], dtype=np.float32), metadata)
    return keypoints, detections, L2CSGazeDetection(*angles)


def to_vectors(body: Mapping[str, Any]) -> np.ndarray:
    """Parses ``/clip/embed_image``, ``/clip/embed_text`` and ``/infer/embeddings``: float32 ``[n,D]``."""
    return np.array(body["embeddings"], dtype=np.float32)


def as_image(picture: bytes, is_array: bool) -> dict[str, str]:
    """The ``image`` of a request: an encoded picture, or ``.npy`` bytes in RGB, which the routes take in BGR."""
    if not is_array:
        return {"type": "base64", "value": base64.b64encode(picture).decode()}
    stream = io.BytesIO()
    np.save(stream, np.load(io.BytesIO(picture), allow_pickle=False)[..., ::-1], allow_pickle=False)
    return {"type": "numpy", "value": base64.b64encode(stream.getvalue()).decode()}
