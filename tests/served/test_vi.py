"""``ViModel`` over a tritonserver of its own: every Python block of docs/vi.md, and the routes before the same models.

The model has every part of SmolVLM at a reduced size and random weights: what it says means nothing.
"""

from __future__ import annotations

import base64
import re
from pathlib import Path

import httpx
import pytest
from vi_runs import KEY, ORGANIZATION, PHRASES, RUN, at_place

from tritonvision import ViModel
from tritonvision.client.automodel.servers import SERVERS

BLOCKS = re.findall(r"^```python\n(.*?)^```", (Path(__file__).parents[2] / "docs" / "vi.md").read_text(), re.M | re.S)
NAMED = ("image", "image1", "image2", "image3", "car", "person", "building", "images/one", "images/deep/two")
GREEDY = {"do_sample": False, "max_new_tokens": 12}


@pytest.fixture(scope="module", autouse=True)
def place(publish_as, tmp_path_factory, photo):
    """A folder with the pictures that the document names, and a repository with its runs."""
    with at_place(publish_as, tmp_path_factory.mktemp("vi"), [f"{name}.jpg" for name in NAMED]) as root:
        yield root


def made(run_id: str = RUN, **options) -> ViModel:
    return ViModel(secret_key=KEY, organization_id=ORGANIZATION, run_id=run_id, **options)


def test_every_block_of_the_document_runs(capsys):
    known: dict = {}
    assert len(BLOCKS) == 4
    for block in BLOCKS:
        exec(compile(block, "vi.md", "exec"), known)
        assert known["error"] is None and known["result"].raw_output
        assert all(error is None for _, error in known.get("pairs", ()))
    assert hasattr(known["result"], "grounded_phrases") and capsys.readouterr().out


def test_the_routes_answer_as_the_class_does(serve_with, place):
    model = made()
    alone, error = model("image.jpg", "What is this?", GREEDY)
    call = ["image.jpg", "nowhere.jpg", "car.jpg"], "What is this?", GREEDY
    pairs = model(*call, show_progress=False)
    assert error is None and pairs[0][0] == alone and isinstance(pairs[1][1], FileNotFoundError)
    with serve_with("--triton-url", SERVERS._embedded.address, "--repository", str(place / "repository")) as url:
        remote = made(endpoint=url)
        assert [result and result.caption for result, _ in remote(*call)] == [r and r.caption for r, _ in pairs]
        assert "".join(remote("image.jpg", "What is this?", GREEDY, stream=True)) == alone.raw_output
        value = base64.b64encode((place / "image.jpg").read_bytes()).decode()
        body = {
            "run_id": RUN, "source": [{"type": "base64", "value": value}, {"type": "base64", "value": "eA=="}],
            "user_prompt": "What is this?", "generation_config": GREEDY,
        }  # fmt: skip
        good, bad = httpx.post(f"{url}/vi/v1/predict", json=body, timeout=60).json()["results"]
        assert good["result"] == alone.to_dict() and bad["error"]["type"] == "ValueError"
        assert ViModel.inspect(secret_key=KEY, organization_id="x", run_id=PHRASES, endpoint=url).task_type == (
            "phrase-grounding"
        )
