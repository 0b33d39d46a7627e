"""Graphs of networks whose weights are written from the network itself: every way a layer can read a weight."""

import torch  # isort: skip

import errno
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest

from tritonvision import graph_files
from tritonvision.errors import SetupError
from tritonvision.exporters import publish
from tritonvision.exporters.graphs import export, storage

WIDTH, WORDS = 160, 200


class Reader(torch.nn.Module):
    """A table read by rows, transposed as the last layer, and a kernel, a buffer and a matrix that two layers share."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table = torch.nn.Embedding(WORDS, WIDTH)
        self.first, self.second = torch.nn.Linear(WIDTH, WIDTH), torch.nn.Linear(WIDTH, WIDTH)
        self.second.weight = self.first.weight
        self.kernel = torch.nn.Conv1d(WIDTH, WIDTH, 3, padding=1)
        self.alone = torch.nn.Linear(WIDTH, WIDTH)
        self.last = torch.nn.Linear(WIDTH, WORDS, bias=False)
        self.last.weight = self.table.weight
        self.register_buffer("places", torch.randn(WIDTH, WIDTH))

    def forward(self, ids):
        hidden = self.first(self.table(ids)).relu()
        hidden = self.kernel((self.second(hidden) @ self.places).transpose(1, 2)).transpose(1, 2)
        return self.last(self.alone(hidden))


def written(path, **how):
    """The graph of the network at ``path``, and its answer to five words of two texts."""
    ids = torch.arange(10).reshape(2, 5)
    export.export_onnx(Reader(), ids, path, ("ids",), ("scores",), **how)
    onnx.checker.check_model(path, full_check=True)
    (scores,) = onnxruntime.InferenceSession(path).run(None, {"ids": ids.numpy()[:1]})
    return onnx.load(path, load_external_data=False).graph, scores


@pytest.mark.parametrize(("apart", "inside", "files"), [(1, None, 1), (1, 1, 2), (export.APART, 1, 2)])
def test_a_large_graph_answers_as_the_network_and_as_one_that_was_traced_whole(
    tmp_path, monkeypatch, apart, inside, files
):
    path = tmp_path / "model.onnx"
    _, usual = written(tmp_path / "usual.onnx")
    monkeypatch.setattr(export, "APART", apart)
    graph, scores = written(path, inside=inside)
    with torch.no_grad():
        want = Reader().eval()(torch.arange(5)[None]).numpy()
    np.testing.assert_allclose(scores, want, atol=1e-4)
    np.testing.assert_allclose(scores, usual, atol=1e-5)
    assert len(graph_files.files_of(path)) == files
    assert [value.name for value in graph.input] == ["ids"]
    # a weight that one layer alone reads transposed is written so; shared ones are there once, and transposed when read
    found = Counter(node.op_type for node in graph.node if node.input[0].endswith("weight"))
    assert found["Transpose"] <= 3 and all(node.input[0] != "alone.weight" for node in graph.node)
    held = sum(np.prod(tensor.dims) for tensor in graph.initializer if np.prod(tensor.dims) > 10_000)
    assert held == WORDS * WIDTH + 3 * WIDTH * WIDTH + 3 * WIDTH * WIDTH


def test_the_files_are_the_same_every_time(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        written(tmp_path / name / "model.onnx", inside=1)
    for name in ("model.onnx", "model.onnx.data"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_bytes_are_those_of_a_graph_whose_weights_were_in_memory(tmp_path, monkeypatch):
    """Protobuf reads them, and writes the same message; the weights stand before the nodes."""
    monkeypatch.setattr(export, "APART", 1)
    written(tmp_path / "model.onnx")
    data = (tmp_path / "model.onnx").read_bytes()
    model = onnx.ModelProto.FromString(data)
    again = model.SerializeToString()
    assert len(data) - len(again) <= 4 and onnx.ModelProto.FromString(again) == model, "the room of the graph's length"
    assert data.index(b"table.weight") < data.index(b"Gather")
    assert all(tensor.raw_data for tensor in model.graph.initializer)


def test_writing_takes_the_weights_one_at_a_time(tmp_path):
    shape, kind = [1_000_000], onnx.TensorProto.FLOAT
    weights = {f"weight{i}": np.zeros(shape, np.float32) for i in range(20)}
    graph = onnx.helper.make_graph([], "none", [], [])
    graph.input.extend(onnx.helper.make_tensor_value_info(name, kind, shape) for name in weights)
    model, taken = onnx.helper.make_model(graph), []

    def one_at_a_time():
        for name, values in weights.items():
            size = (tmp_path / "model.onnx").stat().st_size
            taken.append(size)
            yield name, values

    storage.write(model, tmp_path / "model.onnx", one_at_a_time(), beside=False)
    assert [round(size / 4e6) for size in taken] == list(range(20)), "each is in the file before the next is taken"
    assert len(onnx.load(tmp_path / "model.onnx").graph.initializer) == 20


def test_what_layers_share_counts_once():
    assert export.weight_bytes(Reader()) == 4 * (WORDS * WIDTH + 6 * WIDTH * WIDTH + 4 * WIDTH)


@pytest.mark.parametrize("full", ["model.onnx", "model.onnx.data"])
def test_a_disk_that_is_full_is_a_sentence(tmp_path, full):
    """``/dev/full`` takes no byte, as a full disk."""
    with pytest.raises(SetupError, match="disk of the model repository is full") as caught, \
         publish.staging(tmp_path / "models") as folder:  # fmt: skip
        (folder / full).symlink_to("/dev/full")
        export.export_onnx(Reader(), torch.zeros(2, 5).long(), folder / "model.onnx", ("ids",), ("scores",), inside=1)
    assert caught.value.__cause__.errno == errno.ENOSPC and not list((tmp_path / "models").iterdir())
