"""Repositories that earlier versions published still load: here one of version 0.1, as it was written then."""

import importlib
import io
import re
import shutil
import sys
from pathlib import Path

import httpx
import pytest
from PIL import Image

TREE = Path(__file__).parents[2]
PUBLISHED = TREE / "tests" / "data" / "published_0_1"  # an average of the picture's colours, three classes
WAIT = {"x-wait-for-model": "true"}
STEPS = ("pre", "post", "tokens", "composition", "chat", "local_code")  # what its model.py files may import


@pytest.fixture(scope="module")
def url(serve_with, tmp_path_factory):
    root = tmp_path_factory.mktemp("repository") / "published"
    shutil.copytree(PUBLISHED, root)
    (root / "colours" / "1").mkdir(exist_ok=True)  # git keeps no empty folder
    with serve_with("--repository", str(root)) as url:
        yield url


@pytest.mark.parametrize("colour", ["red", "green", "blue"])
def test_a_model_published_by_version_0_1_answers(url, colour):
    stream = io.BytesIO()
    Image.new("RGB", (300, 240), colour).save(stream, "PNG")
    answer = httpx.post(f"{url}/models/colours", content=stream.getvalue(), headers=WAIT, timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.json()[0]["label"] == colour and answer.json()[0]["score"] > 0.9


@pytest.mark.parametrize("name", STEPS)
def test_the_steps_that_published_models_import_stay_where_they_are(name, monkeypatch):
    from types import ModuleType

    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", ModuleType("pb_utils"))
    assert importlib.import_module(f"tritonvision.python_backend.{name}").TritonPythonModel


def test_the_models_of_0_1_import_no_other_step():
    imported = {
        name
        for path in PUBLISHED.rglob("model.py")
        for name in re.findall(r"tritonvision\.python_backend\.(\w+)", path.read_text())
    }
    assert imported and imported <= set(STEPS)
