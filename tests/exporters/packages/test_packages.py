"""Packages without code: files of real exporters are served with the preprocessing and postprocessing they describe.

The gate compares every package with its own graph; these tests compare with the authors' libraries, and with an
independent implementation of the package's description.
"""

import torch  # isort: skip

import copy
import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from packages import ID, SIZE, Classifier, Queries, Yolo, describe, write
from torch import nn

from tritonvision.errors import InvalidParameter
from tritonvision.exporters.libraries import torch_env
from tritonvision.exporters.packages import import_package
from tritonvision.exporters.packages import wrap as graphs
from tritonvision.exporters.packages.description import of_folder
from tritonvision.exporters.packages.files import PackageFolder
from tritonvision.exporters.packages.pipeline import PackageFamily
from tritonvision.exporters.parity import sample_pictures
from tritonvision.publication import Repository

pytestmark = pytest.mark.usefixtures("few_threads")


# ---- as the authors' libraries have it -----------------------------------------------------------------------------


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_yolo_as_ultralytics_exports_it_answers_what_ultralytics_predicts(
    three_classes, folder, published, dynamic, monkeypatch
):
    monkeypatch.chdir(folder.parent)  # where ultralytics writes
    exported = copy.deepcopy(three_classes).export(
        format="onnx", imgsz=320, dynamic=dynamic, simplify=False, verbose=False
    )
    (folder / "weights.onnx").write_bytes(Path(exported).read_bytes())
    describe(folder, ("disc", "box", "triangle"), (320, 320), "letterbox", {"type": "nms"}, padding_value=114)
    manifest, ask = published()
    assert (manifest.task, manifest.head, manifest.weights) == ("object-detection", "dense-boxes", "user")
    assert manifest.labels == ("disc", "box", "triangle") and manifest.input_size == (320, 320)
    views = sample_pictures.views()
    seen = 0
    for name in ("photo", "wide-512x260"):  # sizes at which rounding and truncating agree
        rgb = views[name]
        got = ask(rgb, {"confidence": 0.1, "iou_threshold": 0.5})
        (want,) = copy.deepcopy(three_classes).predict(
            np.ascontiguousarray(rgb[..., ::-1]), imgsz=320, rect=False, conf=0.1, iou=0.5, device="cpu", verbose=False
        )
        assert np.array_equal(got["class_ids"], want.boxes.cls.numpy().astype(int))
        np.testing.assert_allclose(got["boxes"], want.boxes.xyxy.numpy(), atol=0.01)
        np.testing.assert_allclose(got["scores"], want.boxes.conf.numpy(), atol=1e-4)
        seen += len(got["scores"])
    assert seen


def test_a_timm_classifier_answers_its_own_soft_max_of_the_described_pixels(folder, published):
    torch_env.import_torchvision()
    import timm

    torch.manual_seed(0)
    network = timm.create_model("resnet18", num_classes=7, pretrained=False).eval()
    mean, std = [0.4, 0.45, 0.5], [0.2, 0.25, 0.3]
    with torch.no_grad():
        network.train()(torch.rand(4, 3, SIZE, SIZE))  # batch norms with statistics of their own
    network.eval()
    network.fc.weight.data *= 20
    write(folder, network, ["scores"])
    post = {"type": "softmax", "fused": False}
    describe(folder, "abcdefg", mode="stretch", post=post, task="classification", normalization=[mean, std])
    manifest, ask = published()
    assert manifest.task == "classification" and not manifest.multi_label
    rgb = sample_pictures.photo()
    pixels = (cv2.resize(rgb, (SIZE, SIZE)).astype(np.float64) / 255 - mean) / std
    with torch.no_grad():
        want = network(torch.from_numpy(pixels.transpose(2, 0, 1)[None]).float()).softmax(1)[0].numpy()
    np.testing.assert_allclose(ask(rgb)["scores"], want, atol=1e-5)
    assert np.ptp(want) > 0.01


# ---- as the description has it -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["stretch", "letterbox", "letterbox-reflect-edges", "center-crop", "fit-longer-edge"])
@pytest.mark.parametrize("dynamic", [False, True])
def test_every_resize_mode_maps_boxes_back_to_the_picture(folder, published, mode, dynamic):
    write(folder, Yolo(3), ["output0"], dynamic=dynamic)
    describe(folder, "abc", mode=mode, color_mode="bgr", padding_value=9, normalization=[[0.5] * 3, [0.3] * 3])
    manifest, ask = published()
    assert manifest.parity["pipeline_answers"] > 100 and manifest.parity["pipeline_pixels"] < 0.01
    picture = np.zeros((90, 150, 3), np.uint8)
    found = ask(picture, {"confidence": 0.0, "iou_threshold": 1.0})
    corner = found["boxes"][found["boxes"].sum(1).argmax(), 2:]
    assert (corner <= (150, 90)).all() and found["boxes"].min() >= 0
    reach = {"center-crop": (107, 77)}.get(mode, (150, 90))  # of a crop of 64 pixels out of the middle
    np.testing.assert_allclose(corner, reach, atol=9)


@pytest.mark.parametrize("shape", [(300, 401), (64, 64), (333, 97), (1, 500), (500, 1), (63, 65), (20, 30)])
@pytest.mark.parametrize("mode", ["stretch", "letterbox", "center-crop"])
def test_the_pixels_are_those_of_inference_models_rule(folder, mode, shape):
    from tritonvision.exporters.packages import reference

    write(folder, Yolo(3), ["output0"])
    describe(folder, "abc", mode=mode, padding_value=200)
    family = PackageFamily(of_folder(PackageFolder.of(folder)))
    picture = sample_pictures.noise(*shape)
    pixels, geometry = family.resize(None)(picture)
    wanted = reference.prepare(picture, family.description)
    assert np.array_equal(pixels, wanted.pixels)
    assert (geometry.offset_x, geometry.offset_y) == wanted.corner
    if mode == "letterbox":
        scale = min(SIZE / shape[0], SIZE / shape[1])
        shown = (pixels != 200).any(2)
        assert shown.any(1).sum() <= max(int(shape[0] * scale), 1) and shown.any(0).sum() <= max(
            int(shape[1] * scale), 1
        )


def test_masks_mixed_of_prototypes_are_served_with_their_boxes(folder, published):
    write(folder, Yolo(3, masks=1), ["output0", "output1"])
    describe(folder, "abc", mode="letterbox", post={"type": "nms"}, task="instance-segmentation")
    manifest, ask = published()
    assert (manifest.task, manifest.head) == ("instance-segmentation", "prototype-masks")
    assert manifest.parity["pipeline_masks"] < 0.01
    found = ask(sample_pictures.photo(), {"confidence": 0.3})
    assert len(found["masks"]) == len(found["boxes"]) > 0


@pytest.mark.parametrize("dynamic", [False, True])
def test_queries_answer_in_fractions_and_columns_without_a_name_are_left_out(folder, published, dynamic):
    network = Queries(5)
    write(folder, network, ["dets", "labels"], dynamic=dynamic)
    describe(folder, ("nothing", "cat", "dog"), normalization=[[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])
    config = json.loads((folder / "inference_config.json").read_text())
    config["class_names_operations"] = [{"type": "class_name_removal", "class_name": "nothing"}]
    (folder / "inference_config.json").write_text(json.dumps(config))
    manifest, ask = published()
    assert manifest.labels == ("cat", "dog") and manifest.head == "query-boxes"
    rgb = sample_pictures.photo()
    found = ask(rgb, {"confidence": 0.0, "max_detections": 1})
    values = (cv2.resize(rgb, (SIZE, SIZE)) / np.float32(255) - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    with torch.no_grad():
        boxes, logits = network(torch.from_numpy(values.transpose(2, 0, 1)[None]).float())
    scores = logits[0, :, 1:3].sigmoid().numpy()
    query, kind = np.unravel_index(scores.argmax(), scores.shape)
    x, y, w, h = boxes[0, query].numpy() * 512
    assert found["class_ids"].tolist() == [kind]
    np.testing.assert_allclose(found["scores"], scores.max(), atol=1e-5)
    corners = np.clip([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 0, 512)
    np.testing.assert_allclose(found["boxes"][0], corners, atol=0.01)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize(("kind", "task"), [("softmax", None), ("sigmoid", "multi-label-classification")])
def test_an_activation_in_the_graph_is_not_applied_twice(folder, published, fused, kind, task):
    activation = {"softmax": nn.Softmax(1), "sigmoid": nn.Sigmoid()}[kind]
    write(folder, Classifier(4, activation if fused else None), ["scores"], dynamic=True)
    describe(folder, "abcd", post={"type": kind, "fused": fused}, task=task)
    manifest, ask = published()
    assert manifest.multi_label == (kind == "sigmoid")
    rgb = sample_pictures.photo()
    pixels = torch.from_numpy(cv2.resize(rgb, (SIZE, SIZE)).transpose(2, 0, 1)[None] / np.float32(255))
    with torch.no_grad():
        want = Classifier(4, activation)(pixels)[0].numpy()
    np.testing.assert_allclose(ask(rgb)["scores"], want, atol=1e-5)
    np.testing.assert_allclose(ask(rgb, {"function": kind})["scores"], want, atol=1e-5)


def test_a_half_precision_graph_gets_half_precision_inputs(folder, published):
    write(folder, Classifier(4), ["scores"])
    model = onnx.load(folder / "weights.onnx")
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(model), folder / "weights.onnx")
    describe(folder, "abcd", post={"type": "softmax"})
    assert graphs.read(folder / "weights.onnx", (SIZE, SIZE)).dtype == np.float16
    _, ask = published()
    assert ask(sample_pictures.photo())["scores"].sum() == pytest.approx(1)


def test_weights_in_a_file_of_the_package_are_read_and_published_as_one(folder, published):
    write(folder, Classifier(4), ["scores"])
    model = onnx.load(folder / "weights.onnx")
    onnx.save(model, folder / "weights.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert (folder / "weights.bin").is_file()
    describe(folder, "abcd", post={"type": "softmax"})
    _, ask = published()
    assert ask(sample_pictures.photo())["scores"].sum() == pytest.approx(1)


# ---- again, and over something else --------------------------------------------------------------------------------


def test_an_unchanged_package_is_kept_and_a_changed_one_published_again(folder, tmp_path):
    write(folder, Classifier(4), ["scores"])
    describe(folder, "abcd", post={"type": "softmax"})
    root = tmp_path / "repository"
    first, fresh = import_package(folder, ID, root)
    assert fresh
    (folder / "class_names.txt").touch()  # a newer date is no change
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "x.pyc").write_bytes(b"1")
    assert import_package(folder, ID, root) == (first, False)
    assert import_package(folder, ID, root, force=True)[1]
    describe(folder, "abce", post={"type": "softmax"})
    second, fresh = import_package(folder, ID, root)
    assert fresh and second.labels == tuple("abce") and Repository(root).get(ID) == second


def test_an_exported_model_of_the_id_is_replaced_only_with_force(folder, tmp_path):
    write(folder, Classifier(4), ["scores"])
    describe(folder, "abcd", post={"type": "softmax"})
    root = tmp_path / "repository"
    manifest, _ = import_package(folder, ID, root)
    path = root / "mine__3" / "manifest.json"
    path.write_text(path.read_text().replace(manifest.family, "YOLOv8"))
    with pytest.raises(InvalidParameter, match="is published already and is no package"):
        import_package(folder, ID, root)
    assert import_package(folder, ID, root, force=True)[1]
