"""Published models in one process: the pipeline is the same, whichever engine runs its network."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tritonvision.ensembles.entry_points import Chain
from tritonvision.ensembles.in_process import LocalPipeline, open_entry_point
from tritonvision.ensembles.preprocessing import Resize
from tritonvision.ensembles.schemas import EMBEDDINGS

PICTURE = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
PRE = Resize("stretch", 8, 8)


@pytest.fixture
def graph(tmp_path):
    """The mean of each colour of uint8 pixels ``[B,8,8,3]``, float32 ``[B,3]``."""
    pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["B", 8, 8, 3])
    mean = helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["B", 3])
    nodes = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats"], ["embeddings"], axes=[1, 2], keepdims=0),
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "means", [pixels], [mean]), opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    )
    onnx.save(model, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_a_chain_says_which_engine_runs_its_network(graph):
    on_onnxruntime, on_openvino = (
        open_entry_point({"": graph}, Chain(PRE, EMBEDDINGS, engine=engine)) for engine in ("onnxruntime", "openvino")
    )
    assert type(on_openvino.session).__name__ == "OpenVinoSession"
    expected, found = on_onnxruntime(PICTURE)["embeddings"], on_openvino(PICTURE)["embeddings"]
    assert np.allclose(found, expected, atol=1e-4) and expected.std() > 0


def test_a_pipeline_is_onnxruntimes_where_nobody_says_otherwise(graph):
    assert type(LocalPipeline(graph, PRE, EMBEDDINGS).session).__name__ == "InferenceSession"
