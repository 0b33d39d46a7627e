"""Protobuf's encoding as its own library reads and writes it."""

import io

import pytest
from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto

from tritonvision.exporters.graphs import wire

TENSOR = TensorProto(
    name="weight", data_type=TensorProto.FLOAT, dims=[300, 2], raw_data=bytes(2400), float_data=[1.5], double_data=[2.5]
)
DATA = TENSOR.SerializeToString()


@pytest.mark.parametrize("number", [0, 1, 127, 128, 300, 2**31, 2**35 - 1])
@pytest.mark.parametrize("size", [0, 5])
def test_numbers_are_read_as_they_were_written_in_as_much_room_as_is_wanted(number, size):
    data = wire.varint(number, size)
    assert len(data) >= size
    assert ModelProto.FromString(b"\x28" + data).model_version == number


def test_the_fields_of_a_message_are_its_bytes_piece_by_piece():
    found = list(wire.fields(io.BytesIO(DATA), len(DATA)))
    assert b"".join(DATA[start:stop] for _, start, _, stop in found) == DATA
    values = {number: DATA[begin:stop] for number, _, begin, stop in found}
    assert values[wire.number_of(TensorProto, "name")] == b"weight"
    assert values[wire.number_of(TensorProto, "raw_data")] == TENSOR.raw_data
    assert DATA.count(wire.key(wire.number_of(TensorProto, "name")) + wire.varint(6) + b"weight") == 1


@pytest.mark.parametrize("data", [DATA[:-1], b"\x08", b"\x08" + b"\xff" * 11, b"\x0b", b"\x0a\x05abc", b"\xff"])
def test_what_is_no_message_is_refused(data):
    with pytest.raises(DecodeError):
        list(wire.fields(io.BytesIO(data), len(data)))
