"""YOLOv9, YOLOv10 and YOLOv12, at a small input: the graph is the network's, the pipeline's answers are predict()'s."""

import torch  # isort: skip  # noqa: F401  (this folder is for the export environment)

import dataclasses
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from tritonvision import catalog
from tritonvision.ensembles.in_process import LocalPipeline
from tritonvision.errors import ExportFailed
from tritonvision.exporters.contract import Weights
from tritonvision.exporters.families import yolov8, yolov9, yolov10, yolov12
from tritonvision.exporters.graphs.check import check
from tritonvision.exporters.libraries.ultralytics import load
from tritonvision.exporters.parity import compare, sample_pictures
from tritonvision.tasks import resolve

FAMILIES = {module.FAMILY.name: module.FAMILY for module in (yolov8, yolov9, yolov10, yolov12)}
KIN = {"yolov9c-640": (160, 224), "yolov10n-640": (224, 320), "yolov12n-640": (192, 256)}
FINAL, PIXELS_OF_A_CANDIDATE = 300, 1024 / 21

pytestmark = pytest.mark.usefixtures("few_threads")


@pytest.fixture(scope="module", params=KIN)
def model(request, tmp_path_factory):
    """A calibrated random detector: its id, family, network, pipeline and graph."""
    entry = dataclasses.replace(catalog.find(request.param), input_size=KIN[request.param])
    family = FAMILIES[entry.family]
    network = family.build(entry, Weights("random", seed=7))
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    network.export(path)
    pipeline = LocalPipeline(path, family.resize(entry), family.head, threads=1)
    return SimpleNamespace(id=request.param, family=family, network=network, pipeline=pipeline, path=path)


def found_by_both(model, picture, given):
    """Detections of the pipeline and of ultralytics, which agree."""
    settings = resolve(model.pipeline.head.task.parameters, given)
    got, want = model.pipeline(picture, given), model.network.predict(picture, settings)
    missing, differences = compare.detections(got, want, settings["confidence"], 1e-5, settings["max_detections"])
    assert missing == 0
    assert differences["pixels"] <= 0.01 and differences["scores"] <= 1e-5
    return want


@pytest.mark.parametrize("batch", [1, 2])
def test_the_graph_computes_what_the_network_computes(model, batch):
    photo, _ = model.pipeline.resize(sample_pictures.photo())
    height, width = photo.shape[:2]
    pixels = {"pixels": np.stack([photo, sample_pictures.noise(height, width)])[:batch]}
    got, want = model.pipeline.tensors(pixels), model.network.tensors(pixels)
    anchors = int(height * width / PIXELS_OF_A_CANDIDATE)
    assert got["scores"].shape == (batch, FINAL if model.id.startswith("yolov10") else anchors)
    differences = compare.tensor_differences(model.family.head.name, got, want, model.family.tolerance.tensors)
    assert all(difference <= model.family.tolerance.tensors[name] for name, difference in differences.items())


def test_the_graph_keeps_its_contract(model):
    check(model.path, model.pipeline.net)
    operators = {node.op_type for node in onnx.load(model.path).graph.node}
    assert not operators & {"NonMaxSuppression", "NonZero", "Loop", "If", "Mod"}


@pytest.mark.parametrize(
    "given",
    [{"confidence": 0.25, "iou_threshold": 0.5}, {"confidence": 0.1, "classes": list(range(0, 80, 2))}],
    ids=["confidence 0.25", "every other class"],
)
def test_the_pipeline_finds_what_predict_finds(model, given):
    counts = [len(found_by_both(model, picture, given)["scores"]) for picture in sample_pictures.views().values()]
    assert sum(counts) >= 40  # or the comparison would prove little


def test_a_random_network_carries_signal(model):
    found = model.pipeline(sample_pictures.photo())
    assert 10 <= len(found["scores"]) <= 60 and len(set(found["class_ids"].tolist())) >= 2


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Files of YOLOv10 and YOLOv8 with three classes, as training with pictures of 640 pixels saves them."""
    load.prepare()
    folder = tmp_path_factory.mktemp("weights")
    for stem in ("yolov10n", "yolov8n"):
        yolo = load.architecture(stem, 3, seed=0)
        yolo.model.names = {0: "disc", 1: "box", 2: "triangle"}
        torch.save({"model": yolo.model, "ema": None, "train_args": {"imgsz": 640}}, folder / f"{stem}.pt")
    return folder


def test_a_one_to_one_head_finds_no_more_than_asked_for_and_suppresses_nothing(checkpoints):
    entry = dataclasses.replace(catalog.find("yolov10n-640"), input_size=(64, 64))
    network = yolov10.FAMILY.build(entry, Weights("user", path=checkpoints / "yolov10n.pt", size=(64, 64)))
    settings = resolve(yolov10.FAMILY.head.task.parameters, {"confidence": 0.0})
    picture = sample_pictures.noise(64, 64)
    every = network.predict(picture, settings)
    strict = network.predict(picture, settings | {"iou_threshold": 0.0, "max_detections": 7})
    assert len(every["scores"]) == 84  # the best pairs of an anchor and a class, as many as there are anchors
    np.testing.assert_array_equal(strict["boxes"], every["boxes"][:7])


@pytest.mark.parametrize(
    ("model_id", "file", "message"),
    [
        ("yolov8n-640", "yolov10n.pt", "of a plain detector: their network ends in v10Detect"),
        ("yolov10n-640", "yolov8n.pt", "of a one-to-one detector: their network ends in Detect"),
        ("yolov10s-640", "yolov10n.pt", "not those of yolov10s"),
        ("yolov12n-640", "yolov8n.pt", "not those of yolo12n"),
    ],
)
def test_weights_of_another_family_or_size_are_refused(checkpoints, model_id, file, message):
    entry = catalog.find(model_id)
    with pytest.raises(ExportFailed, match=message):
        FAMILIES[entry.family].build(entry, Weights("user", path=checkpoints / file))


@pytest.mark.parametrize(("model_id", "noted"), [("yolov8n-1280", True), ("yolov8n-640", False)])
def test_released_weights_of_another_size_than_the_ids_are_said_to_be(checkpoints, monkeypatch, model_id, noted):
    monkeypatch.setattr(load, "official", lambda stem: checkpoints / f"{stem}.pt")
    network = yolov8.FAMILY.build(catalog.find(model_id), Weights("official"))
    assert any("trained with pictures of 640 pixels" in note for note in network.notes) is noted
