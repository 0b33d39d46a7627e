"""The result types behind the JSON of this server's Roboflow routes: the inverse of the dialect."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from tritonvision.cli.answers import Answer
from tritonvision.results import (
    ClassificationPrediction,
    DepthMap,
    Detections,
    InstanceDetections,
    InstancesRLEMasks,
    KeyPoints,
    L2CSGazeDetection,
    MultiLabelClassificationPrediction,
    SAMPrediction,
)


def to_answer(task: str, body: Mapping[str, Any]) -> Answer:
    """The answer behind the JSON of ``/infer/object_detection`` and its kin."""
    metadata = {"height": body["image"]["height"], "width": body["image"]["width"]}
    listed = body["predictions"]
    if task == "classification":
        return _to_classification(listed, body, metadata)
    labels = _labels((p["class_id"], p["class"]) for p in listed)
    class_id = np.array([p["class_id"] for p in listed], dtype=np.int32)
    centre = np.array([[p["x"], p["y"]] for p in listed], dtype=np.float32).reshape(-1, 2)
    half = np.array([[p["width"], p["height"]] for p in listed], dtype=np.float32).reshape(-1, 2) / 2
    confidence = np.array([p["confidence"] for p in listed], dtype=np.float32)
    xyxy = np.hstack([centre - half, centre + half])
    if task == "instance-segmentation":
        size = metadata["height"], metadata["width"]
        masks = InstancesRLEMasks(size, [p["rle"]["counts"].encode() for p in listed])
        return Answer(InstanceDetections(xyxy, class_id, confidence, metadata, mask=masks), labels)
    detections = Detections(xyxy, class_id, confidence, metadata)
    if task != "keypoint-detection":
        return Answer(detections, labels)
    names = _labels((k["class_id"], k["class"]) for p in listed for k in p["keypoints"])
    xy = np.zeros((len(listed), len(names), 2), dtype=np.float32)
    sure = np.zeros((len(listed), len(names)), dtype=np.float32)  # a point that was left out stays at 0
    for i, prediction in enumerate(listed):
        for k in prediction["keypoints"]:
            xy[i, k["class_id"]] = k["x"], k["y"]
            sure[i, k["class_id"]] = k["confidence"]
    return Answer((KeyPoints(xy, class_id, sure, metadata), detections), labels, names)


def to_named(body: Mapping[str, Any], texts: tuple[str, ...]) -> Answer:
    """The answer behind ``/owlv2/infer`` and ``/grounding_dino/infer``: classes count the texts that were asked."""
    return Answer(to_answer("object-detection", body).result, texts)


def to_page(body: Mapping[str, Any]) -> Answer:
    """The answer behind ``/doctr/ocr`` with ``generate_bounding_boxes``: blocks, lines and words, all certain."""
    found = to_answer("object-detection", body).result
    listed = body["predictions"]
    rows = {region["detection_id"]: i for i, region in enumerate(listed)}
    found.bboxes_metadata = [{"text": p["text"], "parent": rows.get(p.get("parent_id"), -1)} for p in listed]
    return Answer((body["result"], found), ())


def _to_classification(listed, body: Mapping[str, Any], metadata: dict[str, int]) -> Answer:
    if isinstance(listed, dict):  # several labels may hold: every class, by name
        pairs = [(p["class_id"], name, p["confidence"]) for name, p in listed.items()]
    else:
        pairs = [(p["class_id"], p["class"], p["confidence"]) for p in listed]
    labels = _labels((i, name) for i, name, _ in pairs)
    scores = np.zeros(len(labels), dtype=np.float32)
    for i, _, confidence in pairs:
        scores[i] = confidence
    if isinstance(listed, dict):
        chosen = [listed[name]["class_id"] for name in body["predicted_classes"]]
        return Answer(MultiLabelClassificationPrediction(np.array(chosen, dtype=np.int64), scores, metadata), labels)
    return Answer(ClassificationPrediction(np.array([scores.argmax()]), scores[None], [metadata]), labels)


def _labels(pairs) -> tuple[str, ...]:
    """Names by class id; an id that the answer does not name is called by its number."""
    named = dict(pairs)
    return tuple(named.get(i, str(i)) for i in range(max(named, default=-1) + 1))


def to_depth(body: Mapping[str, Any]) -> Answer:
    """The answer behind ``/infer/depth-estimation`` in ``png16``: nearness in 0..1."""
    from PIL import Image

    with Image.open(io.BytesIO(base64.b64decode(body["normalized_depth"]))) as picture:
        values = np.asarray(picture).astype(np.float32) / 65535
    height, width = values.shape
    return Answer(DepthMap(values, "inverse-depth", {"height": height, "width": width}), ())


def to_masks(archive: bytes) -> Answer:
    """The answer behind ``/sam/segment_image`` in ``binary``."""
    from pycocotools import mask

    with np.load(io.BytesIO(archive), allow_pickle=False) as found:
        dense, logits = found["masks"], found["low_res_masks"]
        scores = found["scores"] if "scores" in found else np.ones(len(dense), dtype=np.float32)
    height, width = dense.shape[1:]
    counts = [mask.encode(np.asfortranarray(m > 0).astype(np.uint8))["counts"] for m in dense]
    masks = InstancesRLEMasks((height, width), counts)
    return Answer(SAMPrediction(scores, masks, None, logits, {"height": height, "width": width}), ())


def to_gaze(body: Mapping[str, Any], metadata: dict[str, int]) -> Answer:
    """The answer behind one picture of ``/gaze/gaze_detection``."""
    listed = body["predictions"]
    faces = {"image": metadata, "predictions": [{"class_id": 0, "class": "face", **p["face"]} for p in listed]}
    detections = to_answer("object-detection", faces).result
    points = [[[mark["x"], mark["y"]] for mark in p["face"].get("landmarks", ())] for p in listed]
    xy = np.array(points, dtype=np.float32).reshape(len(listed), len(points[0]) if points else 0, 2)
    angles = (np.array([p[name] for p in listed], dtype=np.float32) for name in ("yaw", "pitch"))
    keypoints = KeyPoints(xy, detections.class_id, np.ones(xy.shape[:2], dtype=np.float32), metadata)
    return Answer((keypoints, detections, L2CSGazeDetection(*angles)), ("face",))
