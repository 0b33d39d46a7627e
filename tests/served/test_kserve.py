"""KServe's v2 protocol on the real server, asked with Triton's own clients over HTTP and gRPC."""

from __future__ import annotations

import json
import socket

import numpy as np
import pytest
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http
from tritonclient.utils import InferenceServerException

from tritonvision.facade.dialects.kserve.message_json import told

FACE = "mediapipe-face-detection"


@pytest.fixture(scope="module")
def addresses(serve_with):
    """Where the server is asked over HTTP and over gRPC."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with serve_with("--grpc-port", str(port)) as url:
        yield url.removeprefix("http://").replace("localhost", "127.0.0.1"), f"127.0.0.1:{port}"


@pytest.fixture(params=["http", "grpc"])
def client(request, addresses):
    """The module of one of Triton's clients, and the client."""
    module = over_http if request.param == "http" else over_grpc
    client = module.InferenceServerClient(addresses[request.param == "grpc"])
    yield module, client
    client.close()


def inputs(module, photo: bytes, **settings):
    image = module.InferInput("image", [1, 1], "BYTES")
    image.set_data_from_numpy(np.array([[photo]], dtype=object))
    given = module.InferInput("parameters", [1, 1], "BYTES")
    given.set_data_from_numpy(np.array([[json.dumps(settings).encode()]], dtype=object))
    return [image, given]


def test_triton_s_clients_find_and_ask_a_model(client, photo):
    module, triton = client
    assert triton.is_server_live() and triton.is_server_ready() and triton.is_model_ready(FACE)
    told = triton.get_model_metadata(FACE)
    names = [tensor["name"] for tensor in told["inputs"]] if isinstance(told, dict) else [t.name for t in told.inputs]
    assert set(names) == {"image", "parameters"}
    answer = triton.infer(FACE, inputs(module, photo, confidence=0.5))
    assert answer.as_numpy("keypoints").shape == (1, 1, 6, 2)
    assert answer.as_numpy("scores")[0, 0] == pytest.approx(0.9217, abs=1e-4)
    assert answer.as_numpy("image_size").tolist() == [[512, 512]]
    statistics = triton.get_inference_statistics(FACE)
    stats = statistics["model_stats"] if isinstance(statistics, dict) else statistics.model_stats
    assert len(stats) == 1


def test_an_answer_over_both_protocols_is_the_same_bit_by_bit(addresses, photo):
    found = []
    for module, address in zip((over_http, over_grpc), addresses, strict=True):
        answer = module.InferenceServerClient(address).infer(FACE, inputs(module, photo))
        found.append({name: answer.as_numpy(name) for name in ("boxes", "scores", "keypoints")})
    for name, values in found[0].items():
        assert (values == found[1][name]).all(), name


def test_a_refusal_of_a_step_comes_as_its_sentence(client, photo):
    module, triton = client
    with pytest.raises(InferenceServerException, match="confidence"):
        triton.infer(FACE, inputs(module, photo, confidence=7))


def test_the_config_names_no_step_that_nobody_is_let_at(client):
    # perf_analyzer asks for the config of each, and ends in a fault where an ensemble has no list of them
    module, triton = client
    config = triton.get_model_config(FACE)
    config = config if isinstance(config, dict) else told(config.config)
    assert config["name"] == FACE and {one["name"] for one in config["input"]} == {"image", "parameters"}
    assert config["platform"] == "ensemble" and config["ensemble_scheduling"]["step"] == []


def test_config_and_statistics_in_json_are_those_of_grpc(addresses, photo):
    # clients read numbers of them, zeros too, which protobuf's own JSON writes as strings or leaves out
    http, grpc = over_http.InferenceServerClient(addresses[0]), over_grpc.InferenceServerClient(addresses[1])
    http.infer(FACE, inputs(over_http, photo))
    assert http.get_model_config(FACE) == told(grpc.get_model_config(FACE).config)
    statistics = http.get_inference_statistics(FACE)
    assert statistics == told(grpc.get_inference_statistics(FACE))
    assert statistics["model_stats"][0]["inference_count"] > 0


def test_networks_and_steps_are_not_reached(client, photo):
    module, triton = client
    for model in (f"net--{FACE}", "pre--letterbox-128", "nobody"):
        with pytest.raises(InferenceServerException):
            triton.infer(model, inputs(module, photo))
        with pytest.raises(InferenceServerException):
            triton.get_model_metadata(model)
