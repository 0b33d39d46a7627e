"""Random detectors of one box an anchor carry signal."""

import torch  # isort: skip

import copy

import numpy as np
import pytest

from tritonvision import catalog
from tritonvision.exporters.families.yolov8 import FAMILY
from tritonvision.exporters.libraries.ultralytics import load
from tritonvision.exporters.libraries.ultralytics.detect import detection_graph
from tritonvision.exporters.parity import sample_pictures
from tritonvision.python_backend.postprocess import dense_boxes


@pytest.mark.parametrize("model_id, settled", [
    ("yolov8n-640", False), pytest.param("yolov9e-640", True, marks=pytest.mark.slow),
])  # fmt: skip
def test_however_little_signal_a_deep_network_has_the_photo_has_boxes(model_id, settled):
    """Of the deepest ones float32 leaves so little that every score would be 1 without settled batch norms."""
    load.prepare()
    entry = catalog.find(model_id)
    model = load.architecture(model_id.partition("-")[0], 80, 0).model
    before = copy.deepcopy(model.state_dict())
    FAMILY.calibrate(model, entry, seed=0)
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    changed = any((before[name] != value).any() for name, value in model.state_dict().items() if "running_mean" in name)
    assert changed == settled, "what carries signal keeps its statistics"
    pixels, _ = FAMILY.resize(entry)(sample_pictures.photo())
    with torch.inference_mode():
        graph = detection_graph(copy.deepcopy(model), *entry.fixed_size)
        boxes, scores, class_ids = (t[0].numpy() for t in graph(torch.from_numpy(pixels)[None]))
    best = scores > 0.4
    apart = boxes[best] + class_ids[best, None].astype(np.float32) * np.float32(7680)
    assert 10 <= len(dense_boxes.nms(apart, 0.3, 100)) <= 40
