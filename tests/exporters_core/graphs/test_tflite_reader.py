"""Reading TFLite without TFLite."""

import collections

import numpy as np
import pytest
from small_tflite import small_tflite

from tritonvision.errors import ExportFailed
from tritonvision.exporters.families.mediapipe_face import FILE
from tritonvision.exporters.graphs import tflite_reader


def test_the_face_model_reads_as_the_operators_it_is_made_of(network):
    kinds = collections.Counter(operator.kind for operator in network.graph.operators)
    assert kinds == {
        "CONV_2D": 21, "DEPTHWISE_CONV_2D": 16, "RELU": 17, "ADD": 16, "PAD": 11, "MAX_POOL_2D": 3, "RESHAPE": 4,
        "CONCATENATION": 2,
    }  # fmt: skip
    assert network.graph.shapes[network.graph.input] == (1, 128, 128, 3)
    assert set(network.graph.outputs) == {"regressors", "classificators"}


def test_half_precision_weights_are_read_as_float32(network):
    kernels = [network.graph.constants[o.inputs[1]] for o in network.graph.operators if o.kind == "CONV_2D"]
    assert all(kernel.dtype == np.float32 and kernel.std() > 0 for kernel in kernels)
    assert all(np.array_equal(kernel, kernel.astype(np.float16)) for kernel in kernels)


def test_options_are_read_by_name(network):
    first = network.graph.operators[0]
    assert first.kind == "CONV_2D"
    assert first.options == {
        "padding": 0, "stride_w": 2, "stride_h": 2, "activation": 0, "dilation_w": 1, "dilation_h": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "dilation", "expected"),
    [(128, 5, 2, 1, (1, 2)), (64, 3, 1, 1, (1, 1)), (64, 2, 2, 1, (0, 0)), (9, 3, 2, 1, (1, 1)), (10, 3, 1, 2, (2, 2))],
)
def test_same_padding_puts_the_odd_zero_at_the_end(size, kernel, stride, dilation, expected):
    assert tflite_reader.same_padding(size, kernel, stride, dilation, padding=0) == expected
    assert tflite_reader.same_padding(size, kernel, stride, dilation, padding=1) == (0, 0)


def test_what_is_no_tflite_file_is_refused():
    for data in (b"", b"TFL3", b"\x00" * 64):
        with pytest.raises(ExportFailed, match="not a TFLite model"):
            tflite_reader.read(data)


@pytest.mark.parametrize("keep", [8, 20, 500, 10_000, 200_000])
def test_a_truncated_file_is_refused_in_a_sentence(keep):
    with pytest.raises(ExportFailed):
        tflite_reader.read(FILE.fetch()[:keep])


def test_damaged_bytes_never_escape_as_anything_but_a_sentence():
    data, rng = FILE.fetch(), np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(data)
        for position in rng.integers(8, len(data), 400):
            damaged[position] = rng.integers(256)
        try:
            tflite_reader.read(bytes(damaged))
        except ExportFailed as error:
            assert "\n" not in error.message


def test_an_operator_that_reads_what_is_not_there_is_damage():
    data = bytearray(small_tflite())
    half = data.index(np.ones(9, np.float16).tobytes())
    data[half - 4 : half] = bytes(4)  # the kernel in half precision has no bytes
    with pytest.raises(ExportFailed, match="damaged"):
        tflite_reader.read(bytes(data))


def test_an_unknown_operator_is_named():
    with pytest.raises(ExportFailed, match="operator 99"):
        tflite_reader._known(tflite_reader._OPERATORS, 99, "operator")
