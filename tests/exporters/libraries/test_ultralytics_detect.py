"""YOLOv8 and YOLOv11: the graph computes the network's outputs, the pipeline gives the answers of predict()."""

import torch  # isort: skip  # noqa: F401  (this folder is for the export environment)

import contextlib
import dataclasses
import re

import numpy as np
import onnx
import pytest
from class_heads import exchange_often

from tritonvision import catalog
from tritonvision.ensembles.in_process import LocalPipeline
from tritonvision.errors import ExportFailed, NotSupported
from tritonvision.exporters.contract import Weights
from tritonvision.exporters.families import yolov8, yolov9, yolov10, yolov11, yolov12
from tritonvision.exporters.libraries.ultralytics import load
from tritonvision.exporters.parity import compare, sample_pictures
from tritonvision.exporters.parity.gate import Gate
from tritonvision.tasks import resolve

FAMILIES = {module.FAMILY.name: module.FAMILY for module in (yolov8, yolov9, yolov10, yolov11, yolov12)}
IDS = [e.id for e in catalog.entries().values() if e.family in FAMILIES]


def family_of(entry):
    return FAMILIES[entry.family]


@pytest.fixture(scope="module", params=["yolov8n-640", pytest.param("yolov11n-640", marks=pytest.mark.slow)])
def random_model(request, tmp_path_factory):
    """Entry, network and pipeline of a calibrated random detector."""
    entry = catalog.find(request.param)
    network = family_of(entry).build(entry, Weights("random", seed=7))
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    network.export(path)
    return entry, network, LocalPipeline(path, family_of(entry).resize(entry), family_of(entry).head), path


@pytest.fixture(scope="module")
def trained_model(trained_yolo, tmp_path_factory):
    """Network and pipeline of the small trained detector, as a user exports it."""
    entry = catalog.find("yolov8n-640")
    network = yolov8.FAMILY.build(entry, Weights("user", path=trained_yolo))
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    network.export(path)
    return network, LocalPipeline(path, yolov8.FAMILY.resize(entry), yolov8.FAMILY.head)


@pytest.fixture(scope="module")
def odd_pictures(draw_scene):
    """Twenty pictures of odd sizes, whose shapes are as large as in training after letterboxing to 640."""
    rng = np.random.default_rng(42)
    pictures = []
    for _ in range(20):
        height, width = (int(rng.integers(201, 1403)) for _ in range(2))
        gain = 640 / max(height, width)
        # never larger than the shorter side allows
        largest = int(min(60 / gain, min(height, width) - 1))
        pictures.append(draw_scene(rng, height, width, 24, max(int(18 / gain), 2), max(largest, int(18 / gain) + 2))[0])
    return pictures


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_graph_computes_the_networks_candidates(random_model, batch):
    entry, network, pipeline, _ = random_model
    photo, _ = pipeline.resize(sample_pictures.photo())
    pixels = np.stack([photo, sample_pictures.noise(640, 640), photo[::-1]])[:batch]
    tolerance = family_of(entry).tolerance.tensors
    got, want = pipeline.tensors({"pixels": pixels}), network.tensors({"pixels": pixels})
    assert {n: v.shape for n, v in got.items()} == {
        "boxes": (batch, 3840, 4), "scores": (batch, 3840), "class_ids": (batch, 3840)
    }  # fmt: skip
    assert got["class_ids"].dtype == np.int32
    differences = compare.tensor_differences(pipeline.head.name, got, want, tolerance)
    assert differences["boxes"] <= 1e-3
    assert differences["scores"] <= 1e-5
    assert differences["class_ids"] == 0


@pytest.mark.parametrize("fault", [False, True])
def test_classes_are_compared_also_where_float32_gives_all_of_them_the_score_1(tmp_path, fault):
    entry = dataclasses.replace(catalog.find("yolov8n-640"), input_size=(96, 96))
    network = yolov8.FAMILY.build(entry, Weights("random", seed=7))
    heads = [branch[-1] for branch in network._model.model[-1].cv3]
    with torch.no_grad():
        for head in heads:
            head.bias += 60  # from 37 on float64 gives 1, too
    pixels = {"pixels": sample_pictures.noise(96, 96)[None]}
    found, exact = (network.tensors(pixels, double) for double in (False, True))  # of copies, which stay as they are
    assert found["scores"].min() == exact["scores"].min() == 1 and len(set(found["class_ids"].ravel())) > 5
    if fault:
        exchange_often(heads, found["class_ids"])
    network.export(tmp_path / "model.onnx")
    gate = Gate(yolov8.FAMILY, entry, network, {"": tmp_path / "model.onnx"}, "random")
    with pytest.raises(ExportFailed, match="'class_ids' of the graph differs") if fault else contextlib.nullcontext():
        gate._differences(yolov8.FAMILY.head.name, gate.opened[""], "", pixels, "noise")


def test_candidates_come_best_first(random_model):
    *_, pipeline, _ = random_model
    scores = pipeline.tensors({"pixels": pipeline.resize(sample_pictures.photo())[0][None]})["scores"][0]
    assert (np.diff(scores) <= 0).all()
    assert 0 <= scores[-1] <= scores[0] <= 1


def test_a_sample_does_not_depend_on_its_batch(random_model):
    *_, pipeline, _ = random_model
    photo, _ = pipeline.resize(sample_pictures.photo())
    together = pipeline.tensors({"pixels": np.stack([sample_pictures.noise(640, 640), photo])})
    alone = pipeline.tensors({"pixels": photo[None]})
    np.testing.assert_allclose(together["scores"][1], alone["scores"][0], atol=1e-6)


def test_a_random_detector_carries_signal(random_model):
    *_, pipeline, _ = random_model
    found = pipeline(sample_pictures.photo())
    assert 10 <= len(found["scores"]) <= 60
    assert len(set(found["class_ids"].tolist())) >= 3
    assert found["scores"].max() > 0.6


def test_the_graph_has_a_pinned_version_and_no_paths_of_this_machine(random_model):
    *_, path = random_model
    model = onnx.load(path)
    assert model.ir_version == 8
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    shapes = {
        v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {
        "pixels": ["batch", 640, 640, 3], "boxes": ["batch", 3840, 4], "scores": ["batch", 3840],
        "class_ids": ["batch", 3840],
    }  # fmt: skip
    operators = {node.op_type for node in model.graph.node}
    assert not operators & {"NonMaxSuppression", "NonZero", "Shape", "Loop", "If", "Expand"}
    assert not any(node.doc_string for node in model.graph.node)


def test_the_same_seed_gives_the_same_network_and_another_seed_another():
    entry = catalog.find("yolov8n-640")
    pixels = {"pixels": sample_pictures.noise(640, 640)[None]}
    first, again, other = (
        yolov8.FAMILY.build(entry, Weights("random", seed=seed)).tensors(pixels)["scores"] for seed in (3, 3, 4)
    )
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)


def test_heights_and_widths_that_differ_and_fewer_anchors_than_candidates_work(tmp_path):
    entry = dataclasses.replace(catalog.find("yolov11n-640"), input_size=(256, 384))
    network = yolov11.FAMILY.build(entry, Weights("random", labels=("a", "b", "c", "d", "e")))
    network.export(tmp_path / "model.onnx")
    pipeline = LocalPipeline(tmp_path / "model.onnx", yolov11.FAMILY.resize(entry), yolov11.FAMILY.head)
    pixels, _ = pipeline.resize(sample_pictures.photo())
    got, want = pipeline.tensors({"pixels": pixels[None]}), network.tensors({"pixels": pixels[None]})
    assert got["scores"].shape == (1, 256 * 384 * 21 // 1024)
    differences = compare.tensor_differences(pipeline.head.name, got, want, yolov11.FAMILY.tolerance.tensors)
    assert differences["boxes"] <= 1e-3
    assert differences["scores"] <= 1e-5


@pytest.mark.parametrize(
    "given",
    [
        {"confidence": 0.25, "iou_threshold": 0.7},
        {"confidence": 0.001, "iou_threshold": 0.45, "max_candidates": 30_000},
        {"confidence": 0.25, "iou_threshold": 0.3, "class_agnostic_nms": True},
        {"confidence": 0.05, "iou_threshold": 0.6, "max_detections": 5},
        {"confidence": 0.1, "iou_threshold": 0.5, "classes": [0, 2]},
    ],
    ids=["confidence 0.25", "confidence 0.001", "agnostic", "five at most", "two classes"],
)
def test_the_pipeline_finds_what_predict_finds(trained_model, odd_pictures, given):
    network, pipeline = trained_model
    settings = resolve(pipeline.head.task.parameters, given)
    total = 0
    for picture in odd_pictures:
        got, want = pipeline(picture, given), network.predict(picture, settings)
        assert len(got["scores"]) == len(want["scores"])
        missing, differences = compare.detections(got, want, settings["confidence"], 1e-5, settings["max_detections"])
        assert missing == 0
        assert differences["pixels"] <= 0.01
        assert differences["scores"] <= 1e-5
        total += len(want["scores"])
    assert total >= 60  # or the comparison would prove little


def test_the_trained_detector_finds_the_drawn_shapes(trained_model, draw_scene):
    _, pipeline = trained_model
    rng = np.random.default_rng(11)
    seen = drawn = 0
    for _ in range(10):
        picture, boxes, classes = draw_scene(rng, 450, 640, 12)
        found = pipeline(picture, {"confidence": 0.25, "iou_threshold": 0.5})
        for box, kind in zip(boxes, classes, strict=True):
            close = np.abs(found["boxes"] - box).max(axis=1) < 8
            seen += bool((close & (found["class_ids"] == kind)).any())
        drawn += len(boxes)
    assert seen / drawn > 0.5


def test_labels_and_hash_come_from_the_checkpoint_unless_the_user_names_labels(trained_yolo):
    entry = catalog.find("yolov8n-640")
    network = yolov8.FAMILY.build(entry, Weights("user", path=trained_yolo))
    assert network.labels == ("disc", "box", "triangle")
    assert (network.source, len(network.sha256)) == (trained_yolo.name, 64)
    renamed = yolov8.FAMILY.build(entry, Weights("user", path=trained_yolo, labels=("o", "#", "^")))
    assert renamed.labels == ("o", "#", "^")
    with pytest.raises(ExportFailed, match="2 classes, and the head of its network has 3"):
        yolov8.FAMILY.build(entry, Weights("user", path=trained_yolo, labels=("o", "#")))


@pytest.mark.parametrize("model_id", ["yolov8s-640", "yolov11n-640"])
def test_weights_of_another_architecture_are_refused(trained_yolo, model_id):
    entry = catalog.find(model_id)
    with pytest.raises(ExportFailed, match="not those of yolo"):
        family_of(entry).build(entry, Weights("user", path=trained_yolo))


def test_weights_of_another_task_are_refused(tmp_path):
    load.prepare()
    from ultralytics import YOLO

    YOLO("yolov8n-seg.yaml").save(tmp_path / "segmenter.pt")
    with pytest.raises(ExportFailed, match="plain detector"):
        yolov8.FAMILY.build(catalog.find("yolov8n-640"), Weights("user", path=tmp_path / "segmenter.pt"))


class Payload:
    """Touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.attack("code in weights and packages")
@pytest.mark.parametrize("imported_before", [False, True])
def test_a_checkpoint_that_would_run_code_is_refused_and_runs_none(tmp_path, monkeypatch, imported_before):
    if imported_before:  # by something that did not ask for safe loading, which is read once
        from ultralytics.nn import tasks

        monkeypatch.setattr(tasks, "SAFE_LOAD", False)
    torch.save({"model": Payload(tmp_path / "ran")}, tmp_path / "evil.pt")
    with pytest.raises(ExportFailed, match="not a checkpoint"):
        yolov8.FAMILY.build(catalog.find("yolov8n-640"), Weights("user", path=tmp_path / "evil.pt"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"no checkpoint at all"])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, content):
    (tmp_path / "broken.pt").write_bytes(content)
    with pytest.raises(ExportFailed, match="not a checkpoint"):
        yolov8.FAMILY.build(catalog.find("yolov8n-640"), Weights("user", path=tmp_path / "broken.pt"))


def test_multi_label_is_refused_for_detectors():
    with pytest.raises(NotSupported):
        yolov8.FAMILY.build(catalog.find("yolov8n-640"), Weights("random", multi_label=True))


@pytest.mark.parametrize("model_id", IDS)
def test_every_id_of_the_catalogue_names_an_architecture_and_a_size(model_id):
    load.prepare()
    from ultralytics.nn.tasks import yaml_model_load

    entry = catalog.find(model_id)
    stem = family_of(entry).architecture(entry)
    described = yaml_model_load(f"{stem}.yaml")
    assert described.get("scale") in (stem[-1], "")  # each YOLOv9 has a description of its own
    assert re.search(r": (\S+\.pt)", entry.weights_source)[1] == f"{stem}.pt"
    assert ("trained at 640" in entry.weights_source) == (entry.upstream_exists == "unsure")
    assert entry.input_size == (int(model_id.split("-")[1]),) * 2
    assert family_of(entry).resize(entry).rule == "letterbox"
