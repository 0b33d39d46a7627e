"""Qwen's models on the real tritonserver, over OpenAI's route and AutoModel: pictures of any size, several of them.

They have every part of the true ones at a reduced size and random weights: what they say means nothing.
"""

from __future__ import annotations

import asyncio
import io
import threading
import time

import httpx
import pytest
import uvicorn
from PIL import Image
from typer.testing import CliRunner

from tritonvision import AutoModel, cli
from tritonvision.engine.engine import Engine
from tritonvision.ensembles import published
from tritonvision.facade.app import create_app
from tritonvision.pictures import decode
from tritonvision.publication import Repository
from tritonvision.server import Embedded
from tritonvision.settings import Settings

MODELS = ("tests/small-qwen/1", "tests/small-qwen3/1")
SETTINGS = {"max_new_tokens": 24}


def png(photo: bytes, box: tuple[int, int, int, int]) -> bytes:
    stream = io.BytesIO()
    Image.open(io.BytesIO(photo)).convert("RGB").crop(box).save(stream, "PNG")
    return stream.getvalue()


def url(data: bytes) -> str:
    import base64

    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


@pytest.fixture(scope="module")
def address(served_repository, tmp_path_factory):
    """Of a server in this process."""
    settings = Settings(repository=served_repository, log_dir=tmp_path_factory.mktemp("log"), export_missing=False)
    embedded = Embedded(settings)
    embedded.start()
    engine = Engine(settings, embedded)
    http = uvicorn.Server(uvicorn.Config(create_app(engine, settings), port=0, log_level="warning"))

    async def serve() -> None:
        await engine.start()
        await http.serve()
        await engine.close()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        while thread.is_alive() and not http.started:
            time.sleep(0.05)
        yield f"http://127.0.0.1:{http.servers[0].sockets[0].getsockname()[1]}"
    finally:
        AutoModel.close()
        http.should_exit = True
        thread.join(30)
        embedded.stop()


@pytest.mark.parametrize("model", MODELS)
def test_two_pictures_are_talked_about_over_every_door(address, served_repository, photo, monkeypatch, tmp_path, model):
    """OpenAI's route, streamed, says what the graphs say in this process; AutoModel and the terminal say the same."""
    wide, tall = png(photo, (0, 0, 300, 90)), png(photo, (100, 50, 170, 260))
    messages = [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": url(wide)}}, {"type": "text", "text": "and"},
        {"type": "image_url", "image_url": {"url": url(tall)}}, {"type": "text", "text": "Which is larger?"},
    ]}]  # fmt: skip
    ours = [{"role": "user", "content": [
        {"type": "image"} if part["type"] == "image_url" else part for part in messages[0]["content"]
    ]}]  # fmt: skip
    manifest = Repository(served_repository).get(model)
    local = published.open_published(served_repository, manifest)[""]
    want = local({"messages": ours, "pictures": [decode(wide), decode(tall)]}, SETTINGS)
    one = local({"messages": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]}],
                 "pictures": [decode(wide)]}, SETTINGS)  # fmt: skip
    local.close()
    body = {"model": model, "messages": messages, "max_tokens": 24}
    told = httpx.post(f"{address}/v1/chat/completions", json=body, timeout=60).json()
    assert told["choices"][0]["message"]["content"] == want["text"][0]
    assert list(told["usage"].values())[:2] == want["usage"].tolist()
    lines = httpx.post(f"{address}/v1/chat/completions", json=body | {"stream": True}, timeout=60).text.split("\n\n")
    assert len(lines) > 8 and lines[-2] == "data: [DONE]"

    (tmp_path / "wide.png").write_bytes(wide)
    monkeypatch.setenv("TRITONVISION_SERVER", address)
    answers = AutoModel.from_pretrained(model).prompt(str(tmp_path / "wide.png"), "What?", **SETTINGS)
    assert answers[0] == one["text"][0]
    command = ["predict", model, str(tmp_path / "wide.png"), "--text", "What?", "--max-tokens", "24", "--url", address]
    done = CliRunner().invoke(cli.app, command)
    assert done.exit_code == 0 and one["text"][0].split()[0] in done.stdout, done.output
