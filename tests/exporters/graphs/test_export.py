"""The torchvision shim, and random heads that carry signal."""

import torch  # isort: skip

import numpy as np
import pytest

from tritonvision.errors import ExportFailed
from tritonvision.exporters.libraries import torch_env
from tritonvision.exporters.synthetic import calibrate
from tritonvision.python_backend.postprocess import dense_boxes


@pytest.fixture(scope="module")
def crowd():
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 300, (400, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(10, 120, (400, 2))], axis=1).astype(np.float32)
    return boxes, np.round(rng.uniform(0, 1, 400), 2).astype(np.float32)  # rounded: with ties


def test_torchvision_imports_beside_this_torch_and_its_nms_works(crowd):
    torch_env.import_torchvision()
    import torchvision

    boxes, scores = crowd
    kept = torchvision.ops.nms(torch.from_numpy(boxes), torch.from_numpy(scores), 0.45).numpy()
    assert np.array_equal(kept, torch_env.greedy_nms(boxes, scores, 0.45))


@pytest.mark.parametrize("iou_threshold", [0.3, 0.45, 0.7])
def test_nms_keeps_what_ultralytics_own_nms_keeps(crowd, iou_threshold):
    from tritonvision.exporters.libraries.ultralytics import load

    load.prepare()
    from ultralytics.utils.nms import TorchNMS

    boxes, scores = crowd
    theirs = TorchNMS.nms(torch.from_numpy(boxes), torch.from_numpy(scores), iou_threshold).numpy()
    ours = torch_env.greedy_nms(boxes, scores, iou_threshold)
    assert 10 < len(ours) < 400
    assert scores[ours].tolist() == scores[theirs].tolist()
    order = np.argsort(-scores, kind="stable")
    assert np.array_equal(order[dense_boxes.nms(boxes[order], iou_threshold, 400)], ours)


def test_a_standardised_layers_outputs_have_the_given_mean_and_deviation():
    rows = torch.randn(500, 32, dtype=torch.float64) * 1e-8 + 3e-8  # what is left of a signal in a deep random network
    layer = torch.nn.Conv2d(32, 5, 1)
    calibrate.standardise(layer, rows, 1.5, torch.arange(5, dtype=torch.float64))
    answers = rows @ layer.weight.double().flatten(1).T + layer.bias.double()
    assert torch.allclose(answers.std(0), torch.full((5,), 1.5, dtype=torch.float64), rtol=1e-3)
    assert torch.allclose(answers.mean(0), torch.arange(5, dtype=torch.float64), atol=1e-2)


def test_rows_of_a_picture_of_one_colour_get_the_mean_output():
    rows, dull = torch.randn(500, 32, dtype=torch.float64), torch.randn(9, 32, dtype=torch.float64)
    layer = torch.nn.Linear(32, 5)
    calibrate.standardise(layer, rows, 1.0, torch.zeros(5, dtype=torch.float64), dull)
    assert (dull @ layer.weight.double().T + layer.bias.double()).abs().max() < 1e-4


def test_the_shift_lets_twenty_to_forty_boxes_survive(crowd):
    boxes, scores = crowd
    rng = np.random.default_rng(1)
    logits, class_ids = rng.normal(-9, 2, len(scores)).astype(np.float32), rng.integers(0, 4, len(scores))
    shift = calibrate.detection_shift(boxes, logits, class_ids, 4)
    settings = {
        "confidence": 0.4, "iou_threshold": 0.3, "max_detections": 300, "max_candidates": 3000, "classes": None,
        "class_agnostic_nms": False,
    }  # fmt: skip
    tensors = {"boxes": boxes, "scores": 1 / (1 + np.exp(-(logits + shift))), "class_ids": class_ids.astype(np.int32)}
    order = dense_boxes.candidates(tensors["scores"], settings)
    shifted = tensors["boxes"][order] + class_ids[order][:, None].astype(np.float32) * 7680
    assert 20 <= len(dense_boxes.nms(shifted, 0.3, 300)) <= 41


def test_flat_answers_are_refused_as_signal():
    boxes = np.tile(np.float32([[0, 0, 10, 10]]), (100, 1))
    with pytest.raises(ExportFailed, match="no signal"):
        calibrate.detection_shift(boxes, np.full(100, -9, np.float32), np.zeros(100, np.int64), 80)
