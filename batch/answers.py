"""Result types as JSON and back, without loss: what a part of a batch holds about a picture."""

from __future__ import annotations

import base64
import dataclasses
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson

from tritonvision import results
from tritonvision.errors import InvalidParameter
from tritonvision.results import Result

_LONG = 4096  # numbers; longer arrays are written as bytes
_KINDS: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        results.Detections, results.InstanceDetections, results.KeyPoints, results.ClassificationPrediction,
        results.MultiLabelClassificationPrediction, results.L2CSGazeDetection, results.DepthMap, results.SAMPrediction,
        results.InstancesRLEMasks,
    )
}  # fmt: skip
# dtype and shape of the arrays that are written as lists, where a list does not tell: an empty one has no shape
_ARRAYS: dict[str, tuple[str, tuple[int, ...]]] = {
    "xyxy": ("float32", (0, 4)), "class_id": ("int32", (0,)), "confidence": ("float32", (0,)),
    "xy": ("float32", (0, 0, 2)), "class_ids": ("int64", (0,)), "yaw": ("float32", (0,)), "pitch": ("float32", (0,)),
    "scores": ("float32", (0,)), "values": ("float32", (0, 0)), "vector": ("float32", (0,)),
    "polygon": ("int32", (0, 2)), "logits": ("float32", (0, 256, 256)),
}  # fmt: skip


def to_json(result: Result, labels: Sequence[str]) -> str:
    """A result as JSON: its type's name under ``type``, then the type's own fields; of a pair or three, a list.

    Beside class ids stand the names of the classes, ``class_name``. Arrays of more than 4096 numbers, and empty ones
    whose shape a list would lose (key points of nobody), are ``{"dtype", "shape", "zlib"}``, the last the compressed
    bytes in base64. A text is ``{"type": "text", "text"}``, a
    vector ``{"type": "vector", "vector"}``.
    """
    return orjson.dumps(_plain(result, labels), option=orjson.OPT_SERIALIZE_NUMPY).decode()


def from_json(text: str) -> Result:
    """The result that :func:`to_json` wrote. Raises InvalidParameter for anything else."""
    try:
        return _result(orjson.loads(text))
    except (ValueError, KeyError, TypeError, zlib.error) as error:
        raise InvalidParameter("This is no answer of a batch.") from error


def _plain(value: Any, labels: Sequence[str]) -> Any:
    if isinstance(value, tuple):
        return [_plain(one, labels) for one in value]
    if isinstance(value, str):
        return {"type": "text", "text": value}
    if isinstance(value, np.ndarray):
        return {"type": "vector", "vector": _array("vector", value)}
    told: dict[str, Any] = {"type": type(value).__name__}
    for field in dataclasses.fields(value):
        told[field.name] = _field(field.name, getattr(value, field.name))
        if field.name in ("class_id", "class_ids") and labels:
            ids = getattr(value, field.name).tolist()
            told["class_name"] = [labels[i] if i < len(labels) else None for i in ids]
    return told


def _field(name: str, value: Any) -> Any:
    if isinstance(value, results.InstancesRLEMasks):
        masks = [mask.decode() for mask in value.masks]
        return {"type": "InstancesRLEMasks", "image_size": list(value.image_size), "masks": masks}
    if isinstance(value, np.ndarray):
        return _array(name, value)
    if isinstance(value, list) and value and isinstance(value[0], np.ndarray):
        return [_array("polygon", one) for one in value]
    return value


def _array(name: str, value: np.ndarray) -> Any:
    value = np.ascontiguousarray(value)
    if 0 < value.size <= _LONG or value.shape == _ARRAYS[name][1]:
        return value
    packed = base64.b64encode(zlib.compress(value.tobytes(), 1)).decode()
    return {"dtype": value.dtype.str, "shape": list(value.shape), "zlib": packed}


def _result(told: Any) -> Any:
    if isinstance(told, list):
        return tuple(_result(one) for one in told)
    if told["type"] == "text":
        return told["text"]
    if told["type"] == "vector":
        return _read_array("vector", told["vector"])
    kind = _KINDS[told["type"]]
    return kind(**{field.name: _read(told["type"], field.name, told[field.name]) for field in dataclasses.fields(kind)})


def _read(kind: str, name: str, value: Any) -> Any:
    if kind == "ClassificationPrediction" and name == "class_id":
        return np.asarray(value, np.int64)
    if name == "mask" or (name == "masks" and isinstance(value, dict)):
        return None if value is None else _masks(value)
    if name == "polygons":
        return None if value is None else [_read_array("polygon", one) for one in value]
    return _read_array(name, value) if name in _ARRAYS and value is not None else value


def _masks(told: dict[str, Any]) -> results.InstancesRLEMasks:
    height, width = told["image_size"]
    return results.InstancesRLEMasks((height, width), [mask.encode() for mask in told["masks"]])


def _read_array(name: str, told: Any) -> np.ndarray:
    if isinstance(told, dict):
        packed = zlib.decompress(base64.b64decode(told["zlib"]))
        return np.frombuffer(packed, np.dtype(told["dtype"])).reshape(told["shape"]).copy()
    dtype, empty = _ARRAYS[name]
    return np.asarray(told, dtype) if told else np.zeros(empty, dtype)
