"""``tritonvision validate`` on a detector that was really trained: the server's figures beside ultralytics' own."""

import torch  # isort: skip  # noqa: F401  (this folder is for the export environment)

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest

from tritonvision.exporters import pipeline
from tritonvision.exporters.contract import Weights

PICTURES = 6
LABELS = ("disc", "box", "triangle")


@pytest.fixture(scope="module")
def folder(draw_scene, tmp_path_factory):
    """Scenes as the detector was trained on, with labels of YOLO's kind."""
    root, rng = tmp_path_factory.mktemp("labelled"), np.random.default_rng(11)
    (root / "images").mkdir(), (root / "labels").mkdir()
    for number in range(PICTURES):
        picture, boxes, classes = draw_scene(rng, 320, 320, 6)
        cv2.imwrite(str(root / "images" / f"{number}.png"), picture[..., ::-1])
        centres, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2 / 320, (boxes[:, 2:] - boxes[:, :2]) / 320
        lines = [" ".join(map(str, (kind, *xy, *wh))) for kind, xy, wh in zip(classes, centres, sizes, strict=True)]
        (root / "labels" / f"{number}.txt").write_text("\n".join(lines))
    (root / "data.yaml").write_text(json.dumps({"val": "images", "names": LABELS}))
    return root


@pytest.fixture(scope="module")
def repository(trained_yolo, tmp_path_factory):
    root = tmp_path_factory.mktemp("repository")
    pipeline.export_of_family("yolov8", Weights("user", trained_yolo, size=(320, 320)), root, "shapes/1")
    return root


def run(*arguments):
    command = [sys.executable, "-m", "tritonvision", "validate", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)


@pytest.mark.slow
def test_the_served_model_does_on_labelled_pictures_what_its_reference_does(repository, folder, trained_yolo):
    line = ("shapes/1", "--data", folder, "--weights", trained_yolo, "--repository", repository, "--json")
    done = run(*line)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["id"], told["pictures"], told["why"]) == ("shapes/1", PICTURES, "")
    assert told["served"].keys() == told["reference"].keys() == {"map", "map50"}
    assert told["served"]["map50"] > 50
    for name, value in told["served"].items():
        assert abs(value - told["reference"][name]) <= 0.5, told
