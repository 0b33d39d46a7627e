"""A TFLite file of one convolution, written field by field: a kernel in half precision, made float32, and a bias."""

from __future__ import annotations

import flatbuffers
import numpy as np

CONV_2D, DEQUANTIZE = 3, 6
FLOAT32, FLOAT16 = 0, 1


def small_tflite() -> bytes:
    """Picture ``[1,4,4,1]`` to ``[1,4,4,1]`` under the name ``out``; padding SAME, stride 1, a ReLU in it."""
    builder = flatbuffers.Builder(1024)
    kernel, bias = np.ones((1, 3, 3, 1), np.float16), np.zeros(1, np.float32)
    buffers = [_table(builder, {0: _bytes(builder, data)}) for data in (b"", kernel.tobytes(), bias.tobytes())]
    tensors = [
        _tensor(builder, "in", (1, 4, 4, 1), FLOAT32, 0), _tensor(builder, "half", (1, 3, 3, 1), FLOAT16, 1),
        _tensor(builder, "kernel", (1, 3, 3, 1), FLOAT32, 0), _tensor(builder, "bias", (1,), FLOAT32, 2),
        _tensor(builder, "out", (1, 4, 4, 1), FLOAT32, 0),
    ]  # fmt: skip
    builder.StartObject(4)
    builder.PrependInt32Slot(1, 1, 0)  # stride_w
    builder.PrependInt32Slot(2, 1, 0)  # stride_h
    builder.PrependInt8Slot(3, 1, 0)  # a ReLU
    options = builder.EndObject()
    operators = [
        _operator(builder, 1, (1,), (2,)), _operator(builder, 0, (0, 2, 3), (4,), options),
    ]  # fmt: skip
    subgraph = _table(builder, {
        0: _offsets(builder, tensors), 1: _numbers(builder, (0,)), 2: _numbers(builder, (4,)),
        3: _offsets(builder, operators),
    })  # fmt: skip
    codes = []
    for code in (CONV_2D, DEQUANTIZE):
        builder.StartObject(4)
        builder.PrependInt8Slot(0, code, 0)
        builder.PrependInt32Slot(3, code, 0)
        codes.append(builder.EndObject())
    model = {1: _offsets(builder, codes), 2: _offsets(builder, [subgraph]), 4: _offsets(builder, buffers)}
    builder.Finish(_table(builder, model), b"TFL3")
    return bytes(builder.Output())


def _table(builder: flatbuffers.Builder, fields: dict[int, int]) -> int:
    builder.StartObject(5)
    for slot, offset in fields.items():
        builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    return builder.EndObject()


def _bytes(builder: flatbuffers.Builder, data: bytes) -> int:
    return builder.CreateByteVector(data)


def _numbers(builder: flatbuffers.Builder, numbers: tuple[int, ...]) -> int:
    return builder.CreateNumpyVector(np.array(numbers, np.int32))


def _offsets(builder: flatbuffers.Builder, offsets: list[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


def _tensor(builder: flatbuffers.Builder, name: str, shape: tuple[int, ...], kind: int, buffer: int) -> int:
    text, sizes = builder.CreateString(name), _numbers(builder, shape)
    builder.StartObject(4)
    builder.PrependUOffsetTRelativeSlot(0, sizes, 0)
    builder.PrependInt8Slot(1, kind, 0)
    builder.PrependUint32Slot(2, buffer, 0)
    builder.PrependUOffsetTRelativeSlot(3, text, 0)
    return builder.EndObject()


def _operator(
    builder: flatbuffers.Builder, code: int, inputs: tuple[int, ...], outputs: tuple[int, ...], options: int = 0
) -> int:
    into, out_of = _numbers(builder, inputs), _numbers(builder, outputs)
    builder.StartObject(5)
    builder.PrependUint32Slot(0, code, 0)
    builder.PrependUOffsetTRelativeSlot(1, into, 0)
    builder.PrependUOffsetTRelativeSlot(2, out_of, 0)
    builder.PrependUint8Slot(3, 1 if options else 0, 0)
    builder.PrependUOffsetTRelativeSlot(4, options, 0)
    return builder.EndObject()
