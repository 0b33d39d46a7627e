"""The examples on the pages of docs/models/, run as they are printed: one family of each kind, on the running server.

The pages of the other families are slow tests. Those whose model the tests do not publish are run where the repository
of ``TRITONVISION_TEST_REPOSITORY`` holds it: a copy of the tests' own, into which ``tritonvision export ID --weights
random`` wrote. Only names are exchanged: the server's address, and ids that the repository does not hold for those that
``make test`` publishes. The weights are random (but the face model's), so it is not looked at what is answered, only
that something is.
Roboflow's own client lives in another environment: ``tests/clients/inference_sdk/test_model_pages.py``.
"""

from __future__ import annotations

import asyncio
import io
import re
import shlex
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import uvicorn
from PIL import Image
from typer.testing import CliRunner

from tritonvision import AutoModel, cli
from tritonvision.engine.engine import Engine
from tritonvision.exporters.parity import text_pages
from tritonvision.facade.app import create_app
from tritonvision.publication import Repository
from tritonvision.server import Embedded
from tritonvision.settings import Settings

TREE = Path(__file__).parents[2]
BLOCK = re.compile(r"^### ([\w ]+)\n|^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HTTP, SOCKET, GRPC = "http://localhost:9001", "ws://localhost:9001", "localhost:8001"
SMALL = {
    "grounding-dino-tiny": "tests/small-dino/1", "owlv2-base-patch14": "tests/small-owl/1",
    "yolo-world-s": "tests/small-world/1", "sam2-tiny": "tests/small-sam2/1", "sam2-rt-tiny": "tests/small-tracks/1",
    "dinov3-small": "tests/small-dinov3/1", "perception-encoder/PE-Core-B16-224": "tests/small-pe/1",
    "trocr-base-printed": "tests/small-line/1", "smolvlm-256m": "tests/small-vlm/1",
    "florence-2-base": "tests/small-florence/1", "paligemma-3b": "tests/small-paligemma/1",
    "moondream2": "tests/small-moondream/1",
    "internvl3.5-1b": "tests/small-internvl/1", "nvila-lite-2b": "tests/small-nvila/1",
    "qwen3-vl-2b": "tests/small-qwen3/1", "qwen2.5-vl-2b": "tests/small-qwen/1", "cosmos-reason1": "tests/small-qwen/1",
}  # fmt: skip
# What each page's names become where the repository does not hold them.
PAGES = {
    "mediapipe-face": {}, "yolov8": {}, "yolov8-seg": {}, "resnet": {}, "clip": {}, "depth-anything-v2": {}, "sam": {},
    "l2cs": {},
    "doctr": {"doctr-db_resnet50": "doctr-db_mobilenet_v3"},
    "grounding-dino": SMALL, "owlv2": SMALL, "yolo-world": SMALL, "trocr": SMALL, "smolvlm": SMALL,
    "florence-2": SMALL, "paligemma": SMALL, "moondream2": SMALL, "sam2": SMALL, "sam2-rt": SMALL, "dinov3": SMALL,
    "perception-encoder": SMALL,
    "internvl-3-5": SMALL,
}  # fmt: skip
FURTHER = {
    "rfdetr": {"rfdetr-base": "rfdetr-nano"},
    "nvila": SMALL, "qwen3-vl": SMALL, "qwen2-5-vl": SMALL, "cosmos-reason1": SMALL,
}  # fmt: skip
UNPUBLISHED = {
    "yolov9", "yolov10", "yolov11", "yolov12", "yolov11-seg", "yolo-nas", "yolact", "detr", "vit", "depth-anything-v3",
    "easyocr",
}  # fmt: skip
NAMES = {**PAGES, **FURTHER, **dict.fromkeys(sorted(UNPUBLISHED), {})}


@pytest.fixture(scope="module")
def addresses(served_repository, tmp_path_factory):
    """HTTP and gRPC of one server, in its parts: ``tritonvision serve`` keeps its gRPC to itself."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = Settings(repository=served_repository, log_dir=tmp_path_factory.mktemp("log"), port=port, deadline=120)
    server = Embedded(settings)
    server.start()
    engine = Engine(settings, server)
    http = uvicorn.Server(uvicorn.Config(create_app(engine, settings), port=port, log_level="warning"))

    async def serve() -> None:
        await engine.start()
        await http.serve()
        await engine.close()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        while thread.is_alive() and not http.started:
            time.sleep(0.05)
        yield {HTTP: f"http://localhost:{port}", SOCKET: f"ws://localhost:{port}", GRPC: server.address}
    finally:
        AutoModel.close()
        http.should_exit = True
        thread.join(30)
        server.stop()


@pytest.fixture(scope="module")
def pictures(photo, tmp_path_factory) -> Path:
    """A folder with the files that the examples read."""
    folder = tmp_path_factory.mktemp("pictures")
    Image.open(io.BytesIO(photo)).convert("RGB").save(folder / "photo.jpg", quality=95)
    Image.fromarray(text_pages.page()).save(folder / "page.png")
    Image.fromarray(text_pages.line("Total 4.20")).save(folder / "line.png")
    return folder


def examples(page: str, published: Callable[[str], bool] = lambda _: False) -> list[tuple[str, str, str]]:
    """(dialect, language, code) of the page's examples, in its order; ids that are ``published`` keep their names."""
    text = (TREE / "docs" / "models" / f"{page}.md").read_text().partition("\n## Ask it\n")[2]
    for old, new in NAMES[page].items():
        if not published(old):
            text = text.replace(old, new)
    found, dialect = [], ""
    for title, language, code in BLOCK.findall(text):
        dialect = title or dialect
        if code:
            found.append((dialect, language, code))
    return found


CASES = [
    pytest.param(page, number, id=f"{page}-{dialect}-{number}", marks=[] if page in PAGES else pytest.mark.slow)
    for page in NAMES
    for number, (dialect, _, code) in enumerate(examples(page))
    if "inference_sdk" not in code
]


@pytest.mark.parametrize(("page", "number"), CASES)
def test_an_example_answers(addresses, served_repository, pictures, monkeypatch, capsys, page, number):
    text = (TREE / "docs" / "models" / f"{page}.md").read_text()
    model_id = re.findall(r"^tritonvision export (\S+)", text, re.MULTILINE)[0]
    held = Repository(served_repository).find
    if page in UNPUBLISHED and held(model_id) is None:
        pytest.skip(f"'{model_id}' is not in the repository of the tests.")
    _, language, code = examples(page, lambda name: held(name) is not None)[number]
    for old, new in addresses.items():
        code = code.replace(old, new)
    monkeypatch.chdir(pictures)
    monkeypatch.setenv("TRITONVISION_SERVER", addresses[HTTP])
    if language == "python":
        exec(compile(code, f"{page}.md", "exec"), {"__name__": "__main__"})
        assert capsys.readouterr().out.strip()
        return
    for line in code.replace("\\\n", " ").splitlines():  # a backslash continues a line
        program, *words = shlex.split(line, comments=True)
        if program == "curl":
            done = subprocess.run(["curl", "-sS", "--fail-with-body", *words], capture_output=True, timeout=120)
            assert done.returncode == 0 and done.stdout, done.stdout + done.stderr
        else:
            assert program == "tritonvision"
            if words[0] == "chat":
                words += ["--prompt", "What is this?", "--max-tokens", "8"]
            done = CliRunner().invoke(cli.app, [*words, "--url", addresses[HTTP]])
            assert done.exit_code == 0 and done.stdout.strip(), done.output


def test_every_family_that_can_be_exported_has_its_page_here():
    pages = {path.stem for path in (TREE / "docs" / "models").glob("*.md") if "## Ask it" in path.read_text()}
    assert set(NAMES) == pages
