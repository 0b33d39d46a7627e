"""Tensors between JSON and Triton's messages: every type and shape comes through as it is, and nothing else passes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tritonclient.grpc import service_pb2 as pb

from tritonvision.errors import InvalidParameter
from tritonvision.facade.dialects.kserve import tensors
from tritonvision.facade.dialects.kserve.schemas import InferRequest

TYPES = {name: np.dtype(kind) for name, kind in tensors._NUMPY.items()}
ARRAYS = st.sampled_from(sorted(TYPES)).flatmap(
    lambda name: st.tuples(
        st.just(name),
        arrays.arrays(
            TYPES[name], arrays.array_shapes(min_dims=1, max_dims=3, max_side=4),
            elements={"allow_nan": False, "allow_infinity": False} if TYPES[name].kind == "f" else None,
        ),
    )
)  # fmt: skip


def request_of(name: str, values: np.ndarray, **more) -> InferRequest:
    tensor = {"name": "x", "datatype": name, "shape": list(values.shape), **more}
    return InferRequest.model_validate(json.loads(json.dumps({"inputs": [tensor]})))


@given(ARRAYS, st.booleans())
def test_an_array_comes_through_in_json_nested_or_flat_and_behind_it(pair, flat):
    name, values = pair
    asked = request_of(name, values, data=(values.reshape(-1) if flat else values).tolist())
    message = tensors.to_message(asked, b"")
    assert tensors.checked(message) == [] and message.raw_input_contents[0] == values.tobytes()
    behind = request_of(name, values, parameters={"binary_data_size": values.nbytes})
    assert tensors.to_message(behind, values.tobytes()) == message


@given(ARRAYS)
def test_an_output_comes_back_in_json_and_behind_it(pair):
    name, values = pair
    message = pb.ModelInferResponse(model_name="m")
    message.outputs.add(name="y", datatype=name, shape=values.shape)
    message.raw_output_contents.append(values.tobytes())
    told, behind = tensors.to_json(message, request_of("FP32", np.zeros(0), data=[]))
    (output,) = json.loads(told)["outputs"]
    assert np.array(output["data"], values.dtype).reshape(output["shape"]).tolist() == values.tolist() and behind == b""


@given(st.lists(st.binary(max_size=8), max_size=5), st.integers(0, 40), st.integers(0, 255))
def test_strings_are_counted_and_those_that_are_cut_or_changed_never_crash(strings, place, value):
    raw = b"".join(len(one).to_bytes(4, "little") + one for one in strings)
    message = pb.ModelInferRequest()
    message.inputs.add(name="image", datatype="BYTES", shape=[len(strings)])
    message.raw_input_contents.append(raw)
    assert tensors.checked(message) == strings
    if place < len(raw):
        changed = bytearray(raw)
        changed[place] = value
        for wrong in (bytes(changed), raw[:place]):
            message.raw_input_contents[0] = wrong
            try:
                assert len(tensors.checked(message)) == len(strings)
            except InvalidParameter:
                pass


def test_bytes_that_are_no_text_are_given_as_binary_data_only():
    message = pb.ModelInferResponse(model_name="m")
    message.outputs.add(name="mask", datatype="BYTES", shape=[1])
    message.raw_output_contents.append(b"\x01\0\0\0\xff")
    asked = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [0], "data": []}]}
    with pytest.raises(InvalidParameter, match="The output 'mask' is no text."):
        tensors.to_json(message, InferRequest.model_validate(asked))
    wanted = asked | {"outputs": [{"name": "mask", "parameters": {"binary_data": True}}]}
    assert tensors.to_json(message, InferRequest.model_validate(wanted))[1] == b"\x01\0\0\0\xff"
