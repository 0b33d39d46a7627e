"""Requests and answers of the v2 protocol between JSON with binary data behind it, and Triton's messages."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import orjson
import pybase64
from tritonclient.grpc import service_pb2 as pb

from tritonvision.errors import InvalidParameter
from tritonvision.facade.dialects.kserve.schemas import MOST_AXES, InferRequest, Input

PICTURE = "image"  # the input that holds encoded pictures
_NUMPY = {
    "BOOL": np.bool_, "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64,
    "INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64, "FP16": np.float16, "FP32": np.float32,
    "FP64": np.float64,
}  # fmt: skip
_PYTHON = {"b": (bool,), "i": (int,), "u": (int,), "f": (int, float)}  # elements in JSON, by numpy's kind
_SIZES = {name: np.dtype(kind).itemsize for name, kind in _NUMPY.items()} | {"BF16": 2}
# Parameters of a request that the inference server may see.
_PASSED_ON = ("triton_enable_empty_final_response",)
_SEQUENCES = ("sequence_id", "sequence_start", "sequence_end")


def to_message(ask: InferRequest, binary: bytes) -> Any:
    """The ``ModelInferRequest`` of a request in JSON, with what stands behind the JSON. Raises InvalidParameter."""
    message = pb.ModelInferRequest(id=ask.id)
    for name in ask.parameters:
        _check_parameter(name)
    start = 0
    for tensor in ask.inputs:
        _no_shared_memory(tensor)
        size = _size_behind(tensor)
        raw = _from_json(tensor) if size is None else binary[start : start + size]
        start += size or 0
        message.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        message.raw_input_contents.append(raw)
    if start != len(binary):
        raise InvalidParameter(f"The inputs tell of {start} bytes behind the JSON, and there are {len(binary)}.")
    for output in ask.outputs:
        _no_shared_memory(output)
        added = message.outputs.add(name=output.name)
        classes = output.parameters.get("classification", 0)
        if isinstance(classes, bool) or not isinstance(classes, int) or not 0 <= classes <= 100_000:
            raise InvalidParameter("'classification' is how many classes are told, a whole number.")
        if classes:
            added.parameters["classification"].int64_param = classes
    return message


def checked(message: Any) -> list[bytes]:
    """The pictures of a request, once its tensors are what their shapes and types say. Raises InvalidParameter."""
    if not message.inputs or len(message.raw_input_contents) not in (0, len(message.inputs)):
        raise InvalidParameter("Each input needs its data, all of them in 'raw_input_contents' or none.")
    for name in list(message.parameters):
        _check_parameter(name)
        if name not in _PASSED_ON:
            del message.parameters[name]
    pictures: list[bytes] = []
    for number, tensor in enumerate(message.inputs):
        _no_shared_memory(tensor)
        if not message.raw_input_contents:
            if tensor.name == PICTURE:
                pictures += tensor.contents.bytes_contents
            continue
        raw = message.raw_input_contents[number]
        count = _elements(tensor.shape)
        if tensor.datatype == "BYTES":
            strings = list(_strings(tensor.name, raw))
            if len(strings) != count:
                raise _does_not_fit(tensor.name)
            pictures += strings if tensor.name == PICTURE else []
        elif len(raw) != count * _SIZES.get(tensor.datatype, 0):
            raise _does_not_fit(tensor.name)
    for output in message.outputs:
        _no_shared_memory(output)
    return pictures


def to_json(message: Any, ask: InferRequest) -> tuple[bytes, bytes]:
    """A ``ModelInferResponse`` as JSON, and the binary data that goes behind it.

    Raises:
        InvalidParameter: bytes that are no text were asked for in JSON.
    """
    everything = ask.parameters.get("binary_data_output") is True
    behind = {o.name for o in ask.outputs if o.parameters.get("binary_data", everything) is True}
    outputs, parts = [], []
    for number, tensor in enumerate(message.outputs):
        told = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
        raw = message.raw_output_contents[number]
        if _is_behind(tensor.name, ask, behind, everything):
            told["parameters"] = {"binary_data_size": len(raw)}
            parts.append(raw)
        else:
            told["data"] = _to_list(tensor, raw)
        outputs.append(told)
    answer = {"model_name": message.model_name, "model_version": message.model_version, "outputs": outputs}
    return orjson.dumps(({"id": message.id} if message.id else {}) | answer), b"".join(parts)


def _is_behind(name: str, ask: InferRequest, behind: Collection[str], everything: bool) -> bool:
    return name in behind if ask.outputs else everything


def _size_behind(tensor: Input) -> int | None:
    """How many bytes of an input stand behind the JSON; None where its data are in it."""
    size = tensor.parameters.get("binary_data_size")
    if size is None:
        return None
    if isinstance(size, bool) or not isinstance(size, int) or size < 0 or tensor.data is not None:
        raise InvalidParameter(f"'binary_data_size' of '{tensor.name}' is a number of bytes, and there is no 'data'.")
    return size


def _from_json(tensor: Input) -> bytes:
    """The elements of an input in Triton's raw form."""
    if tensor.data is None:
        raise InvalidParameter(f"The input '{tensor.name}' has no data.")
    if tensor.datatype == "BYTES":
        encoded = tensor.parameters.get("content_type") == "base64"
        return b"".join(struct.pack("<I", len(v)) + v for v in _texts(tensor.name, tensor.data, encoded))
    if tensor.datatype not in _NUMPY:
        raise InvalidParameter(f"'{tensor.name}' of type {tensor.datatype} is taken as binary data only.")
    try:
        kind: np.dtype[Any] = np.dtype(_NUMPY[tensor.datatype])
        values = np.array(tensor.data, dtype=object).reshape(-1).tolist()
        if not all(type(value) in _PYTHON[kind.kind] for value in values):
            raise _does_not_fit(tensor.name)
        if values and kind.kind in "iu" and not np.iinfo(kind).min <= min(values) <= max(values) <= np.iinfo(kind).max:
            raise _does_not_fit(tensor.name)
        return np.array(values, kind).tobytes()
    except (ValueError, OverflowError, TypeError) as error:
        raise _does_not_fit(tensor.name) from error


def _texts(name: str, data: list[Any], encoded: bool, depth: int = 0) -> Iterator[bytes]:
    """The strings of nested lists, in order."""
    if depth > MOST_AXES:
        raise _does_not_fit(name)
    for value in data:
        if isinstance(value, list):
            yield from _texts(name, value, encoded, depth + 1)
        elif not isinstance(value, str):
            raise InvalidParameter(f"'{name}' is of BYTES, and its data are strings.")
        elif encoded:
            try:
                yield pybase64.b64decode(value, validate=True)
            except ValueError as error:
                raise InvalidParameter(f"'{name}' holds what is not valid base64.") from error
        else:
            yield value.encode("utf-8", "surrogatepass")


def _to_list(tensor: Any, raw: bytes) -> list[Any]:
    if tensor.datatype == "BYTES":
        try:
            return [value.decode() for value in _strings(tensor.name, raw)]
        except UnicodeDecodeError as error:
            raise InvalidParameter(
                f"The output '{tensor.name}' is no text.", hint="Ask for it with 'binary_data' in its parameters."
            ) from error
    if tensor.datatype not in _NUMPY:
        raise InvalidParameter(f"The output '{tensor.name}' is given as binary data only.")
    return np.frombuffer(raw, _NUMPY[tensor.datatype]).tolist()


def _strings(name: str, raw: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(raw):
        length = int.from_bytes(raw[start : start + 4], "little")
        if start + 4 + length > len(raw):
            raise _does_not_fit(name)
        yield raw[start + 4 : start + 4 + length]
        start += 4 + length


def _elements(shape: Any) -> int:
    count = 1
    for size in shape:
        if size < 0:
            raise InvalidParameter("A shape has no negative sizes.")
        count *= size
    return count


def _check_parameter(name: str) -> None:
    if name in _SEQUENCES:
        raise InvalidParameter(
            "Sequences are not taken here.",
            hint="Models that follow objects are asked by a WebSocket, /streams/MODEL."
        )


def _no_shared_memory(tensor: Any) -> None:
    if any(name.startswith("shared_memory") for name in tensor.parameters):
        raise InvalidParameter("Shared memory is not taken here.", hint="Send the data of the tensors themselves.")


def _does_not_fit(name: str) -> InvalidParameter:
    return InvalidParameter(f"The data of '{name}' do not fit its shape and datatype.")
