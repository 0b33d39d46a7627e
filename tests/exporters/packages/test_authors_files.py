"""Bare ONNX files as ultralytics, RF-DETR and timm write them give the answers of the authors' own code."""

import torch  # isort: skip

import copy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tritonvision.ensembles.in_process import LocalPipeline
from tritonvision.exporters.libraries import torch_env
from tritonvision.exporters.libraries.ultralytics import load
from tritonvision.exporters.packages import import_package
from tritonvision.exporters.packages.onnx_file import OnnxFile
from tritonvision.exporters.packages.options import FileOptions
from tritonvision.exporters.packages.pipeline import PackageFamily
from tritonvision.exporters.parity import sample_pictures

pytestmark = pytest.mark.usefixtures("few_threads")


@pytest.fixture
def published(tmp_path):
    """Imports a file and returns its manifest and the published model, run in this process."""

    def published(path, **options):
        given = FileOptions(**options)
        manifest, _ = import_package(path, "mine/3", tmp_path / "repository", options=given)
        family = PackageFamily(OnnxFile.of(path, given).describe())
        graph = tmp_path / "repository" / "net--mine__3" / "1" / "model.onnx"
        return manifest, LocalPipeline(graph, family.resize(None), family.head)

    return published


def test_a_detector_of_ultralytics_answers_what_ultralytics_predicts(three_classes, published, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where ultralytics writes
    path = copy.deepcopy(three_classes).export(format="onnx", imgsz=(256, 320), simplify=False, verbose=False)
    manifest, ask = published(Path(path))
    assert manifest.labels == ("disc", "box", "triangle") and manifest.input_size == (256, 320)
    assert (manifest.task, manifest.notes) == ("object-detection", ())
    seen = 0
    for name in ("photo", "odd-220x316"):
        rgb = sample_pictures.views()[name]
        got = ask(rgb, {"confidence": 0.1, "iou_threshold": 0.5})
        (want,) = copy.deepcopy(three_classes).predict(
            np.ascontiguousarray(rgb[..., ::-1]), imgsz=(256, 320), rect=False, conf=0.1, iou=0.5, device="cpu",
            verbose=False,
        )  # fmt: skip
        assert np.array_equal(got["class_ids"], want.boxes.cls.numpy().astype(int))
        np.testing.assert_allclose(got["boxes"], want.boxes.xyxy.numpy(), atol=0.01)
        seen += len(got["scores"])
    assert seen


def test_a_classifier_of_ultralytics_answers_what_ultralytics_predicts(published, tmp_path, monkeypatch):
    load.prepare()
    from ultralytics import YOLO

    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    yolo = YOLO("yolov8n-cls.yaml", task="classify")
    given = yolo.model
    yolo.model = type(given)("yolov8n-cls.yaml", nc=3, verbose=False).eval()
    yolo.model.args, yolo.model.task = given.args, "classify"
    yolo.model.names = {0: "oak", 1: "elm", 2: "fir"}
    with torch.no_grad():
        for module in yolo.model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None
        yolo.model.train()(torch.rand(4, 3, 64, 64))
        yolo.model.eval().model[-1].linear.weight.mul_(20)
    path = copy.deepcopy(yolo).export(format="onnx", imgsz=64, simplify=False, verbose=False)
    manifest, ask = published(Path(path))
    assert (manifest.task, manifest.labels) == ("classification", ("oak", "elm", "fir"))
    rgb = sample_pictures.photo()
    (want,) = yolo.predict(np.ascontiguousarray(rgb[..., ::-1]), imgsz=64, device="cpu", verbose=False)
    np.testing.assert_allclose(ask(rgb)["scores"], want.probs.data.numpy(), atol=1e-4)


def test_a_classifier_of_timm_answers_its_own_transform(published, tmp_path):
    torch_env.import_torchvision()
    import timm
    from timm.data import create_transform, resolve_data_config
    from timm.utils.onnx import onnx_export

    torch.manual_seed(0)
    network = timm.create_model("resnet10t", num_classes=5, pretrained=False).eval()
    with torch.no_grad():
        network.train()(torch.rand(4, 3, 64, 64))
        network.eval().fc.weight.mul_(20)
    onnx_export(network, str(tmp_path / "trees.onnx"), batch_size=1, input_size=(3, 176, 176), check=False)
    cut = 100 * network.pretrained_cfg["crop_pct"]
    assert cut == 87.5
    manifest, ask = published(tmp_path / "trees.onnx", resize=f"crop-{cut}-bilinear", normalize="imagenet")
    assert manifest.labels == tuple(f"class {i}" for i in range(5)) and "--labels" in manifest.notes[0]
    config = resolve_data_config(network.pretrained_cfg) | {"input_size": (3, 176, 176), "interpolation": "bilinear"}
    rgb = sample_pictures.photo()
    with torch.no_grad():
        want = network(create_transform(**config)(Image.fromarray(rgb))[None]).softmax(1)[0].numpy()
    np.testing.assert_allclose(ask(rgb)["scores"], want, atol=1e-4)
    assert np.ptp(want) > 0.01
