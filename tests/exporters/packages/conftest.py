"""A detector of ultralytics that the tests of this folder export and ask."""

import torch  # noqa: F401  isort: skip

from dataclasses import replace

import pytest

from tritonvision import catalog
from tritonvision.exporters.families import yolov8
from tritonvision.exporters.libraries.ultralytics import load


@pytest.fixture(scope="session")
def three_classes():
    """A yolov8n whose random weights find some thirty things of three classes on the photo."""
    load.prepare()
    yolo = load.architecture("yolov8n", 3, seed=1)
    yolov8.FAMILY.calibrate(yolo.model, replace(catalog.find("yolov8n-640"), input_size=(320, 320)), seed=1)
    yolo.model.names = dict(enumerate(("disc", "box", "triangle")))
    return yolo
