"""The examples of docs/models/ that use Roboflow's own client, run as they are printed but for the server's address."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

TREE = Path(__file__).parents[3]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Pages whose model 'make test' publishes, and what becomes of a name that it does not.
PAGES = {
    "mediapipe-face": {}, "yolov8": {}, "yolov8-seg": {}, "resnet": {}, "clip": {}, "depth-anything-v2": {},
    "smolvlm": {"smolvlm-256m": "tests/small-vlm/1"},
}  # fmt: skip


@pytest.mark.parametrize("page", PAGES)
def test_the_example_with_this_client_answers(server_url: str, tmp_path, monkeypatch, capsys, page):
    text = (TREE / "docs" / "models" / f"{page}.md").read_text()
    (code,) = [block for block in BLOCK.findall(text) if "inference_sdk" in block]
    for old, new in {**PAGES[page], "http://localhost:9001": server_url}.items():
        code = code.replace(old, new)
    photo = Image.open(TREE / "tritonvision" / "data" / "astronaut.png").convert("RGB")
    photo.save(tmp_path / "photo.jpg", quality=95)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, f"{page}.md", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out.strip()
