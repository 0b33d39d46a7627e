"""Networks on OpenVINO in a real tritonserver: the config that publishing writes is served, and a bad one says why."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc import InferenceServerClient, InferInput, model_config_pb2

from tritonvision.ensembles import model_configs
from tritonvision.ensembles.entry_points import Net
from tritonvision.ensembles.tensors import Tensor
from tritonvision.errors import BrokenModel, InvalidParameter, TritonVisionError
from tritonvision.machine import why_not
from tritonvision.pictures import decode
from tritonvision.python_backend.runtime.engines import open_network
from tritonvision.server import Embedded
from tritonvision.settings import Settings

MODELS = ("yolov8n-640", "resnet18", "clip__RN50")
# how far an output may be from ONNX Runtime's: the root mean square of the difference over that of the output itself
BOUNDS = {"fp32": 1e-4, "bf16": 3e-2}
BF16 = pytest.mark.skipif(bool(why_not("openvino", "bf16")), reason="this processor does not compute in bf16")


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("repository")


@pytest.fixture(scope="module")
def server(root: Path, tmp_path_factory):
    server = Embedded(Settings(repository=root, log_dir=tmp_path_factory.mktemp("log")))
    server.start()
    yield server
    server.stop()


def read(config: str) -> model_config_pb2.ModelConfig:
    return text_format.Parse(config, model_config_pb2.ModelConfig())


def publish(root: Path, name: str, net: Net, graph: Path, **parameters: str) -> str:
    """The network in the repository, as publishing writes it; returns its Triton name."""
    config = read(model_configs.net_config(name, net))
    for key, value in parameters.items():
        config.parameters[key].string_value = value
    folder = root / config.name
    (folder / "1").mkdir(parents=True)
    shutil.copy(graph, folder / "1" / net.file)  # the walls let a server follow links that were there at its start
    (folder / "config.pbtxt").write_text(text_format.MessageToString(config))
    return config.name


def published(repository: Path, model: str, precision: str) -> tuple[Net, Path]:
    """A network of the tests, as one on OpenVINO, and its graph."""
    folder = repository / f"net--{model}"
    config = read((folder / "config.pbtxt").read_text())
    names = model_config_pb2.DataType.Name
    inputs, outputs = (
        tuple(Tensor(t.name, names(t.data_type).removeprefix("TYPE_"), tuple(t.dims)) for t in tensors)
        for tensors in (config.input, config.output)
    )
    return Net("", inputs, outputs, 1, "openvino", precision=precision), folder / "1" / "model.onnx"


def off_by(found: np.ndarray, expected: np.ndarray) -> float:
    if expected.shape[2:] == (4,):  # boxes, best first: those of nearly the same score may change places
        pairs = zip(found, expected[:, :100], strict=True)
        expected = expected[:, :100]
        found = np.stack([a[np.abs(a[None] - b[:, None]).sum(2).argmin(1)] for a, b in pairs])
    difference, whole = (float(np.sqrt(np.mean(np.square(a, dtype=np.float64)))) for a in (found - expected, expected))
    return difference / whole


@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=BF16)])
@pytest.mark.parametrize("model", MODELS)
def test_a_network_on_openvino_answers_what_it_does_on_onnxruntime(
    server, root, served_repository, photo, model, precision
):
    net, graph = published(served_repository, model, precision)
    name = publish(root, f"{model}-{precision}", net, graph)
    server.load(name)
    height, width, _ = net.inputs[0].dims
    picture = decode(photo, True)
    rows, columns = (np.arange(m) * n // m for n, m in zip(picture.shape, (height, width), strict=False))
    small = picture[rows][:, columns]
    pixels = np.stack([small, small[::-1]])
    asked = InferInput(net.inputs[0].name, pixels.shape, "UINT8").set_data_from_numpy(pixels)
    with InferenceServerClient(server.address) as client:
        found = client.infer(name, [asked])
    outputs = [tensor.name for tensor in net.outputs if tensor.dtype == "FP32"]
    for output, expected in zip(outputs, open_network(graph).run(outputs, {asked.name(): pixels}), strict=True):
        assert off_by(found.as_numpy(output), expected) < BOUNDS[precision], output
    server.unload(name)


@pytest.mark.parametrize(("parameters", "graph", "error", "sentence"), [
    ({"NUM_STREAMS": "many"}, b"", InvalidParameter, "'NUM_STREAMS' must be AUTO, NUMA or a number, not 'MANY'."),
    ({}, b"no network", BrokenModel, "OpenVINO cannot read the network."),
])  # fmt: skip
def test_what_cannot_be_loaded_says_why(server, root, tmp_path, parameters, graph, error, sentence):
    (tmp_path / "model.onnx").write_bytes(graph)
    net = Net("", (Tensor("x", "FP32", (1,)),), (Tensor("y", "FP32", (1,)),), 1, "openvino")
    name = publish(root, error.__name__, net, tmp_path / "model.onnx", **parameters)
    with pytest.raises(TritonVisionError) as caught:
        server.load(name)
    assert type(caught.value) is error and sentence in caught.value.message
