"""Packages without code: what real exporters write is served as the author means it, and what cannot be is refused.

The gate compares every package with its own graph; these tests compare with the authors' libraries, and with what the
description of a package says, worked out here once more.
"""

import torch  # isort: skip

import copy
import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from torch import nn

from tritonvision.ensembles.in_process import LocalPipeline
from tritonvision.errors import ExportFailed, InvalidParameter
from tritonvision.exporters.libraries import torch_env
from tritonvision.exporters.packages import import_package
from tritonvision.exporters.packages import wrap as graphs
from tritonvision.exporters.packages.config import InferenceConfig
from tritonvision.exporters.packages.description import of_folder
from tritonvision.exporters.packages.files import PackageFolder
from tritonvision.exporters.packages.pipeline import PackageFamily
from tritonvision.exporters.parity import sample_pictures
from tritonvision.publication import Repository

pytestmark = pytest.mark.usefixtures("few_threads")
ID = "mine/3"
SIZE = 64


def describe(folder, names, size=(SIZE, SIZE), mode="stretch", post=None, task=None, **network):
    """Write what stands beside ``weights.onnx``; ``network`` are keys of ``network_input``."""
    (folder / "class_names.txt").write_text("".join(f"{name}\n" for name in names))
    given = {
        "training_input_size": {"height": size[0], "width": size[1]}, "dynamic_spatial_size_supported": False,
        "color_mode": "rgb", "resize_mode": mode, "input_channels": 3, "scaling_factor": 255,
    }  # fmt: skip
    before = {"auto-orient": {"enabled": True}, "static-crop": {"enabled": False}, "contrast": None}
    config = {"image_pre_processing": before, "network_input": given | network, "post_processing": post}
    (folder / "inference_config.json").write_text(json.dumps(config))
    if task is not None:
        (folder / "model_config.json").write_text(json.dumps({"task_type": task, "backend_type": "onnx"}))


def write(folder, network, outputs, size=(SIZE, SIZE), dynamic=False):
    names = ["images", *outputs]
    torch.onnx.export(
        network.eval(), torch.zeros(1, 3, *size), folder / "weights.onnx", dynamo=False, opset_version=17,
        input_names=["images"], output_names=outputs, dynamic_axes={n: {0: "N"} for n in names} if dynamic else None,
    )  # fmt: skip


class Yolo(nn.Module):
    """Boxes of one size around the cells of a grid, scored by what is in them: ``[N, 4 + classes, 64]``."""

    def __init__(self, classes, masks=0):
        super().__init__()
        torch.manual_seed(0)
        self.scores, self.masks = nn.Conv2d(3, classes, 8, 8), nn.Conv2d(3, 32, 8, 8)
        self.prototypes = nn.Conv2d(3, 32, 4, 4)
        y, x = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
        boxes = torch.stack([x * 8 + 4, y * 8 + 4, 10 + x, 12 - y]).reshape(1, 4, 64)
        self.register_buffer("boxes", boxes)
        self.with_masks = masks

    def forward(self, images):
        scores = (3 * self.scores(images)).sigmoid().flatten(2)
        rows = [self.boxes.expand(len(images), 4, 64), scores]
        if not self.with_masks:
            return torch.cat(rows, 1)
        return torch.cat([*rows, self.masks(images).flatten(2)], 1), self.prototypes(images)


class Queries(nn.Module):
    """Boxes as fractions and logits, as RF-DETR gives them: ``[N, 64, 4]`` and ``[N, 64, classes]``."""

    def __init__(self, classes):
        super().__init__()
        self.inner = Yolo(classes)

    def forward(self, images):
        boxes = self.inner.boxes.expand(len(images), 4, 64) / SIZE
        return boxes.transpose(1, 2), (4 * self.inner.scores(images)).flatten(2).transpose(1, 2)


class Classifier(nn.Module):
    def __init__(self, classes, activation=None):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 8, 8), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.last, self.activation = nn.Linear(32, classes), activation or nn.Identity()

    def forward(self, images):
        return self.activation(8 * self.last(self.layers(images)))


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "package"
    path.mkdir()
    return path


@pytest.fixture
def published(folder, tmp_path):
    """Imports the folder and returns the manifest and the published model, run in this process."""

    def published():
        root = tmp_path / "repository"
        manifest, fresh = import_package(folder, ID, root)
        assert fresh and Repository(root).get(ID) == manifest
        family = PackageFamily(of_folder(PackageFolder.of(folder)))
        graph = root / "net--mine__3" / "1" / "model.onnx"
        return manifest, LocalPipeline(graph, family.resize(None), family.head)

    return published


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
def test_every_resize_mode_leads_back_to_the_picture(folder, published, mode, dynamic):
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
def test_the_pixels_are_those_of_the_peers_rule(folder, mode, shape):
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


def test_half_precision_is_fed_half_precision(folder, published):
    write(folder, Classifier(4), ["scores"])
    model = onnx.load(folder / "weights.onnx")
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(model), folder / "weights.onnx")
    describe(folder, "abcd", post={"type": "softmax"})
    assert graphs.read(folder / "weights.onnx", (SIZE, SIZE)).dtype == np.float16
    _, ask = published()
    assert ask(sample_pictures.photo())["scores"].sum() == pytest.approx(1)


# ---- again, and over something else --------------------------------------------------------------------------------


def test_an_unchanged_package_is_left_alone_and_a_changed_one_published_anew(folder, tmp_path):
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


def test_what_was_exported_under_the_id_is_not_replaced_by_chance(folder, tmp_path):
    write(folder, Classifier(4), ["scores"])
    describe(folder, "abcd", post={"type": "softmax"})
    root = tmp_path / "repository"
    manifest, _ = import_package(folder, ID, root)
    path = root / "mine__3" / "manifest.json"
    path.write_text(path.read_text().replace(manifest.family, "YOLOv8"))
    with pytest.raises(InvalidParameter, match="is published already and is no package"):
        import_package(folder, ID, root)
    assert import_package(folder, ID, root, force=True)[1]


# ---- the gate, and what does not come so far -----------------------------------------------------------------------


def test_a_wrapped_graph_that_computes_something_else_is_not_published(folder, tmp_path, monkeypatch):
    write(folder, Yolo(3), ["output0"])
    describe(folder, "abc")
    whole = graphs.wrap

    def wrong(graph, before, after, path):
        whole(graph, before.replace("255", "254"), after, path)

    monkeypatch.setattr(graphs, "wrap", wrong)
    with pytest.raises(ExportFailed, match="of the graph differs from the reference network"):
        import_package(folder, ID, tmp_path / "repository")
    assert not list((tmp_path / "repository").iterdir())


def test_another_resize_rule_than_the_described_one_is_not_published(folder, tmp_path, monkeypatch):
    write(folder, Yolo(3), ["output0"])
    describe(folder, "abc", mode="letterbox")
    right = InferenceConfig.resize
    monkeypatch.setattr(InferenceConfig, "resize", lambda self, grey: right(self, grey).__class__("stretch", 64, 64))
    with pytest.raises(ExportFailed, match="differ|disagree"):
        import_package(folder, ID, tmp_path / "repository")


def test_a_column_taken_for_another_class_is_not_published(folder, tmp_path, monkeypatch):
    """Where the graph and its twin in numpy read the wrong columns both, the reference pipeline still reads its own."""
    from tritonvision.exporters.packages import heads

    write(folder, Queries(3), ["dets", "labels"])
    describe(folder, "abc")
    config = json.loads((folder / "inference_config.json").read_text())
    config["class_names_operations"] = [{"type": "class_name_removal", "class_name": "a"}]
    (folder / "inference_config.json").write_text(json.dumps(config))
    right = heads.choose

    def mirrored(graph, layout, names, *rest):
        return right(graph, layout, names[::-1], *rest)

    monkeypatch.setattr(heads, "choose", mirrored)
    with pytest.raises(ExportFailed, match="differ|disagree"):
        import_package(folder, ID, tmp_path / "repository")


def change(**network):
    def apply(folder):
        describe(folder, "abc", **network)

    return apply


def before(**steps):
    def apply(folder):
        path = folder / "inference_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"image_pre_processing": steps}))

    return apply


def text(name, content):
    return lambda folder: (folder / name).write_text(content)


WRONG = {
    "contrast": (before(contrast={"enabled": True, "type": "Adaptive Equalization"}), "asks for 'contrast' of"),
    "grayscale": (before(grayscale={"enabled": True}), "asks for 'grayscale' of image_pre_processing"),
    "static-crop": (before(**{"static-crop": {"enabled": True, "x_min": 1}}), "asks for 'static-crop' of"),
    "a mode of two lines": (change(mode="a\nb"), r"asks for resize mode 'a\\nb', which"),
    "mode": (change(mode="tiles"), "asks for resize mode 'tiles'"),
    "channels": (change(input_channels=1), "asks for 1 input channels"),
    "twice": (change(dataset_version_resize_dimensions={"height": 9, "width": 9}), "asks for resizing twice"),
    "no size": (change(training_input_size=None), "names no training_input_size"),
    "a huge size": (change(size=(64, 1 << 30)), "training_input_size.width': Input should be less than"),
    "no deviation": (change(normalization=[[0] * 3, [1, 0, 1]]), "standard deviation of 'normalization' is zero"),
    "nan": (text("inference_config.json", '{"network_input": {"scaling_factor": NaN}}'), "is not valid"),
    "another size": (change(size=(96, 64)), r"takes \[1, 3, 64, 64\], not \[N or 1, 3, 96, 64\]"),
    "another task": (change(task="classification"), "says 'classification', and the outputs .* 'object-detection'"),
    "an unknown task": (change(task="keypoint-detection"), "says 'keypoint-detection'"),
    "too many names": (lambda f: describe(f, "abcd"), "are of no kind that is known for 4 class names"),
    "an empty name": (text("class_names.txt", "a\n\nc\n"), "class_names.txt of the package has an empty line"),
    "no names": (lambda f: (f / "class_names.txt").unlink(), "The package has no class_names.txt"),
    "no description": (lambda f: (f / "inference_config.json").unlink(), "has no inference_config.json"),
    "no JSON": (text("inference_config.json", "{"), "inference_config.json of the package is not valid: Invalid JSON"),
    "deep JSON": (text("inference_config.json", "[" * 100_000), "inference_config.json of the package is"),
    "a list": (text("model_config.json", "[]"), "model_config.json of the package is not valid"),
    "no text": (lambda f: (f / "class_names.txt").write_bytes(b"\xff\xfe"), "cannot be read as UTF-8"),
    "no graph": (text("weights.onnx", "not a graph"), "weights.onnx is not a valid ONNX graph"),
    "an empty graph": (text("weights.onnx", ""), "weights.onnx"),
}


@pytest.mark.parametrize("spoil", WRONG)
def test_what_is_wrong_with_a_package_is_one_sentence_and_nothing_is_published(folder, tmp_path, spoil):
    write(folder, Yolo(3), ["output0"])
    describe(folder, "abc")
    apply, sentence = WRONG[spoil]
    apply(folder)
    with pytest.raises(ExportFailed, match=sentence) as caught:
        import_package(folder, ID, tmp_path / "repository")
    assert caught.value.hint or "onnxruntime" in caught.value.message
    assert "\n" not in caught.value.message and str(tmp_path) not in caught.value.message
    assert not list((tmp_path / "repository").glob("*"))


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/hostname", "link.bin", "missing.bin"])
def test_weights_outside_the_package_are_not_read(folder, tmp_path, location):
    write(folder, Classifier(4), ["scores"])
    describe(folder, "abcd")
    (tmp_path / "secret.bin").write_bytes(bytes(100_000))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    model = onnx.load(folder / "weights.onnx")
    tensor = max(model.graph.initializer, key=lambda t: len(t.raw_data))
    del tensor.external_data[:]
    tensor.external_data.add(key="location", value=location)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    (folder / "weights.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ExportFailed, match="names a file of weights that is not in the package"):
        import_package(folder, ID, tmp_path / "repository")


@pytest.mark.parametrize("name", ["class_names.txt", "inference_config.json", "weights.onnx"])
def test_a_link_that_leads_out_of_the_package_is_not_followed(folder, tmp_path, name):
    write(folder, Classifier(4), ["scores"])
    describe(folder, "abcd", post={"type": "softmax"})
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    with pytest.raises(ExportFailed, match=f"{name} of the package is a link that leads out of its folder"):
        import_package(folder, ID, tmp_path / "repository")


def test_weights_in_a_file_of_the_package_are_read_and_published_as_one(folder, published):
    write(folder, Classifier(4), ["scores"])
    model = onnx.load(folder / "weights.onnx")
    onnx.save(model, folder / "weights.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert (folder / "weights.bin").is_file()
    describe(folder, "abcd", post={"type": "softmax"})
    _, ask = published()
    assert ask(sample_pictures.photo())["scores"].sum() == pytest.approx(1)


def test_a_graph_of_operators_that_nobody_knows_is_refused(folder, tmp_path):
    write(folder, Classifier(4), ["scores"])
    describe(folder, "abcd")
    model = onnx.load(folder / "weights.onnx")
    model.graph.node[0].domain = "evil.com"
    model.opset_import.add(domain="evil.com", version=1)
    onnx.save(model, folder / "weights.onnx")
    with pytest.raises(ExportFailed, match="weights.onnx"):
        import_package(folder, ID, tmp_path / "repository")
