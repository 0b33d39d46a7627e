"""A network that answers NaN is found out where it runs: a postprocessor would make an empty answer of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tritonvision.errors import BrokenModel
from tritonvision.python_backend.runtime.numbers import require_numbers
from tritonvision.python_backend.runtime.sessions import Sessions


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_one_nan_among_many_numbers_is_found(dtype):
    values = np.full((2, 3, 1000), np.finfo(dtype).max, dtype)  # squares that overflow are no NaN
    require_numbers([np.zeros(0, dtype), np.zeros((2, 3), np.int64), values])
    values[1, 2, 999] = np.nan
    with pytest.raises(BrokenModel):
        require_numbers([values])


def test_infinities_pass_for_networks_mask_with_them():
    require_numbers([np.array([-np.inf, np.inf, 0], np.float32)])


def test_a_session_whose_graph_answers_nan_raises(tmp_path: Path):
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in "xy"]
    body = helper.make_graph([helper.make_node("Log", ["x"], ["y"])], "g", ports[:1], ports[1:])
    onnx.save(helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    sessions = Sessions({"": tmp_path / "m.onnx"})
    assert sessions("", {"x": np.ones((1, 2), np.float32)}, ["y"])["y"].tolist() == [[0, 0]]
    with pytest.raises(BrokenModel):
        sessions("", {"x": -np.ones((1, 2), np.float32)}, ["y"])
