"""``.npy`` bytes: what NumPy wrote is read as it was, and no header is evaluated or believed."""

from __future__ import annotations

import io
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from tritonvision.errors import InvalidPicture
from tritonvision.pictures import FLOATS, read_npy, read_npy_header

SHAPES = npst.array_shapes(min_dims=0, max_dims=6, max_side=5)


def saved(array: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version=version, allow_pickle=False)
    return stream.getvalue()


@given(st.sampled_from(["<f2", ">f2", "<f4", ">f4", "<f8", ">f8"]), SHAPES, st.booleans(), st.integers(1, 3), st.data())
def test_arrays_of_any_order_of_axes_and_bytes_are_read(kind, shape, fortran, version, data):
    array = data.draw(npst.arrays(kind, shape, elements=st.floats(-9, 9, width=16)))
    array = np.asfortranarray(array) if fortran else array
    read = read_npy(saved(array, (version, 0)), FLOATS)
    assert read.dtype == array.dtype and np.array_equal(read, array)


@given(npst.arrays(np.uint8, SHAPES))
def test_bytes_are_read(array):
    read = read_npy(saved(array))
    assert read.dtype == np.uint8 and np.array_equal(read, array) and not read.flags.writeable


@pytest.mark.parametrize("array", [
    np.zeros(2, np.int8), np.zeros(2, bool), np.zeros(2, ">u2"), np.zeros(2, complex), np.zeros(2, "U1"),
    np.zeros(2, "M8[s]"), np.zeros(2, [("a", "u1")]),
], ids=lambda array: str(array.dtype))  # fmt: skip
def test_other_types_are_refused_by_what_is_read(array):
    with pytest.raises(InvalidPicture, match="type uint8"):
        read_npy_header(saved(array))
    with pytest.raises(InvalidPicture, match="float16 or float32 or float64"):
        read_npy_header(saved(array), FLOATS)


def test_a_header_that_states_gigabytes_costs_nothing():
    data = saved(np.zeros((256, 256), np.float32)).replace(b"(256, 256), }", b"(99999999,),}")
    tracemalloc.start()
    with pytest.raises(InvalidPicture, match="match its shape"):
        read_npy(data, FLOATS)
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()


@pytest.mark.parametrize("spoil", [
    lambda text: text.replace("'shape'", "'descr': '|u1', 'shape'"), lambda text: text.replace("'descr'", "'other'"),
    lambda text: text.replace("(2, 3)", "(2, 3, )" * 2), lambda text: text.replace("(2, 3)", "[2, 3]"),
    lambda text: text.replace("False", "0"), lambda text: text.replace("(2, 3)", "(-2, -3)"),
    lambda text: text.replace("(2, 3)", "(2, 1 + 2)"), lambda text: text.replace("'|u1'", "__import__('os').name"),
])  # fmt: skip
def test_a_header_is_one_plain_dictionary_or_nothing(spoil):
    text = spoil("{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3), }")
    with pytest.raises(InvalidPicture):
        read_npy(b"\x93NUMPY\x01\0" + len(text).to_bytes(2, "little") + text.encode() + bytes(6))
