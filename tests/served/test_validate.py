"""``tritonvision validate`` asks a running server: what it finds is right where the labels are its own answers."""

from __future__ import annotations

import base64
import io
import json

import httpx
import pytest
from PIL import Image

from tritonvision.cli.validate import validate

FACE = "mediapipe-face-detection"


@pytest.fixture
def folder(server_url, photo, tmp_path):
    """The photo, with a label of YOLO's kind where the server itself finds the face."""
    picture = Image.open(io.BytesIO(photo)).convert("RGB")
    picture.save(tmp_path / "a.png")
    body = {"model_id": FACE, "image": {"type": "base64", "value": base64.b64encode(photo).decode()}}
    answer = httpx.post(f"{server_url}/infer/keypoints_detection", json=body, timeout=60).raise_for_status().json()
    (face,) = answer["predictions"]
    width, height = picture.size
    shares = face["x"] / width, face["y"] / height, face["width"] / width, face["height"] / height
    (tmp_path / "a.txt").write_text(" ".join(map(str, (0, *shares))))
    (tmp_path / "data.yaml").write_text("names: [face]\nval: .\n")
    return tmp_path


def test_answers_of_the_server_are_measured_over_the_labels(server_url, folder, capsys):
    validate(FACE, data=folder, with_reference=False, url=server_url, json=True)
    told = json.loads(capsys.readouterr().out)
    assert (told["id"], told["pictures"], told["reference"]) == (FACE, 1, None)
    assert told["served"] == pytest.approx({"map": 100, "map50": 100})
    label = (folder / "a.txt").read_text().split()
    (folder / "a.txt").write_text(" ".join([label[0], "0.1", "0.1", *label[3:]]))
    validate(FACE, data=folder, with_reference=False, url=server_url, json=True)
    assert max(json.loads(capsys.readouterr().out)["served"].values()) < 20, "now the label is elsewhere"
