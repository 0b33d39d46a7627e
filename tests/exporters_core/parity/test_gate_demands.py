"""The gate demands that everything a network declares is compared, one sample alone and several in a batch."""

import dataclasses
from functools import partial

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tritonvision import tasks
from tritonvision.catalog import Entry
from tritonvision.ensembles.entry_points import Chain, Composition, Net
from tritonvision.ensembles.preprocessing import Resize
from tritonvision.ensembles.schemas import CLASSES, DENSE_BOXES
from tritonvision.ensembles.tensors import Tensor
from tritonvision.errors import ExportFailed
from tritonvision.exporters.contract import Family, Network, ReferencePipeline, Tolerance
from tritonvision.exporters.parity.gate import Gate

SIDE = 8
ENTRY = Entry("tiny", "tiny", "classification", (SIDE, SIDE), "user", "", "unsure", None, ())
KERNEL = np.random.default_rng(0).normal(0, 0.001, (SIDE * SIDE * 3, 3)).astype(np.float32)


class Tiny(Family):
    name, head = "tiny", CLASSES
    tolerance = Tolerance({"logits": 1e-4, "scores": 1e-5})
    reference_pipeline = ReferencePipeline("numpy", "1", "logits")

    def resize(self, entry):
        return Resize("stretch", SIDE, SIDE)

    def network_from_file(self, entry, weights):
        raise NotImplementedError


class Linear(Network):
    """One matrix; ``answers`` are the outputs that the reference gives, ``batches`` the examples of a composition."""

    def __init__(self, answers=("logits", "scores"), batches=None):
        super().__init__(labels=("a", "b", "c"), source="")
        self.answers, self.batches = answers, batches or {}

    def export(self, path, role=""):
        raise NotImplementedError

    def tensors(self, inputs, double=False, role=""):
        logits = inputs["pixels"].reshape(len(inputs["pixels"]), -1).astype(np.float32) @ KERNEL
        shares = np.exp(logits - logits.max(1, keepdims=True))
        found = {"logits": logits, "scores": shares / shares.sum(1, keepdims=True), "more": logits}
        return {name: found[name] for name in self.answers}

    def predict(self, sample, parameters, role=""):
        raise NotImplementedError

    def examples(self, role):
        return self.batches


@pytest.fixture
def graph(tmp_path):
    """The ONNX graph of the matrix, for any batch or, where it says so, for pictures one by one."""

    def write(one_by_one=False):
        pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["b", SIDE, SIDE, 3])
        outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", 3]) for name in ("logits", "scores")]
        nodes = [
            helper.make_node("Cast", ["pixels"], ["values"], to=TensorProto.FLOAT),
            helper.make_node("Reshape", ["values", "flat"], ["rows"]),
            helper.make_node("MatMul", ["rows", "kernel"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["scores"], axis=1),
        ]
        flat = np.array([1 if one_by_one else 0, -1])
        weights = [numpy_helper.from_array(KERNEL, "kernel"), numpy_helper.from_array(flat, "flat")]
        model = helper.make_model(
            helper.make_graph(nodes, "tiny", [pixels], outputs, weights), ir_version=8,
            opset_imports=[helper.make_opsetid("", 17)],
        )  # fmt: skip
        onnx.save(model, path := tmp_path / "model.onnx")
        return path

    return write


def tensors_checked(graph, network, family=None, point=None):
    """The gate's comparison of graphs with networks alone, without the answers'."""
    family = family or Tiny()
    gate = Gate(family, ENTRY, network, {"": graph}, "user")
    from tritonvision.ensembles.in_process import open_entry_point

    point = point or Chain(family.resize(ENTRY), CLASSES)
    return gate._check_tensors(point, open_entry_point(gate.graphs, point))


def test_a_reference_that_gives_what_the_network_declares_passes(graph):
    found = tensors_checked(graph(), Linear())
    assert found.keys() == {"tensor_logits", "tensor_scores"} and max(found.values()) <= 1e-5


@pytest.mark.parametrize("answers", [("logits",), ("logits", "scores", "more")])
def test_a_reference_that_forgets_or_adds_an_output_is_refused(graph, answers):
    with pytest.raises(ExportFailed, match="the network declares logits, scores"):
        tensors_checked(graph(), Linear(answers))


def test_a_graph_with_the_batch_of_one_written_into_it_is_refused(graph):
    with pytest.raises(ExportFailed):
        tensors_checked(graph(one_by_one=True), Linear())


def picture_batch(*counts):
    return {f"{n} pictures": {"pixels": np.zeros((n, SIDE, SIDE, 3), np.uint8)} for n in counts}


@pytest.mark.parametrize("counts", [(), (1,), (2,), (2, 3)])
def test_a_composition_must_be_compared_alone_and_in_a_batch(graph, counts):
    outputs = Tensor("logits", "FP32", (3,)), Tensor("scores", "FP32", (3,))
    net = Net("", (Tensor("pixels", "UINT8", (SIDE, SIDE, 3)),), outputs)
    point = Composition("gaze", 1, tasks.GAZE, (net,), (), options=(("side", SIDE),))
    check = partial(tensors_checked, graph(), point=point)
    with pytest.raises(ExportFailed, match="on one sample and on a batch of several"):
        check(Linear(batches=picture_batch(*counts)))
    assert check(Linear(batches=picture_batch(1, 2)))


def test_a_network_that_takes_one_sample_at_a_time_needs_no_batch(graph):
    net = dataclasses.replace(Chain(Resize("stretch", SIDE, SIDE), CLASSES).nets[0], max_batch=1)
    point = Composition("gaze", 1, tasks.GAZE, (net,), (), options=(("side", SIDE),))
    assert tensors_checked(graph(), Linear(batches=picture_batch(1)), point=point)
    with pytest.raises(ExportFailed, match="on one sample"):
        tensors_checked(graph(), Linear(batches=picture_batch(2)), point=point)


# ---- classes that nearly tie ----------------------------------------------------------------------------------------


class Boxes(Tiny):
    head = DENSE_BOXES
    tolerance = Tolerance({"boxes": 1e-3, "scores": 1e-5, "class_ids": 0})


class Recorded(Linear):
    """A reference with the candidates of three hundred boxes; in float64 the class of ``tied`` is another one."""

    def __init__(self, tied=None):
        super().__init__()
        self.tied = tied

    def tensors(self, inputs, double=False, role=""):
        found = candidates()
        if double and self.tied is not None:
            found["class_ids"][0, self.tied] += 1
        return found


class Graph:
    """What stands for a graph: the same candidates, the classes of ``changed`` replaced."""

    net = Net("", (), DENSE_BOXES.tensors)

    def __init__(self, changed=()):
        self.changed = list(changed)

    def tensors(self, inputs):
        found = candidates()
        found["class_ids"][0, self.changed] += 1
        return found


def candidates():
    rng = np.random.default_rng(1)
    corners = rng.uniform(0, 600, (1, 300, 2)).astype(np.float32)
    return {
        "boxes": np.concatenate([corners, corners + 50], 2),
        "scores": np.sort(rng.uniform(0.1, 1, (1, 300)).astype(np.float32))[:, ::-1].copy(),
        "class_ids": rng.integers(0, 80, (1, 300)).astype(np.int32),
    }


def classes_checked(changed, tied):
    gate = Gate(Boxes(), ENTRY, Recorded(tied), {}, "user")
    return gate._differences("dense-boxes", Graph(changed), "", {}, "the photo")["class_ids"]


def test_a_class_that_float64_names_too_passes():
    assert classes_checked([], None) == 0
    assert classes_checked([17], tied=17) == 1  # said as it is, and let through


@pytest.mark.parametrize("changed", [[18], [17, 18], range(300)])
@pytest.mark.parametrize("tied", [None, 17])
def test_one_near_tie_excuses_no_other_class(changed, tied):
    with pytest.raises(ExportFailed, match="'class_ids' of the graph differs"):
        classes_checked(changed, tied)
