"""What ``tritonvision validate`` prints, and what it refuses before it starts a server."""

import cv2
import numpy as np
import pytest

from tritonvision.cli.validate import Report, table, validate
from tritonvision.errors import ExportFailed, UnknownModel
from tritonvision.server.process import free_port


def test_figures_stand_side_by_side_and_a_missing_reference_says_why():
    served, reference = {"map": 37.314, "map50": 100.0}, {"map": 37.28, "map50": 99.5}
    assert table(Report("yolov8n-640", "object-detection", 20, served, reference), "val2017").splitlines() == [
        "yolov8n-640 over 20 pictures of 'val2017', in percent:",
        "                               served  reference",
        "mAP of boxes, IoU 0.5 to 0.95   37.31      37.28",
        "mAP of boxes, IoU 0.5          100.00      99.50",
    ]
    alone = table(Report("resnet18", "classification", 3, {"top1": 66.7, "top5": 100.0}, None, "No torch."), "birds")
    assert alone.splitlines()[1:] == [
        "                            served",
        "accuracy of the best class   66.70",
        "class among the five best   100.00",
        "The reference is not beside it: No torch.",
    ]


@pytest.fixture
def alone(monkeypatch):
    """No server answers on this machine."""
    monkeypatch.setenv("TRITONVISION_PORT", str(free_port()))


def test_a_folder_without_labels_is_refused_before_a_server_is_started(alone, repository, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(ExportFailed, match="must hold one JSON file of labels, and holds 0"):
        validate("mediapipe-face-detection", data=tmp_path, repository=repository)


def test_an_unpublished_model_is_refused(alone, tmp_path):
    with pytest.raises(UnknownModel, match="'yolov8n-640' is not published here"):
        validate("yolov8n-640", data=tmp_path, repository=tmp_path)
