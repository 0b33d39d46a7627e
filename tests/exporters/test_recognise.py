"""Weights of a family tell which of its ids they are of; those of none are refused with the nearest one's reason."""

import torch  # isort: skip

import pytest

from tritonvision.errors import ExportFailed, InvalidParameter
from tritonvision.exporters import recognise
from tritonvision.exporters.contract import Weights
from tritonvision.exporters.libraries.ultralytics import load


@pytest.mark.parametrize(("name", "spelt"), [("YOLOv8 Seg", "yolov8-seg"), ("RFDetr", "rfdetr"), ("ResNet", "ResNet")])
def test_families_are_spelt_as_people_do(name, spelt):
    assert recognise.family(spelt) == name


def test_an_unknown_family_is_refused_with_a_likely_one():
    with pytest.raises(InvalidParameter, match="No family is called 'yolov88'") as caught:
        recognise.family("yolov88")
    assert "YOLOv8" in caught.value.hint


@pytest.mark.parametrize("size", ["18", "34"])
def test_a_classifier_of_ones_own_is_recognised_by_its_tensors(tmp_path, size):
    import timm

    path = tmp_path / "flowers.pth"
    torch.save(timm.create_model(f"resnet{size}", num_classes=3).state_dict(), path)
    assert recognise.entry_of("ResNet", Weights("user", path)).id == f"resnet{size}"


def test_a_detector_of_ones_own_is_recognised_and_one_of_another_family_is_not(tmp_path):
    load.prepare()
    path = tmp_path / "best.pt"
    load.architecture("yolov8n", 3, seed=0).save(path)
    assert recognise.entry_of("YOLOv8", Weights("user", path)).id == "yolov8n-640"
    torch.save({"weights": {"x": torch.ones(1)}}, tmp_path / "other.pth")
    with pytest.raises(ExportFailed, match="The weights fit no id of ResNet: The weights are not those of"):
        recognise.entry_of("ResNet", Weights("user", tmp_path / "other.pth"))
