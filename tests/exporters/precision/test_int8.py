"""int8 by NNCF: what passes its gate is written, a layer that cannot be quantised is found and kept in fp32."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import onnx
import openvino
import pytest
from onnx import TensorProto, helper, numpy_helper
from unfit_network import network

from tritonvision.ensembles.entry_points import Chain
from tritonvision.ensembles.in_process import open_entry_point
from tritonvision.ensembles.preprocessing import Resize
from tritonvision.ensembles.schemas import EMBEDDINGS
from tritonvision.errors import ExportFailed
from tritonvision.exporters.pipeline import Quiet
from tritonvision.exporters.precision import calibration, gate, layers, pictures, quantize
from tritonvision.python_backend.runtime.openvino_session import REST

PRE = Resize("stretch", 32, 32)
FP32, INT8 = Chain(PRE, EMBEDDINGS), Chain(PRE, EMBEDDINGS, engine="openvino", precision="int8")


@pytest.fixture
def published(tmp_path):
    """``published(unfit) -> (graphs, inputs, judge)`` of a small model."""

    def make(unfit=None):
        graphs = {"": network(tmp_path / "model.onnx", unfit)}
        base = {"": open_entry_point(graphs, FP32)}
        calibrating, judging = pictures.halves(pictures.structured())
        tested = gate.Gate(base, [FP32], pictures=judging)
        inputs = calibration.inputs([FP32], base, calibrating)
        return graphs, inputs, lambda files: tested.check({"": open_entry_point(files, INT8)}, "openvino-int8")

    return make


def test_a_network_that_bears_it_is_written_in_int8(published, tmp_path):
    graphs, inputs, judge = published()
    found = quantised(graphs, inputs, tmp_path, judge, Quiet())
    assert found.kept_fp32 == () and found.result.shown == "agreement" and found.result.figures["cosine"] >= 0.999
    weights = found.files[""].with_suffix(".bin").stat().st_size
    assert 0.25 <= weights / graphs[""].stat().st_size <= 0.35
    assert len(inputs[""]) == 20 and inputs[""][0]["pixels"].shape == (1, 32, 32, 3)


@pytest.mark.parametrize(("operation", "kept", "said"), [
    ("MatMul", (), True), ("MatMul", ("MatMul1",), False), ("Conv", (), False),
])  # fmt: skip
def test_what_a_transformer_has_left_may_be_bf16_unless_a_layer_was_kept_in_fp32(tmp_path, operation, kept, said):
    rng, shape = np.random.default_rng(0), {"MatMul": (64, 64), "Conv": (64, 64, 1, 1)}[operation]
    dims = (1, 64) if operation == "MatMul" else (1, 64, 1, 1)
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name in ("x0", "x2")]
    nodes = [helper.make_node(operation, [f"x{i}", f"w{i}"], [f"x{i + 1}"], name=f"{operation}{i}") for i in range(2)]
    weights = [numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), f"w{i}") for i in range(2)]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "g.onnx")
    inputs = [{"x0": rng.standard_normal(dims).astype(np.float32)} for _ in range(4)]
    quantize.int8(tmp_path / "g.onnx", inputs, tmp_path / "g.xml", kept)
    assert openvino.Core().read_model(tmp_path / "g.xml").has_rt_info(REST) is said


def quantised(graphs, inputs, folder, judge, progress, **options):
    def write(role, target, kept):
        return quantize.int8(graphs[role], inputs[role], target, kept)

    return layers.reduced(write, graphs, folder, judge, progress, **options)


class Told(Quiet):
    """Keeps what a person would read."""

    def __init__(self):
        self.sentences = []

    def notice(self, sentence):
        self.sentences.append(sentence)


def test_the_one_layer_that_does_not_bear_it_is_found_and_kept(published, tmp_path):
    graphs, inputs, judge = published(unfit=3)
    told = Told()
    found = quantised(graphs, inputs, tmp_path, judge, told)
    assert found.kept_fp32 == ("conv3",) and found.result.figures["cosine"] >= 0.999
    assert "must be at least 0.999. Looking for the layers to keep in fp32: 16 tries at most" in told.sentences[0]


def test_without_a_search_the_first_refusal_stands(published, tmp_path):
    graphs, inputs, judge = published(unfit=3)
    with pytest.raises(gate.Imprecise, match="openvino-int8 does not do what fp32 does: The smallest cosine"):
        quantised(graphs, inputs, tmp_path, judge, Quiet(), tries=0)


def test_what_no_layer_is_to_blame_for_is_refused(published, tmp_path):
    graphs, inputs, _ = published()
    told = Told()
    with pytest.raises(gate.Imprecise):
        quantised(graphs, inputs, tmp_path, refuse, told, tries=3)
    assert told.sentences[1] == "No more than 50% of the layers in fp32 were found to be enough."


def refuse(files):
    """A gate that nothing passes."""
    raise gate.Imprecise("openvino-int8", [])


def test_quantising_says_nothing_on_the_terminal(published, tmp_path, capfd):
    graphs, inputs, _ = published()
    quantize.int8(graphs[""], inputs[""], tmp_path / "model.xml")
    assert capfd.readouterr() == ("", "")


def test_what_is_no_network_is_refused_in_one_sentence(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(ExportFailed, match="^OpenVINO cannot read this network.$"):
        quantize.int8(tmp_path / "model.onnx", [{}], tmp_path / "model.xml")


QUANTISE = """
import os, socket, sys
from pathlib import Path

import numpy as np

from tritonvision.exporters.precision import quantize


def forbidden(*asked, **named):
    print("a connection", file=sys.stderr)
    os._exit(9)


socket.socket.connect = socket.getaddrinfo = forbidden
network, target = Path(sys.argv[1]), Path(sys.argv[2])
quantize.int8(network, [{"pixels": np.zeros((1, 32, 32, 3), np.uint8)}], target)
"""


def test_quantising_reports_to_nobody(tmp_path):
    """In a process of its own: NNCF reports nothing where pytest runs."""
    home = tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", QUANTISE, network(tmp_path / "model.onnx"), tmp_path / "model.xml"],
        capture_output=True, text=True, check=False, env={**os.environ, "HOME": str(home)},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert (tmp_path / "model.bin").is_file() and list(home.rglob("*")) == []
