"""Run lengths are read as COCO reads them, and only where they cover the picture exactly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from pycocotools import mask as coco

from tritonvision import run_lengths
from tritonvision.results import InstancesRLEMasks

MASKS = npst.arrays(bool, npst.array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.booleans())


def counts_of(mask: np.ndarray) -> bytes:
    return coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]


@given(MASKS)
def test_every_mask_comes_back(mask):
    np.testing.assert_array_equal(run_lengths.decode(counts_of(mask), *mask.shape), mask)


@pytest.mark.parametrize("mask", [
    np.zeros((3000, 2000), bool), np.ones((3000, 2000), bool), np.eye(700, dtype=bool),
    np.arange(600 * 401).reshape(600, 401) % 401 == 0,
], ids=["nothing", "everything", "a diagonal", "a column"])  # fmt: skip
def test_long_runs_and_many_come_back_too(mask):
    np.testing.assert_array_equal(run_lengths.decode(counts_of(mask), *mask.shape), mask)


@given(MASKS, st.data())
def test_runs_that_end_too_early_or_too_late_are_refused_and_nothing_is_made_up(mask, data):
    counts = counts_of(mask)
    for spoilt in (counts[: data.draw(st.integers(0, len(counts) - 1))], counts + b"1", b"0" * 1000):
        with pytest.raises(ValueError, match="run length"):
            run_lengths.decode(spoilt, *mask.shape)


@pytest.mark.parametrize("counts", [
    b"", b"\0", b"/", b"\xff" * 9, b"o" * 1000, b"P" * 100, "é".encode(), b"_" * 6 + b"0", b"o", b"N1", b"_o3",
])  # fmt: skip
def test_what_is_no_run_length_is_refused(counts):
    with pytest.raises(ValueError, match="run length"):
        InstancesRLEMasks((4, 4), [counts]).to_dense()
