"""YOLOv8 and YOLOv11 segmentation: boxes, and masks at the picture's own size, are those of ultralytics' predict()."""

import torch  # isort: skip  # noqa: F401  (this folder is for the export environment)

import dataclasses
import re

import numpy as np
import onnx
import pytest
from pycocotools import mask as coco

from tritonvision import catalog
from tritonvision.ensembles.in_process import LocalPipeline
from tritonvision.errors import ExportFailed
from tritonvision.exporters.contract import Weights
from tritonvision.exporters.families import yolov8_seg, yolov11_seg
from tritonvision.exporters.graphs.check import check
from tritonvision.exporters.libraries.ultralytics import load
from tritonvision.exporters.parity import compare, sample_pictures
from tritonvision.tasks import resolve

FAMILIES = {"YOLOv8 Seg": yolov8_seg.FAMILY, "YOLOv11 Seg": yolov11_seg.FAMILY}
IDS = [e.id for e in catalog.entries().values() if e.family in FAMILIES]
VIEWS = ("photo", "wide-512x260", "odd-220x316", "tiny-91x77", "large-1100", "no-face-noise-333x97")


@pytest.fixture(
    scope="module",
    params=[("yolov11n-seg-640", (256, 384)), pytest.param(("yolov8n-seg-640", (320, 320)), marks=pytest.mark.slow)],
)
def random_model(request, tmp_path_factory):
    """Family, network, pipeline and graph of a random segmenter, at a smaller input than its own."""
    model_id, size = request.param
    entry = dataclasses.replace(catalog.find(model_id), input_size=size)
    family = FAMILIES[entry.family]
    network = family.build(entry, Weights("random", seed=7))
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    network.export(path)
    return family, network, LocalPipeline(path, family.resize(entry), family.head, threads=1), path


def mask_areas(found, picture):
    return coco.area([{"size": list(picture.shape[:2]), "counts": counts} for counts in found["masks"]])


@pytest.mark.parametrize("batch", [1, 2])
def test_graph_computes_the_networks_candidates_and_prototypes(random_model, batch):
    family, network, pipeline, _ = random_model
    photo, _ = pipeline.resize(sample_pictures.photo())
    height, width = photo.shape[:2]
    pixels = {"pixels": np.stack([photo, sample_pictures.noise(height, width)])[:batch]}
    got, want = pipeline.tensors(pixels), network.tensors(pixels)
    count = height * width * 21 // 1024
    assert {name: value.shape for name, value in got.items()} == {
        "boxes": (batch, count, 4), "scores": (batch, count), "class_ids": (batch, count),
        "coefficients": (batch, count, 32), "prototypes": (batch, 32, height // 4, width // 4),
    }  # fmt: skip
    allowed = family.tolerance.tensors
    differences = compare.tensor_differences(family.head.name, got, want, allowed)
    assert all(differences[name] <= allowed[name] for name in want), differences


def test_the_graph_keeps_its_contract(random_model):
    family, _, pipeline, path = random_model
    check(path, pipeline.net)
    operators = {node.op_type for node in onnx.load(path).graph.node}
    assert not operators & {"NonMaxSuppression", "NonZero", "Shape", "Loop", "If", "Expand"}


def test_random_masks_carry_signal(random_model):
    *_, pipeline, _ = random_model
    photo = sample_pictures.photo()
    found = pipeline(photo)
    shares = mask_areas(found, photo) / np.maximum((found["boxes"][:, 2:] - found["boxes"][:, :2]).prod(1), 1)
    assert 10 <= len(shares) <= 60
    assert 0.2 < shares.mean() < 0.8
    assert ((shares > 0.05) & (shares < 0.95)).mean() > 0.5


@pytest.mark.parametrize(
    "given",
    [{"confidence": 0.25}, {"confidence": 0.1, "iou_threshold": 0.7, "classes": list(range(0, 80, 2))}],
    ids=["confidence 0.25", "every other class"],
)
def test_the_pipelines_instances_are_those_of_predict(random_model, given):
    family, network, pipeline, _ = random_model
    settings = resolve(pipeline.head.task.parameters, given)
    total = 0
    for name in VIEWS:
        picture = sample_pictures.views()[name]
        got = pipeline(picture, given)
        want = network.predict(picture, settings) | {"image_size": np.array(picture.shape[:2])}
        missing, differences = compare.detections(got, want, settings["confidence"], 1e-5, settings["max_detections"])
        assert missing == 0, name
        assert differences["pixels"] <= 0.01 and differences["scores"] <= 1e-5
        assert differences["masks"] <= 0.01  # 1 - IoU
        total += len(want["scores"])
    assert total >= 40  # or the comparison would prove little


def test_boxes_without_masks_are_those_with_masks(random_model):
    *_, pipeline, _ = random_model
    photo = sample_pictures.photo()
    with_masks, without = pipeline(photo), pipeline(photo, {"mask_format": "none"})
    np.testing.assert_array_equal(with_masks["boxes"], without["boxes"])
    assert len(without["masks"]) == 0 < len(with_masks["masks"])


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Files of a segmenter with three classes and of a detector, as ultralytics saves them."""
    load.prepare()
    folder = tmp_path_factory.mktemp("weights")
    for stem in ("yolov8n-seg", "yolov8n"):
        yolo = load.architecture(stem, 3, seed=0)
        yolo.model.names = {0: "disc", 1: "box", 2: "triangle"}
        yolo.save(folder / f"{stem}.pt")
    return folder


def test_a_users_checkpoint_brings_its_labels(checkpoints):
    network = yolov8_seg.FAMILY.build(
        catalog.find("yolov8n-seg-640"), Weights("user", path=checkpoints / "yolov8n-seg.pt")
    )
    assert network.labels == ("disc", "box", "triangle")
    found = network.tensors({"pixels": np.zeros((1, 64, 64, 3), np.uint8)})
    assert found["coefficients"].shape == (1, 84, 32) and found["prototypes"].shape == (1, 32, 16, 16)


@pytest.mark.parametrize(
    ("model_id", "file", "message"),
    [
        ("yolov8n-seg-640", "yolov8n.pt", "plain segmenter"),
        ("yolov8s-seg-640", "yolov8n-seg.pt", "not those of yolov8s-seg"),
        ("yolov11n-seg-640", "yolov8n-seg.pt", "not those of yolo11n-seg"),
    ],
)
def test_weights_of_another_task_or_architecture_are_refused(checkpoints, model_id, file, message):
    entry = catalog.find(model_id)
    with pytest.raises(ExportFailed, match=message):
        FAMILIES[entry.family].build(entry, Weights("user", path=checkpoints / file))


@pytest.mark.parametrize("model_id", IDS)
def test_every_id_of_the_catalogue_names_an_architecture_and_a_size(model_id):
    load.prepare()
    from ultralytics.nn.tasks import yaml_model_load

    entry = catalog.find(model_id)
    family = FAMILIES[entry.family]
    stem = family.architecture(entry)
    assert yaml_model_load(f"{stem}.yaml")["scale"] == stem.removesuffix("-seg")[-1]
    assert re.search(r": (\S+\.pt)", entry.weights_source)[1] == f"{stem}.pt"
    assert ("trained at 640" in entry.weights_source) == (entry.upstream_exists == "unsure")
    assert entry.input_size == (int(model_id.rsplit("-", 1)[1]),) * 2
    assert family.resize(entry).rule == "letterbox"
