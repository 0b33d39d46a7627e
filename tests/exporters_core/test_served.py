"""The published face model in a real tritonserver answers as mediapipe does, and as one process does."""

import io

import numpy as np
import pytest
from PIL import Image

from tritonvision.client import TritonClient
from tritonvision.exporters import pipeline as exports
from tritonvision.exporters.contract import Weights
from tritonvision.server import Embedded
from tritonvision.settings import Settings

FACE = "mediapipe-face-detection"


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """A client of an embedded server that has the face model loaded."""
    root = tmp_path_factory.mktemp("served")
    manifest = exports.export(FACE, Weights(), root / "models")
    server = Embedded(Settings(repository=root / "models", log_dir=root / "log"))
    server.start()
    try:
        for model in (*manifest.steps, FACE):
            server.load(model)
        with TritonClient(server.address) as client:
            yield client
    finally:
        server.stop()


def png(picture: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return stream.getvalue()


def test_triton_answers_the_recorded_pictures_as_mediapipe_does(client, network):
    for picture, parameters, wanted in network.golden():
        points, boxes = client.infer(FACE, png(picture), **parameters)
        assert len(boxes) == len(points) == len(wanted["scores"])
        np.testing.assert_allclose(boxes.confidence, wanted["scores"], atol=5e-5)
        np.testing.assert_allclose(boxes.xyxy, wanted["boxes"], atol=0.1)
        np.testing.assert_allclose(points.xy, wanted["keypoints"], atol=0.1)


def test_triton_computes_exactly_what_one_process_computes(client, pipeline, network):
    for picture, _, _ in network.golden():
        for parameters in ({"confidence": 0.05}, {"confidence": 0.2, "iou_threshold": 0.7, "max_detections": 2}):
            points, boxes = client.infer(FACE, png(picture), **parameters)
            local = pipeline(picture, parameters)
            np.testing.assert_allclose(boxes.xyxy, local["boxes"], atol=1e-3)
            np.testing.assert_allclose(points.xy, local["keypoints"], atol=1e-3)
            np.testing.assert_allclose(boxes.confidence, local["scores"], atol=1e-6)
