"""The whole pipeline on a running tritonserver finds the boxes of the authors' own ``predict``.

``pytest -s`` prints the figures of benchmarks/RESULTS.md.
"""

import torch  # noqa: F401  # isort: skip  # these tests belong to the exporters' environment

import cv2
import numpy as np
import pytest

from tritonvision import catalog
from tritonvision.client import TritonClient
from tritonvision.exporters import pipeline
from tritonvision.exporters.contract import Weights
from tritonvision.exporters.parity import compare
from tritonvision.exporters.registry import find
from tritonvision.server import Embedded
from tritonvision.settings import Settings
from tritonvision.tasks import OBJECT_DETECTION, resolve

MODEL = "yolov8n-640"

# the gate compares the same pipeline in process, and tests/served what Triton makes of it
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pictures(draw_scene):
    """Twenty scenes of odd sizes, some smaller and some larger than the network's input."""
    rng = np.random.default_rng(7)
    made = []
    for i in range(20):
        height, width = (int(v) for v in rng.integers(97, 900, 2))
        scale = max(height, width) / 640  # in network pixels, shapes are as large as in training
        largest = min(int(60 * scale), height // 2, width // 2)
        made.append(draw_scene(rng, height, width, 10 + i % 5, int(18 * scale), largest))
    return [picture for picture, _, _ in made]


@pytest.fixture(scope="module")
def served(trained_yolo, tmp_path_factory):
    """The trained detector, exported with its gate and loaded into a tritonserver of our own."""
    root = tmp_path_factory.mktemp("repository")
    manifest = pipeline.export(MODEL, Weights("user", path=trained_yolo), root, as_id="shapes/1")
    server = Embedded(Settings(repository=root, log_dir=tmp_path_factory.mktemp("log")))
    server.start()
    for name in (*manifest.steps, manifest.triton_name):
        server.load(name)
    with TritonClient(server.address) as client:
        yield client
    server.stop()


@pytest.mark.parametrize(("confidence", "iou_threshold"), [(0.25, 0.7), (0.001, 0.45)])
def test_twenty_pictures_of_odd_sizes_give_the_detections_of_predict(
    served, pictures, trained_yolo, confidence, iou_threshold
):
    given = {"confidence": confidence, "iou_threshold": iou_threshold, "max_candidates": 30_000}
    settings = resolve(OBJECT_DETECTION.parameters, given)
    reference_pipeline = find("YOLOv8").build(catalog.find(MODEL), Weights("user", path=trained_yolo))
    count, lonely, pixels, scores = 0, 0, 0.0, 0.0
    for picture in pictures:
        wanted = reference_pipeline.predict(picture, settings)
        png = cv2.imencode(".png", picture[..., ::-1])[1].tobytes()
        found = served.infer("shapes/1", png, **given)
        got = {"boxes": found.xyxy, "scores": found.confidence, "class_ids": found.class_id}
        missing, worst = compare.detections(got, wanted, confidence, 1e-6, 300)
        count, lonely = count + len(wanted["scores"]), lonely + missing
        pixels, scores = max(pixels, worst["pixels"]), max(scores, worst["scores"])
    print(f"\nconfidence {confidence}: {count} detections, {lonely} without a partner, {pixels:.2g} px, {scores:.2g}")
    assert count >= 20
    assert lonely == 0
    assert pixels <= 0.01 and scores <= 1e-5
