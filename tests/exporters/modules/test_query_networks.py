"""Functions in numpy that the reference pipelines of detectors with queries share."""

import numpy as np
import pytest

from tritonvision.exporters.modules import query_networks


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_corners_are_half_the_size_from_the_centre(dtype):
    boxes = np.array([[[0.5, 0.25, 0.25, 0.5], [0.0, 0.0, 1.0, 0.5]]], dtype)
    found = query_networks.corners(boxes)
    assert found.dtype == dtype
    assert found.tolist() == [[[0.375, 0.0, 0.625, 0.5], [-0.5, -0.25, 0.5, 0.25]]]
