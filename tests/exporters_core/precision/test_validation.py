"""What ``validate`` measures: answers of a server, in the form that measures read, over labelled pictures."""

import json

import cv2
import numpy as np
import pytest

from tritonvision.errors import ExportFailed, InvalidParameter, NotSupported
from tritonvision.exporters.precision import validation
from tritonvision.exporters.precision.validation import Data, tensors_of
from tritonvision.publication import Manifest
from tritonvision.results import (
    ClassificationPrediction,
    DepthMap,
    Detections,
    InstanceDetections,
    InstancesRLEMasks,
    MultiLabelClassificationPrediction,
)

LABELS = ("ant", "bee", "cat", "dog", "eel", "fox")
GREYS = {"ant": 10, "bee": 60, "cat": 110}


@pytest.fixture
def classes(tmp_path):
    """Two pictures of each of three classes, whose grey tells the class."""
    for name, grey in GREYS.items():
        (tmp_path / name).mkdir()
        for number in range(2):
            cv2.imwrite(str(tmp_path / name / f"{number}.png"), np.full((8, 8, 3), grey, np.uint8))
    return tmp_path


def scored(order):
    """Scores by which the classes rank in this order."""
    scores = np.zeros(len(LABELS), np.float32)
    scores[list(order)] = np.linspace(1, 0.5, len(order))
    return scores


def test_the_best_class_and_the_five_best_are_counted(classes):
    ranks = {10: (0, 1, 2, 3, 4, 5), 60: (0, 2, 1, 3, 4, 5), 110: (0, 1, 3, 4, 5, 2)}  # first, third, last

    def answer(sample, given):
        grey = int(sample[0, 0, 0])
        return tensors_of(ClassificationPrediction(np.array([0]), scored(ranks[grey])[None]))

    found = Data.of(classes, "classification", LABELS, "", None)
    figures = found.measured(answer)
    assert found.count == 6 and figures == pytest.approx({"top1": 100 / 3, "top5": 200 / 3})
    assert Data.of(classes, "classification", LABELS, "", 3).count == 3
    assert {label for _, label in Data.of(classes, "classification", LABELS, "", 3).read} == {0, 1, 2}


def test_masks_of_a_server_are_measured_as_masks_and_as_boxes(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((20, 40, 3), np.uint8))
    (tmp_path / "a.txt").write_text("1 0.25 0.25 0.75 0.25 0.75 0.75 0.25 0.75\n")
    found = Data.of(tmp_path, "instance-segmentation", ("cat", "dog"), "", None)
    truth = found.read.truth.annToMask(found.read.truth.dataset["annotations"][0]).astype(bool)

    def answer(mask):
        detections = InstanceDetections(
            np.array([[10, 5, 30, 15]], np.float32), np.array([1]), np.ones(1, np.float32),
            mask=InstancesRLEMasks((20, 40), [encoded(mask)]),
        )  # fmt: skip
        return lambda sample, given: tensors_of(detections)

    assert found.measured(answer(truth)) == pytest.approx(
        dict.fromkeys(("map", "map50", "mask_map", "mask_map50"), 100)
    )
    half = truth.copy()
    half[:, 22:] = False
    figures = found.measured(answer(half))
    assert figures["map"] == pytest.approx(100) and figures["mask_map"] < 50


def encoded(mask):
    from pycocotools import mask as coco

    return coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]


def test_depth_of_a_server_is_compared_in_its_own_unit(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((6, 8, 3), np.uint8))
    truth = np.linspace(1, 4, 48, dtype=np.float32).reshape(6, 8)
    np.save(tmp_path / "a.npy", truth)
    metres = Data.of(tmp_path, "depth-estimation", (), "depth", None)
    assert metres.measured(lambda *_: tensors_of(DepthMap(truth * 1.1, "depth")))["absrel"] == pytest.approx(
        10, abs=1e-3
    )
    inverse = Data.of(tmp_path, "depth-estimation", (), "inverse-depth", None)
    assert inverse.measured(lambda *_: tensors_of(DepthMap(7 / truth + 3, "inverse-depth")))["absrel"] < 1e-3


def test_results_of_other_kinds_and_tasks_without_labels_are_refused(classes):
    both = (object(), Detections(np.zeros((1, 4), np.float32), np.zeros(1), np.ones(1, np.float32)))
    assert tensors_of(both)["class_ids"].dtype == np.int32
    many = MultiLabelClassificationPrediction(np.array([1]), scored((1, 2)))
    assert tensors_of(many)["scores"].argmax() == 1
    with pytest.raises(NotSupported, match="not measured"):
        tensors_of("a text")
    with pytest.raises(NotSupported, match="no labels that vlm is measured by"):
        Data.of(classes, "vlm", (), "", None)
    with pytest.raises(ExportFailed, match="not in a folder that is called as a class"):
        Data.of(classes, "classification", ("zebra",), "", None)


def manifest(**more):
    told = {
        "id": "mine/1", "family": "YOLOv8", "task": "object-detection", "head": "dense-boxes", "weights": "random",
        "source": "yolov8s, seed 7", "sha256": "0", "license": "x", "precision": "fp32", "labels": (),
        "input_size": (640, 640), "steps": (),
    }  # fmt: skip
    return Manifest.from_json(json.dumps(told | more))


def test_the_reference_of_random_weights_is_found_by_what_the_manifest_tells():
    assert validation._entry(manifest()).id == "yolov8s-640"
    assert validation._entry(manifest(id="yolov8n-1280")).id == "yolov8n-1280"
    with pytest.raises(ExportFailed, match="Nothing tells which id of YOLOv8"):
        validation._entry(manifest(source="best.pt"))


def test_the_reference_of_weights_of_ones_own_asks_for_them():
    with pytest.raises(InvalidParameter, match="needs the weights it was published from") as caught:
        validation.reference(manifest(weights="user", source="best.pt"), None, lambda _: None)
    assert caught.value.hint == "Name them with --weights PATH: best.pt."
