"""The examples of docs/models/ that use Roboflow's own client, run as they are printed but for the server's address."""

from __future__ import annotations

import os
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
# Slow tests, and where the model is not in the repository of the tests, not run: see tests/served/test_model_pages.py.
FURTHER = {
    "rfdetr": {"rfdetr-base": "rfdetr-nano"}, "qwen2-5-vl": {"qwen2.5-vl-2b": "tests/small-qwen/1"},
    "cosmos-reason1": {"cosmos-reason1": "tests/small-qwen/1"}, "qwen3-vl": {"qwen3-vl-2b": "tests/small-qwen3/1"},
    "nvila": {"nvila-lite-2b": "tests/small-nvila/1"},
}  # fmt: skip
UNPUBLISHED = (
    "yolov9", "yolov10", "yolov11", "yolov12", "yolov11-seg", "yolo-nas", "yolact", "detr", "vit", "depth-anything-v3",
    "easyocr",
)  # fmt: skip
FURTHER |= dict.fromkeys(UNPUBLISHED, {})
REPOSITORY = Path(os.environ.get("TRITONVISION_TEST_REPOSITORY", TREE / ".cache" / "test_repository"))
CASES = [*PAGES, *(pytest.param(page, marks=pytest.mark.slow) for page in FURTHER)]


@pytest.mark.parametrize("page", CASES)
def test_the_example_with_this_client_answers(server_url: str, tmp_path, monkeypatch, capsys, page):
    text = (TREE / "docs" / "models" / f"{page}.md").read_text()
    model_id = re.findall(r"^tritonvision export (\S+)", text, re.MULTILINE)[0]
    if page in UNPUBLISHED and not (REPOSITORY / model_id.replace("/", "__")).is_dir():
        pytest.skip(f"'{model_id}' is not in the repository of the tests.")
    (code,) = [block for block in BLOCK.findall(text) if "inference_sdk" in block]
    for old, new in {**{**PAGES, **FURTHER}[page], "http://localhost:9001": server_url}.items():
        code = code.replace(old, new)
    photo = Image.open(TREE / "tritonvision" / "data" / "astronaut.png").convert("RGB")
    for name in ("photo.jpg", "page.png"):
        photo.save(tmp_path / name, quality=95)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, f"{page}.md", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out.strip()
