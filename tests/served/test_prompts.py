"""Prompts through a running tritonserver: a picture is encoded once for all connections, processes and callers.

The networks are stand-ins of a few operators with the tensors of the true ones.
"""

from __future__ import annotations

import io
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from tritonvision import tasks
from tritonvision.engine import codec, failures
from tritonvision.ensembles import model_configs
from tritonvision.errors import InvalidParameter, ServerUnavailable
from tritonvision.exporters import publish
from tritonvision.exporters.families import sam
from tritonvision.publication import Manifest
from tritonvision.server import Embedded, stubs
from tritonvision.settings import Settings

MODEL = "sam-vit_b"
ANSWERS = ("masks", "scores", "low_res_masks", "image_size")


def encoder_nodes():
    """Means of 16 x 16 pixels, spread over 256 channels."""
    spread = np.random.default_rng(0).normal(size=(256, 3, 1, 1)).astype(np.float32)
    return [
        helper.make_node("Cast", ["pixels"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["planes"], ["means"], kernel_shape=[16, 16], strides=[16, 16]),
        helper.make_node("Conv", ["means", "spread"], ["embeddings"]),
    ], {"spread": spread}  # fmt: skip


def decoder_nodes():
    """Masks of everything and nothing by turns, shifted by the earlier mask; scores tell embeddings and points."""
    return [
        helper.make_node("Add", ["mask_input", "signs"], ["low_res_masks"]),
        helper.make_node("ReduceMean", ["embeddings"], ["shade4"], axes=[1, 2, 3]),
        helper.make_node("Squeeze", ["shade4", "axes"], ["shade"]),
        helper.make_node("ReduceMean", ["point_coords"], ["place3"], axes=[1, 2]),
        helper.make_node("Squeeze", ["place3", "last"], ["place"]),
        helper.make_node("Add", ["shade", "place"], ["one"]),
        helper.make_node("Add", ["one", "four"], ["iou_scores"]),
    ], {
        "signs": np.float32([1, -1, 1, -1]).reshape(1, 4, 1, 1) * 50, "axes": np.int64([2, 3]), "last": np.int64([2]),
        "four": np.float32([[0, 1000, 2000, 3000]]),
    }  # fmt: skip


def write_graph(path, net, nodes, constants):
    types = {"FP32": TensorProto.FLOAT, "UINT8": TensorProto.UINT8, "INT32": TensorProto.INT32}

    def infos(tensors):
        return [
            helper.make_tensor_value_info(t.name, types[t.dtype], ["batch", *(None if d < 0 else d for d in t.dims)])
            for t in tensors
        ]

    graph = helper.make_graph(
        nodes, net.role, infos(net.inputs), infos(net.outputs),
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("repository")
    point = sam.point()
    manifest = Manifest(
        id=MODEL, family="SAM", task=tasks.PROMPTABLE.name, head=point.name, weights="user", source="test",
        sha256="0", license="MIT", precision="fp32", labels=(), input_size=point.size,
        steps=model_configs.step_names(MODEL, (point,)),
    )  # fmt: skip
    with publish.staging(root) as folder:
        graphs = {net.role: folder / f"{net.role}.onnx" for net in point.nets}
        for net, (nodes, constants) in zip(point.nets, (encoder_nodes(), decoder_nodes()), strict=True):
            write_graph(graphs[net.role], net, nodes, constants)
        publish.publish(root, folder, manifest, (point,), graphs)
    embedded = Embedded(Settings(repository=root, log_dir=tmp_path_factory.mktemp("log")))
    embedded.start()
    for name in (*manifest.steps, manifest.triton_name):
        embedded.load(name)
    yield embedded
    folder = embedded._process.folder
    assert list((folder / "encodings").glob("*.npy"))
    embedded.stop()
    assert not folder.exists()


def ask(server, sample, parameters, outputs=ANSWERS):
    """One question over a connection of its own. Raises the error tree."""
    with grpc.insecure_channel(server.address, options=[("grpc.max_receive_message_length", -1)]) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        try:
            return codec.decode(stub.ModelInfer(codec.encode(MODEL, [sample], [parameters], outputs), timeout=60))[0]
        except grpc.RpcError as error:
            raise failures.to_error(error) from error


def encoded(server):
    """How many pictures the encoder has seen."""
    control = server._process.control  # statistics are the administrator's
    request = pb.ModelStatisticsRequest(name=model_configs.net_name(MODEL, "encoder"))
    return control._call(control._stub.ModelStatistics, request).model_stats[0].inference_stats.success.count


def npy(height=90, width=120, seed=0):
    stream = io.BytesIO()
    np.save(stream, np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8))
    return stream.getvalue()


def test_prompts_over_many_connections_encode_a_picture_once(server):
    before = encoded(server)
    picture = npy(seed=1)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda x: ask(server, {"image": picture}, {"points": [[x, 5]]}), range(12)))
    assert encoded(server) == before + 1
    assert len({float(answer["scores"][0]) for answer in answers}) == 12
    first = answers[0]
    assert first["image_size"].tolist() == [90, 120]
    assert len(first["masks"]) == 3 and first["low_res_masks"].shape == (3, 256, 256)
    ask(server, {"image": npy(seed=2)}, {})
    assert encoded(server) == before + 2


def test_embeddings_are_returned_only_on_request_and_can_replace_the_picture(server):
    picture = npy(seed=3)
    first = ask(server, {"image": picture}, {"points": [[7, 5]], "multimask": False})
    before = encoded(server)
    only = ask(server, {"image": picture}, {}, ("embeddings", "image_size"))
    assert set(only) == {"embeddings", "image_size"} and only["embeddings"].shape == (256, 64, 64)
    given = {"points": [[7, 5]], "multimask": False, "image_size": [90, 120]}
    again = ask(server, {"embeddings": only["embeddings"]}, given)
    assert again["masks"].tolist() == first["masks"].tolist() and again["scores"] == first["scores"]
    assert encoded(server) == before


def test_an_earlier_mask_reaches_the_model(server):
    mask = np.linspace(-100, 100, 65536, dtype=np.float32).reshape(256, 256)
    answer = ask(server, {"image": npy(seed=3), "mask_input": mask}, {"multimask": False})
    np.testing.assert_allclose(answer["low_res_masks"][0], mask + 50)


@pytest.mark.parametrize(
    ("sample", "parameters", "sentence"),
    [
        ({"image": npy()}, {"points": [[121, 5]]}, "outside the picture of 120 x 90"),
        ({"image": npy()}, {"points": [[1, 1]], "point_labels": [1, 0]}, "1 points and 2 labels"),
        ({"image": npy()}, {"pointz": []}, "Unknown parameter"),
        ({"mask_input": np.zeros((256, 256), np.float32)}, {}, "neither a picture"),
        ({"embeddings": np.zeros((256, 64, 64), np.float32)}, {}, "image_size"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_a_sentence(server, sample, parameters, sentence):
    with pytest.raises(InvalidParameter, match=sentence):
        ask(server, sample, parameters)


def test_encodings_outlive_the_process_that_made_them(server):
    picture = npy(seed=4)
    ask(server, {"image": picture}, {})
    before = encoded(server)
    victims = [stub for stub in stubs.of_server(server._process.pid).values() if stub.model == MODEL]
    assert len(victims) == 2
    for victim in victims:
        os.kill(victim.pid, signal.SIGKILL)
    end = time.monotonic() + 30
    while True:
        try:
            answer = ask(server, {"image": picture}, {"points": [[3, 3]]})
            break
        except ServerUnavailable:
            assert time.monotonic() < end
            time.sleep(0.2)
    assert len(answer["masks"]) == 3
    assert encoded(server) == before
