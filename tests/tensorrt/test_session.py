"""A plan opened in a process, where there is no driver to run it: Polygraphy's own calls, and a sentence."""

import sys

import pytest

from tritonvision.errors import BrokenModel
from tritonvision.python_backend.runtime import tensorrt_session


def test_a_file_that_cannot_be_loaded_is_a_broken_model(trt, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorrt", trt)  # Polygraphy asks for the module of this name
    (tmp_path / "tensorrt-fp16.plan").write_bytes(b"not a plan")
    with pytest.raises(BrokenModel, match="TensorRT cannot load the plan"):
        tensorrt_session.open_session(tmp_path / "tensorrt-fp16.plan")
