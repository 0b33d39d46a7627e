"""Requests and answers of the public models on Triton's gRPC wire, and the result types they stand for."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
from tritonclient.grpc import service_pb2 as pb

from tritonvision.results import (
    ClassificationPrediction,
    Detections,
    KeyPoints,
    MultiLabelClassificationPrediction,
    Result,
)

_DTYPES = {
    "FP64": np.float64, "FP32": np.float32, "FP16": np.float16, "INT64": np.int64, "INT32": np.int32,
    "UINT8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip


def encode(model: str, picture: bytes, parameters: Mapping[str, Any]) -> pb.ModelInferRequest:
    """The request that asks ``model`` about one encoded picture (or ``.npy`` bytes, RGB)."""
    request = pb.ModelInferRequest(model_name=model)
    for name, value in (("image", picture), ("parameters", orjson.dumps(dict(parameters)))):
        request.inputs.add(name=name, datatype="BYTES", shape=(1, 1))
        request.raw_input_contents.append(struct.pack("<I", len(value)) + value)
    return request


def decode(response: pb.ModelInferResponse) -> dict[str, np.ndarray]:
    """Output tensors of one sample, by name, without the batch axis."""
    return {
        output.name: np.frombuffer(raw, dtype=_DTYPES[output.datatype]).reshape(output.shape)[0]
        for output, raw in zip(response.outputs, response.raw_output_contents, strict=True)
    }


def to_result(tensors: Mapping[str, np.ndarray], multi_label: bool = False) -> Result:
    """The result type whose tensors these are; the head kinds name their outputs apart."""
    height, width = (int(v) for v in tensors["image_size"])
    metadata = {"height": height, "width": width}
    if "boxes" not in tensors:
        return _classification(tensors, metadata, multi_label)
    detections = Detections(tensors["boxes"], tensors["class_ids"], tensors["scores"], metadata)
    if "keypoints" not in tensors:
        return detections
    points = tensors["keypoints"]
    certain = np.ones(points.shape[:2], dtype=np.float32)
    return KeyPoints(points, tensors["class_ids"], certain, metadata), detections


def _classification(
    tensors: Mapping[str, np.ndarray], metadata: dict[str, int], multi_label: bool
) -> ClassificationPrediction | MultiLabelClassificationPrediction:
    scores = tensors["scores"]
    if multi_label:
        return MultiLabelClassificationPrediction(tensors["class_ids"].astype(np.int64), scores, metadata)
    return ClassificationPrediction(np.array([scores.argmax()], dtype=np.int64), scores[None], [metadata])
