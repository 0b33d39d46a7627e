"""Graphs that carry their precision, made by NVIDIA's Model Optimizer, computed by ONNX Runtime."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto

from tritonvision.errors import ExportFailed, NotSupported
from tritonvision.exporters.graphs.export import export_onnx
from tritonvision.exporters.modules.normalise import IMAGENET, normalising
from tritonvision.exporters.tensorrt import typed

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype(np.uint8)


class Small(torch.nn.Module):
    """Pixels normalised, three layers of ``width`` channels, and scores decoded from their answer."""

    def __init__(self, width=32):
        torch.manual_seed(0)
        super().__init__()
        self.normalise = normalising(IMAGENET)
        self.first, self.second = torch.nn.Conv2d(3, width, 3, 2), torch.nn.Conv2d(width, width, 3, 2)
        self.norm, self.last = torch.nn.LayerNorm(49 * width), torch.nn.Linear(49 * width, 20)

    def forward(self, pixels):
        features = torch.relu(self.second(torch.relu(self.first(self.normalise(pixels)))))
        logits = self.last(self.norm(features.flatten(1)))
        return logits, torch.softmax(logits, 1)


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    return exported(Small(), tmp_path_factory.mktemp("graph") / "model.onnx")


def exported(network, path):
    export_onnx(network, torch.from_numpy(PIXELS[:2]), path, ("pixels",), ("logits", "scores"))
    return path


def answers(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"pixels": PIXELS})


@pytest.mark.parametrize("precision, nearness", [("fp16", 0.01), ("int8", 0.15)])
def test_a_typed_graph_takes_and_gives_what_the_fp32_one_does_and_computes_nearly_the_same(
    graph, tmp_path, precision, nearness
):
    typed.write(graph, tmp_path / "typed.onnx", precision, {"pixels": PIXELS})
    before, after = onnx.load(graph).graph, onnx.load(tmp_path / "typed.onnx").graph
    for old, new in zip((*before.input, *before.output), (*after.input, *after.output), strict=True):
        assert (old.name, old.type.tensor_type.elem_type) == (new.name, new.type.tensor_type.elem_type)
    reference, candidate = answers(graph)[0], answers(tmp_path / "typed.onnx")[0]
    difference = np.abs(reference - candidate).max() / np.abs(reference).max()
    assert 1e-7 < difference < nearness


@pytest.mark.parametrize("precision, stored", [("fp16", TensorProto.FLOAT16), ("bf16", TensorProto.BFLOAT16)])
def test_layers_are_stored_in_the_precision_and_what_a_policy_names_is_not(graph, tmp_path, precision, stored):
    typed.write(graph, tmp_path / "all.onnx", precision, {"pixels": PIXELS})
    found = typed.write(graph, tmp_path / "but.onnx", precision, {"pixels": PIXELS}, ["/second/"])
    assert found.kept.count("/second/Conv") == 1
    assert [name.split("/")[1] for name in found.layers] == ["first", "last"]
    assert weights(tmp_path / "all.onnx") == {"first": stored, "second": stored}
    assert weights(tmp_path / "but.onnx") == {"first": stored, "second": TensorProto.FLOAT}


def weights(path):
    """The type of each convolution's weights."""
    model = onnx.load(path).graph
    types = {tensor.name: tensor.data_type for tensor in model.initializer}
    return {node.name.split("/")[1]: types[node.input[1]] for node in model.node if node.op_type == "Conv"}


def test_fp8_carries_nodes_that_quantise(graph, tmp_path):
    typed.write(graph, tmp_path / "typed.onnx", "fp8", {"pixels": PIXELS})
    model = onnx.load(tmp_path / "typed.onnx").graph
    assert sum(node.op_type == "DequantizeLinear" for node in model.node) >= 2


def test_a_graph_without_a_layer_to_quantise_is_refused(tmp_path):
    with pytest.raises(ExportFailed, match="No layer of the graph is of a kind or size that is computed in fp8"):
        narrow = exported(Small(width=4), tmp_path / "model.onnx")
        typed.write(narrow, tmp_path / "typed.onnx", "fp8", {"pixels": PIXELS})


def test_what_stands_before_the_first_and_behind_the_last_layer_stays_in_fp32(graph):
    kept = typed.operators(onnx.load(graph).graph, ()).kept
    operators = [name.split("/")[-1] for name in kept]
    assert operators[0].startswith("Cast") and operators[-1].startswith("Softmax")
    assert not [name for name in kept if "Conv" in name or "Relu" in name or "Gemm" in name]


def test_a_precision_that_is_none_is_refused(graph, tmp_path):
    with pytest.raises(NotSupported, match="no precision 'int4'"):
        typed.write(graph, tmp_path / "typed.onnx", "int4", {"pixels": PIXELS})
