"""Encodes requests to public models for Triton's gRPC, and decodes the answers to result types."""

from __future__ import annotations

import secrets
import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson
from tritonclient.grpc import service_pb2 as pb

from tritonvision.errors import BrokenModel
from tritonvision.results import (
    ClassificationPrediction,
    Delta,
    DepthMap,
    Detections,
    InstanceDetections,
    InstancesRLEMasks,
    KeyPoints,
    L2CSGazeDetection,
    MultiLabelClassificationPrediction,
    Result,
    SAMImageEmbeddings,
    SAMPrediction,
    TrackedMasks,
)
from tritonvision.tasks import MASK_FORMAT

Sample = Mapping[str, "bytes | Sequence[bytes] | np.ndarray"]
_DTYPES = {
    "FP64": np.float64, "FP32": np.float32, "FP16": np.float16, "INT64": np.int64, "INT32": np.int32,
    "UINT16": np.uint16, "UINT8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip
_NAMES = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}


def encode_chat(
    model: str, pictures: Sequence[bytes], messages: Sequence[Mapping[str, Any]], parameters: Mapping[str, Any]
) -> pb.ModelInferRequest:
    """The request to a model that generates text: messages in OpenAI's form, and their pictures in order."""
    request = pb.ModelInferRequest(model_name=model)
    given = {"image": list(pictures), "messages": [orjson.dumps(messages)], "parameters": [orjson.dumps(parameters)]}
    for name, values in given.items():
        if values:
            request.inputs.add(name=name, datatype="BYTES", shape=(len(values),))
            request.raw_input_contents.append(_strings_of(values))
    return request


def decode_delta(response: pb.ModelInferResponse) -> Delta | None:
    """The text and tokens of one streamed response; None of the empty final response."""
    found = decode_tensors(response)
    if not found:
        return None
    prompt, answer = (int(count) for count in found["usage"])
    text, reason = (found[name][0].decode() for name in ("text", "finish_reason"))
    details = orjson.loads(found["details"][0]) if "details" in found else {}
    return Delta(
        text, found["token_ids"], reason, (prompt, answer), found.get("masks"),
        cached_tokens=details.get("cached_tokens", 0), logprobs=tuple(details.get("logprobs", ())),
    )  # fmt: skip


class SequenceStep(NamedTuple):
    """Where in a sequence of requests one stands, for entry points that remember what came before.

    Attributes:
        id: of the sequence, from 1, unique on the server.
        start, end: whether it is the first, or the last.
    """

    id: int
    start: bool = False
    end: bool = False


def new_sequence() -> int:
    """An id that no other sequence has: 63 random bits."""
    return secrets.randbits(63) or 1


def a_whole_one() -> SequenceStep:
    """The only request of a sequence."""
    return SequenceStep(new_sequence(), start=True, end=True)


def encode(
    model: str, samples: Sequence[Sample], parameters: Sequence[Mapping[str, Any]], outputs: Collection[str] = (),
    sequence: SequenceStep | None = None,
) -> pb.ModelInferRequest:  # fmt: skip
    """The request to ``model`` for a batch of samples.

    Args:
        samples: inputs by name, the same names in each: an encoded picture (or ``.npy`` bytes, RGB) as ``image``, a
            ``text`` in UTF-8, several encoded pictures, or arrays.
        parameters: the settings of each sample.
        outputs: names of the outputs to return; all when empty.
        sequence: where the request stands among those that belong together.
    """
    request = pb.ModelInferRequest(model_name=model)
    _place(request, sequence)
    for name in samples[0]:
        _add(request, name, [sample[name] for sample in samples])
    _add(request, "parameters", [orjson.dumps(dict(given)) for given in parameters])
    for name in outputs:
        request.outputs.add(name=name)
    return request


def _place(request: pb.ModelInferRequest, sequence: SequenceStep | None) -> None:
    if sequence is not None:
        request.parameters["sequence_id"].int64_param = sequence.id
        request.parameters["sequence_start"].bool_param = sequence.start
        request.parameters["sequence_end"].bool_param = sequence.end


def _add(request: pb.ModelInferRequest, name: str, values: Sequence[bytes | Sequence[bytes] | np.ndarray]) -> None:
    if not isinstance(values[0], np.ndarray):
        rows = [[value] if isinstance(value, bytes) else value for value in values]
        request.inputs.add(name=name, datatype="BYTES", shape=(len(rows), len(rows[0])))
        request.raw_input_contents.append(_strings_of([value for row in rows for value in row]))
        return
    _add_numbers(request, name, np.stack(values))


def _add_numbers(request: pb.ModelInferRequest, name: str, batch: np.ndarray) -> None:
    request.inputs.add(name=name, datatype=_NAMES[batch.dtype], shape=batch.shape)
    request.raw_input_contents.append(batch.tobytes())


def encode_tensors(
    model: str, inputs: Mapping[str, np.ndarray], outputs: Collection[str] = (), sequence: SequenceStep | None = None
) -> pb.ModelInferRequest:
    """The request that asks any Triton model, as it declares its tensors: numbers, or byte strings (objects).

    Args:
        outputs: what is wanted; everything when empty.
        sequence: as of :func:`encode`.
    """
    request = pb.ModelInferRequest(model_name=model)
    _place(request, sequence)
    for name, values in inputs.items():
        if values.dtype.kind in "OS":
            request.inputs.add(name=name, datatype="BYTES", shape=values.shape)
            request.raw_input_contents.append(_strings_of([bytes(value) for value in values.reshape(-1)]))
        else:
            _add_numbers(request, name, values)
    for name in outputs:
        request.outputs.add(name=name)
    return request


def decode_tensors(response: pb.ModelInferResponse) -> dict[str, np.ndarray]:
    """Output tensors by name, as the model gave them."""
    return {
        output.name: _array(output, raw)
        for output, raw in zip(response.outputs, response.raw_output_contents, strict=True)
    }


def _strings_of(values: Sequence[bytes]) -> bytes:
    return b"".join(struct.pack("<I", len(v)) + v for v in values)


def decode(response: pb.ModelInferResponse) -> list[dict[str, np.ndarray]]:
    """Output tensors by name, one dictionary a sample. Raises BrokenModel where one holds a NaN or an infinity."""
    batches = decode_tensors(response)
    count = len(next(iter(batches.values())))
    for values in batches.values():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise BrokenModel("The model answered what is no number.", hint="Publish it again with --force.")
    return [{name: batch[i] for name, batch in batches.items()} for i in range(count)]


def _array(output: Any, raw: bytes) -> np.ndarray:
    if output.datatype != "BYTES":
        return np.frombuffer(raw, dtype=_DTYPES[output.datatype]).reshape(output.shape)
    values = np.empty(int(np.prod(output.shape)), dtype=object)
    values[:] = list(_strings(raw))
    return values.reshape(output.shape)


def _strings(raw: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(raw):
        (length,) = struct.unpack_from("<I", raw, start)
        yield raw[start + 4 : start + 4 + length]
        start += 4 + length


def to_result(
    tensors: Mapping[str, np.ndarray], parameters: Mapping[str, Any], *, multi_label: bool = False,
    map_meaning: str = "",
) -> Result:  # fmt: skip
    """The result type of these tensors, which their names tell.

    Args:
        parameters: of the request: the format of masks is one of them.
        multi_label, map_meaning: as the model's manifest has them.
    """
    mask_format = parameters.get("mask_format") or MASK_FORMAT.default
    if "image_size" not in tensors:  # a text has none
        return tensors["embeddings"][None]
    height, width = (int(v) for v in tensors["image_size"])
    metadata = {"height": height, "width": width}
    if "yaw" in tensors:
        if "seconds" in tensors:  # that the face model and the gaze model took
            metadata |= {"seconds": tensors["seconds"].tolist()}
        return *_points(tensors, metadata), L2CSGazeDetection(tensors["yaw"], tensors["pitch"])
    if "keypoints" in tensors:
        return _points(tensors, metadata)
    if "texts" in tensors:
        return _text(tensors), _page(tensors, metadata)
    if "text" in tensors:
        return _text(tensors)
    if "object_ids" in tensors:
        return _tracked(tensors, metadata, mask_format)
    if "boxes" in tensors:
        return _boxes(tensors, metadata, mask_format)
    if "map" in tensors:
        low, high = (float(v) for v in tensors["range"])
        step = np.float32((high - low) / 65535)
        return DepthMap(tensors["map"] * step + np.float32(low), map_meaning, metadata)
    if "masks" in tensors:
        masks, polygons = _masks(tensors["masks"], metadata, mask_format)
        return SAMPrediction(tensors["scores"], masks, polygons, tensors.get("low_res_masks"), metadata)
    if "embeddings" in tensors:
        vectors = tensors["embeddings"]
        if vectors.ndim == 1:
            return vectors[None]
        finer = tuple(tensors[name] for name in sorted(tensors) if name.startswith("high_res_"))
        return SAMImageEmbeddings(vectors, (height, width), finer)
    return _classification(tensors, metadata, multi_label)


def _tracked(tensors: Mapping[str, np.ndarray], metadata: dict[str, int], mask_format: str) -> TrackedMasks:
    frame, kept = (int(tensors[name][0]) for name in ("frame", "state_bytes"))
    masks, polygons = _masks(tensors["masks"], metadata, mask_format)
    return TrackedMasks(frame, tensors["object_ids"], tensors["scores"], masks, polygons, metadata, kept)


def _boxes(tensors: Mapping[str, np.ndarray], metadata: dict[str, int], mask_format: str) -> Detections:
    found = tensors["boxes"], tensors["class_ids"], tensors["scores"], metadata
    if "masks" not in tensors:
        return Detections(*found)
    masks, polygons = _masks(tensors["masks"], metadata, mask_format)
    return InstanceDetections(*found, mask=masks, polygons=polygons)


def _text(tensors: Mapping[str, np.ndarray]) -> str:
    return tensors["text"].reshape(-1)[0].decode()


def _page(tensors: Mapping[str, np.ndarray], metadata: dict[str, int]) -> Detections:
    """Blocks, lines and words, each with its text and the row of what it is a part of; corners of those that turn."""
    more: list[dict[str, Any]] = [
        {"text": text.decode(), "parent": int(parent)}
        for text, parent in zip(tensors["texts"], tensors["parents"], strict=True)
    ]
    for told, polygon in zip(more, tensors.get("polygons", ()), strict=False):
        told["polygon"] = polygon.tolist()
    if "orientation" in tensors:
        metadata = metadata | {"orientation": int(tensors["orientation"][0])}
    return Detections(tensors["boxes"], tensors["class_ids"], tensors["scores"], metadata, more)


def _masks(
    values: np.ndarray, metadata: dict[str, int], mask_format: str
) -> tuple[InstancesRLEMasks | None, list[np.ndarray] | None]:
    if mask_format == "rle":
        return InstancesRLEMasks((metadata["height"], metadata["width"]), list(values)), None
    if mask_format == "polygon":
        return None, [np.frombuffer(points, dtype="<i4").reshape(-1, 2) for points in values]
    return None, None


def _points(tensors: Mapping[str, np.ndarray], metadata: dict[str, int]) -> tuple[KeyPoints, Detections]:
    count = len(tensors["boxes"])
    class_ids = tensors.get("class_ids", np.zeros(count, dtype=np.int32))
    points = tensors["keypoints"]
    certain = np.ones(points.shape[:2], dtype=np.float32)
    detections = Detections(tensors["boxes"], class_ids, tensors["scores"], metadata)
    return KeyPoints(points, class_ids, certain, metadata), detections


def _classification(
    tensors: Mapping[str, np.ndarray], metadata: dict[str, int], multi_label: bool
) -> ClassificationPrediction | MultiLabelClassificationPrediction:
    scores = tensors["scores"]
    if multi_label:
        class_ids = tensors["class_ids"]
        return MultiLabelClassificationPrediction(class_ids[class_ids >= 0].astype(np.int64), scores, metadata)
    return ClassificationPrediction(np.array([scores.argmax()], dtype=np.int64), scores[None], [metadata])
