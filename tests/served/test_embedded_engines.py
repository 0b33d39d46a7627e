"""Models whose networks are sessions of their own process: each runs on the engine that the config names for it."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
from google.protobuf import text_format
from own_engine import with_engine
from tritonclient.grpc import model_config_pb2

from tritonvision.errors import BrokenModel
from tritonvision.server import Embedded
from tritonvision.settings import Settings

LINE, CHAT = "tests/small-line/1", "tests/small-vlm/1"
QUESTION = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is this?"}]}]


def on_openvino(root: Path, model: str, role: str, file: str = "") -> None:
    """The model's network ``role`` runs on OpenVINO, in fp32, so that not a token may change."""
    path = root / model.replace("/", "__") / "config.pbtxt"
    config = text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())
    sessions = json.loads(config.parameters["sessions"].string_value)
    sessions[role] = {"file": file or sessions[role], "engine": "openvino", "precision": "fp32"}
    config.parameters["sessions"].string_value = json.dumps(sessions)
    path.write_text(text_format.MessageToString(config))


@pytest.fixture(scope="module")
def server(publish_as, tmp_path_factory):
    root = tmp_path_factory.mktemp("repository")
    for model, name in ((LINE, "line/1"), (LINE, "line/2"), (LINE, "line/3"), (CHAT, "chat/1"), (CHAT, "chat/2")):
        publish_as(root, model, name)
    on_openvino(root, "line/2", "encoder")
    on_openvino(root, "chat/2", "vision")
    on_openvino(root, "line/3", "encoder", "tokenizer.json")
    settings = Settings(repository=root, log_dir=tmp_path_factory.mktemp("log"), export_missing=False)
    server = Embedded(settings)
    server.start()
    yield settings, server
    server.stop()


@pytest.fixture
def asked(server):
    """``asked(work)``: what ``work(engine)`` gives, an engine of its own."""

    return partial(with_engine, *server)


def uses_openvino(server: tuple[Settings, Embedded], model: str) -> bool:
    (stub, *_) = [stub for stub in server[1].processes() if stub.model == model.replace("/", "__")]
    return "libopenvino_intel_cpu_plugin" in Path(f"/proc/{stub.pid}/maps").read_text()


def test_a_line_is_read_the_same_with_its_encoder_on_openvino(asked, server, photo):
    async def work(engine):
        return [(await engine.infer(name, [photo], {"max_new_tokens": 8}))[1][0] for name in ("line/1", "line/2")]

    exported, found = asked(work)
    assert (uses_openvino(server, "line/1"), uses_openvino(server, "line/2")) == (False, True)
    assert found == exported and exported


def test_a_picture_is_described_the_same_with_its_tower_on_openvino(asked, server, photo):
    async def work(engine):
        return [
            [int(t) async for d in engine.chat(name, QUESTION, [photo], {"max_new_tokens": 12}) for t in d.token_ids]
            for name in ("chat/1", "chat/2")
        ]

    exported, found = asked(work)
    assert uses_openvino(server, "chat/2") and found == exported and len(found) == 12


def test_an_embedded_network_that_openvino_does_not_read_says_so(asked, photo):
    with pytest.raises(BrokenModel, match="OpenVINO cannot read the network"):
        asked(lambda engine: engine.infer("line/3", [photo], {}))
