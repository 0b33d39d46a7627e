"""Bicubic resizing as a matrix: torch's weights, also where an engine computes all of them in bf16."""

import torch  # isort: skip

import numpy as np
import pytest

from tritonvision.exporters.graphs.export import export_onnx
from tritonvision.exporters.modules import bicubic
from tritonvision.machine import why_not
from tritonvision.python_backend.runtime.engines import open_network

SIDE = 37


def wanted(count, scale=None):
    """torch's own weights, float64 ``[count, SIDE]``: what it makes of a table of ones."""
    table = torch.eye(SIDE, dtype=torch.float64)[None, None]
    how = {"size": (count, SIDE)} if scale is None else {"scale_factor": (scale, 1.0)}
    return torch.nn.functional.interpolate(table, mode="bicubic", **how)[0, 0].numpy()


@pytest.mark.parametrize("count", [1, 2, 20, 36, 37, 38, 53, 300])
@pytest.mark.parametrize("dtype, most", [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_weights_are_torchs_to_any_number_of_values(count, dtype, most):
    found = bicubic.weights(count, SIDE, (count, SIDE), dtype)
    assert found.dtype == dtype
    np.testing.assert_allclose(found.numpy(), wanted(count), rtol=0, atol=most)


@pytest.mark.parametrize("count", [1, 2, 20, 36, 53])
def test_weights_are_torchs_where_the_factor_is_a_little_larger_than_the_sides_tell(count):
    found = bicubic.weights(count, SIDE, (10 * count + 1, 10 * SIDE), torch.float64)
    np.testing.assert_allclose(found.numpy(), wanted(count, (count + 0.1) / SIDE), rtol=0, atol=1e-12)


@pytest.mark.skipif(bool(why_not("openvino", "bf16")), reason=why_not("openvino", "bf16"))
def test_an_engine_that_computes_all_of_it_in_bf16_still_knows_where_each_value_lies(tmp_path):
    class Positions(torch.nn.Module):
        def forward(self, pixels):
            count = pixels.shape[1] // 14
            found = bicubic.weights(count, SIDE, (count, SIDE), torch.float32)
            return found[None].expand(pixels.shape[0], -1, -1) @ (torch.eye(SIDE) + 1e-9)

    export_onnx(
        Positions(), torch.zeros(2, 70, 3, dtype=torch.uint8), tmp_path / "m.onnx", ("pixels",), ("weights",),
        {"pixels": {1: "height"}, "weights": {1: "rows"}},
    )  # fmt: skip
    pixels = {"pixels": np.zeros((1, 14 * 53, 3), np.uint8)}
    found = [open_network(tmp_path / "m.onnx", "openvino", one).run(["weights"], pixels)[0] for one in ("fp32", "bf16")]
    assert np.abs(found[0] - wanted(53)).max() < 1e-5
    assert 0 < np.abs(found[1] - wanted(53)).max() < 0.02
