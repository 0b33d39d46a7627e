"""Checkpoints of ultralytics: class names, head, training size, fused or not."""

import torch  # isort: skip

import copy

import numpy as np
import pytest

from tritonvision import catalog
from tritonvision.errors import ExportFailed, InvalidParameter, NotSupported
from tritonvision.exporters import pipeline
from tritonvision.exporters.contract import Weights, entry_points_of
from tritonvision.exporters.families import yolov8
from tritonvision.exporters.libraries.ultralytics import load

ENTRY = catalog.find("yolov8n-640")


@pytest.fixture(scope="module")
def two_classes():
    load.prepare()
    yolo = load.architecture("yolov8n", 2, seed=3)
    yolo.model.names = {0: "a", 1: "b"}
    return yolo.model


@pytest.fixture
def saved(two_classes, tmp_path):
    """Writes a checkpoint as training does, with the changes of a test."""

    def saved(names=None, size=640, fused=False):
        model = copy.deepcopy(two_classes)
        model.names = names or model.names
        if fused:
            model.fuse(verbose=False)
        path = tmp_path / "best.pt"
        torch.save({"model": model, "ema": None, "train_args": {"task": "detect", "imgsz": size}}, path)
        return path

    return saved


def built(path, **more):
    return yolov8.FAMILY.build(ENTRY, Weights("user", path=path, **more))


@pytest.mark.parametrize("names", [{0: "a", 1: "b"}, {"0": "a", "1": "b"}, ["a", "b"]])
def test_class_names_are_read_with_every_kind_of_keys(saved, names):
    assert built(saved(names)).labels == ("a", "b")


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ({1: "a", 2: "b"}, "are not numbered 0, 1, 2"),
        ({0: "a", 1: "b", 2: "c"}, "The weights file names 3 classes, and the head of its network has 2"),
        ({0: "a"}, "The weights file names 1 classes, and the head of its network has 2"),
    ],
)
def test_names_that_do_not_fit_the_head_are_refused_unless_labels_are_given(saved, names, sentence):
    path = saved(names)
    with pytest.raises(ExportFailed, match=sentence) as caught:
        built(path)
    assert "--labels FILE names all 2" in caught.value.hint
    network = built(path, labels=("x", "y"))
    assert network.labels == ("x", "y")
    pixels = np.zeros((1, 64, 64, 3), np.uint8)
    assert set(network.tensors({"pixels": pixels})["class_ids"].ravel()) <= {0, 1}


def test_labels_are_counted_against_the_head(saved):
    with pytest.raises(ExportFailed, match="The labels name 3 classes, and the head of its network has 2"):
        built(saved(), labels=("x", "y", "z"))


def test_a_fused_checkpoint_is_the_same_network(saved):
    plain, fused = built(saved()), built(saved(fused=True))
    pixels = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    got, want = fused.tensors({"pixels": pixels}), plain.tensors({"pixels": pixels})
    np.testing.assert_allclose(got["scores"], want["scores"], atol=1e-5)


def test_weights_of_another_size_are_refused_by_the_tensor(saved):
    with pytest.raises(ExportFailed, match=r"not those of yolov8s: 'model\..* is \[16, 3, 3, 3\], not \[32, 3, 3, 3\]"):
        yolov8.FAMILY.build(catalog.find("yolov8s-640"), Weights("user", path=saved()))


@pytest.mark.parametrize(
    ("trained", "asked", "side", "noted"),
    [(640, None, 640, False), (300, None, 320, True), (320, (640, 640), 640, False)],
)
def test_the_training_size_is_served_unless_the_caller_gives_another(saved, trained, asked, side, noted):
    network = built(saved(size=trained), size=asked)
    (point,) = entry_points_of(yolov8.FAMILY, ENTRY, network)
    assert point.size == (side, side)
    assert any("--size 640" in note for note in network.notes) is noted


def test_an_invalid_size_is_refused(saved, tmp_path):
    with pytest.raises(InvalidParameter, match="A YOLO cannot take 100 x 640 pixels"):
        built(saved(), size=(100, 640))
    with pytest.raises(NotSupported, match="'resnet18' takes pictures of its own size"):
        pipeline.export("resnet18", Weights("random", size=(64, 64)), tmp_path / "repository")
