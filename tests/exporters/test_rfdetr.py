"""RF-DETR: the graph computes the outputs of the authors' network, the pipeline finds the boxes of ``predict``."""

import torch  # isort: skip

import argparse
import copy

import numpy as np
import pytest

from tritonvision import catalog
from tritonvision.ensembles.in_process import LocalPipeline
from tritonvision.errors import ExportFailed
from tritonvision.exporters.contract import Weights, entry_points_of
from tritonvision.exporters.families.rfdetr import FAMILY
from tritonvision.exporters.libraries import rfdetr_models
from tritonvision.exporters.libraries.ultralytics import load
from tritonvision.exporters.modules import query_networks
from tritonvision.exporters.parity import compare, sample_pictures
from tritonvision.tasks import resolve

ENTRY = catalog.find("rfdetr-nano")


def exported(network, folder):
    network.export(folder / "model.onnx")
    return LocalPipeline(folder / "model.onnx", FAMILY.resize(ENTRY), FAMILY.head)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    network = FAMILY.build(ENTRY, Weights("random", seed=3))
    return network, exported(network, tmp_path_factory.mktemp("graph"))


@pytest.fixture(scope="module")
def batch(model):
    photo = model[1].inputs(sample_pictures.photo())[0]["pixels"]
    noise = sample_pictures.noise(*photo.shape[:2]).astype(np.float32) / 255
    return np.stack([photo, noise, photo[:, ::-1]])


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 3])
def test_graph_computes_the_networks_boxes_scores_and_classes_whatever_the_batch(model, batch, size):
    network, pipeline = model
    inputs = {"pixels": batch[:size]}
    got, want = pipeline.tensors(inputs), network.tensors(inputs)
    assert got["boxes"].shape == (size, 300, 4)
    assert (np.diff(got["scores"], axis=1) <= 0).all()
    worst = compare.tensor_differences(FAMILY.head.name, got, want, FAMILY.tolerance.tensors)
    assert worst["boxes"] <= 1e-4 and worst["scores"] <= 1e-4 and worst["class_ids"] == 0, worst


@pytest.mark.slow
@pytest.mark.parametrize(
    ("view", "confidence"), [("photo", 0.4), ("odd-220x316", 0.001), ("no-face-noise-333x97", 0.25)]
)
def test_pipeline_finds_what_the_packages_predict_finds(model, view, confidence):
    network, pipeline = model
    picture = sample_pictures.views()[view]
    got = pipeline(picture, {"confidence": confidence})
    want = network.predict(picture, resolve(pipeline.head.task.parameters, {"confidence": confidence}))
    assert len(want["scores"]) >= 10
    wanted = want | {"image_size": np.array(picture.shape[:2])}
    missing, worst = compare.detections(got, wanted, confidence, 1e-4, 300)
    assert missing == 0
    assert worst["pixels"] <= 0.05 and worst["scores"] <= 1e-4, worst


@pytest.mark.slow
def test_settings_that_the_package_lacks_are_applied_to_both(model):
    network, pipeline = model
    given = {"confidence": 0.1, "classes": [0, 3, 7, 20, 41, 79], "max_detections": 7}
    got = pipeline(sample_pictures.photo(), given)
    want = network.predict(sample_pictures.photo(), resolve(pipeline.head.task.parameters, given))
    assert 0 < len(got["scores"]) <= 7
    np.testing.assert_array_equal(got["class_ids"], want["class_ids"])


@pytest.mark.slow
def test_a_random_network_finds_separate_boxes_of_several_classes(model):
    found = model[1](sample_pictures.photo())
    assert 10 <= len(found["scores"]) <= 60
    assert len(set(found["class_ids"].tolist())) >= 5
    assert found["boxes"].std(0).min() >= 20  # pixels


@pytest.mark.slow
def test_class_ids_are_those_of_every_other_coco_model(model):
    load.prepare()
    network, _ = model
    assert network.labels == load.coco_names()
    from rfdetr.assets.coco_classes import COCO_CLASSES

    assert query_networks.coco_columns() == COCO_CLASSES


@pytest.mark.slow
def test_proposals_with_equal_scores_are_ranked_as_in_the_graph(model, batch):
    network, inputs = copy.copy(model[0]), {"pixels": batch[:1]}
    network._model = copy.deepcopy(model[0]._model)
    with torch.no_grad():
        network._model.transformer.enc_out_class_embed[0].weight *= 1e-4  # now all of them score alike
    level = network._model.transformer.enc_out_class_embed[0].bias.max().item()
    found = []
    for seed in (1, 1, 2):
        scores = level + np.random.default_rng(seed).uniform(0, 1e-4, (1, 24 * 24)).astype(np.float32)
        network._ranking = lambda _, scores=scores: scores
        found.append(network.tensors(inputs))
    limits = FAMILY.tolerance.tensors
    assert compare.tensor_differences(FAMILY.head.name, found[0], found[1], limits)["boxes"] == 0
    assert compare.tensor_differences(FAMILY.head.name, found[0], found[2], limits)["boxes"] > 1e-2


@pytest.mark.slow
def test_a_graph_that_ranks_proposals_by_other_scores_is_refused(model, batch, monkeypatch):
    network, _ = model
    scores = network._ranking({"pixels": batch[:1]})
    monkeypatch.setattr(network, "_ranking", lambda _: scores + 0.1 * (np.arange(scores.shape[1]) % 2))
    with pytest.raises(ExportFailed, match="scores of proposals differ"):
        network.tensors({"pixels": batch[:1]})


@pytest.fixture(scope="module")
def helmets():
    """Tensors of a fine-tuned detector of two classes: three columns, the last of which is none."""
    with rfdetr_models.quiet():
        return rfdetr_models.random("nano", 3, seed=1).state_dict()


@pytest.mark.parametrize("form", ["dict", "namespace", "lightning", "without names"])
def test_users_checkpoints_are_read_with_their_classes_and_names(helmets, tmp_path, form):
    names = ["helmet", "vest"]
    content = {
        "dict": {"model": helmets, "args": {"class_names": names}},
        "namespace": {"model": helmets, "args": argparse.Namespace(class_names=names)},
        "lightning": {
            "state_dict": {f"model.{name}": value for name, value in helmets.items()},
            "hyper_parameters": {"class_names": names},
        },
        "without names": {"model": helmets},
    }[form]
    path = tmp_path / "best.pth"
    torch.save(content, path)
    network = FAMILY.build(ENTRY, Weights("user", path=path))
    assert network.labels == (("class 0", "class 1") if form == "without names" else ("helmet", "vest"))
    assert bool(network.notes) == (form == "without names")
    assert (network.source, len(network.sha256)) == ("best.pth", 64)
    theirs = network._model.state_dict()
    assert all(torch.equal(theirs[name], value) for name, value in helmets.items())
    if form == "without names":
        named = FAMILY.build(ENTRY, Weights("user", path=path, labels=("a", "b")))
        assert (named.labels, named.notes) == (("a", "b"), ())


def test_a_column_without_a_class_is_never_found(helmets, tmp_path):
    state = helmets | {"class_embed.bias": torch.tensor([-3.0, -3.0, 9.0])}
    torch.save({"model": state, "args": {"class_names": ["helmet", "vest"]}}, tmp_path / "w.pth")
    network = FAMILY.build(ENTRY, Weights("user", path=tmp_path / "w.pth"))
    answer = network.predict(sample_pictures.photo(), resolve(FAMILY.head.task.parameters, {"confidence": 0.0}))
    assert set(answer["class_ids"].tolist()) <= {0, 1}
    tensors = network.tensors({"pixels": np.zeros((1, 384, 384, 3), np.float32)})
    assert set(tensors["class_ids"].ravel().tolist()) <= {0, 1}


def test_the_training_size_is_served_and_noted(helmets, tmp_path):
    torch.save(
        {"model": helmets, "args": argparse.Namespace(class_names=["a", "b"], resolution=416)}, tmp_path / "w.pth"
    )
    network = FAMILY.build(ENTRY, Weights("user", path=tmp_path / "w.pth"))
    (point,) = entry_points_of(FAMILY, ENTRY, network)
    assert point.size == (416, 416) and "416 x 416 pixels" in network.notes[-1]
    theirs = network._model.state_dict()
    assert all(torch.equal(theirs[name], value) for name, value in helmets.items())
    tensors = network.tensors({"pixels": np.zeros((1, 416, 416, 3), np.float32)})
    assert tensors["boxes"].shape == (1, 300, 4)


@pytest.mark.parametrize(
    ("size", "rows", "resolution", "options"),
    [
        ("nano", 24, None, {}), ("nano", 24, 384, {}), ("base", 37, None, {}),
        ("nano", 36, None, {"resolution": 576, "positional_encoding_size": 36}),
        ("nano", 24, 416, {"resolution": 416, "positional_encoding_size": 24}),
        ("base", 37, 672, {"resolution": 672, "positional_encoding_size": 37}),
    ],
)  # fmt: skip
def test_without_a_resolution_the_position_embeddings_give_the_size(size, rows, resolution, options):
    state = {"backbone.position_embeddings": torch.zeros(1, rows * rows + 1, 4)}
    with rfdetr_models.quiet():
        assert rfdetr_models._sizes(size, state, resolution, f"rfdetr-{size}") == options
        with pytest.raises(ExportFailed, match=r"said to be trained at 500 pixels, which rfdetr-.* cannot take"):
            rfdetr_models._sizes(size, state, 500, f"rfdetr-{size}")


def test_weights_of_another_size_or_incomplete_ones_are_refused(helmets, tmp_path):
    torch.save({"model": helmets}, tmp_path / "w.pth")
    with pytest.raises(ExportFailed, match="not those of rfdetr-medium"):
        FAMILY.build(catalog.find("rfdetr-medium"), Weights("user", path=tmp_path / "w.pth"))
    lacking = {name: value for name, value in helmets.items() if "decoder.layers.1." not in name}
    torch.save({"model": lacking}, tmp_path / "w.pth")
    with pytest.raises(ExportFailed, match="not those of rfdetr-nano"):
        FAMILY.build(ENTRY, Weights("user", path=tmp_path / "w.pth"))


class Payload:
    """Touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_weights_that_would_run_code_are_refused_and_run_none(tmp_path):
    torch.save({"model": {}, "args": Payload(tmp_path / "ran")}, tmp_path / "evil.pth")
    with pytest.raises(ExportFailed, match="without running code"):
        FAMILY.build(ENTRY, Weights("user", path=tmp_path / "evil.pth"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("error", [ConnectionError("no route"), ValueError("md5")])
def test_official_weights_that_cannot_be_downloaded_are_an_error(monkeypatch, tmp_path, error):
    from rfdetr.assets import model_weights

    def download(path):
        raise error

    monkeypatch.setenv("RF_HOME", str(tmp_path))
    monkeypatch.setattr(model_weights, "download_pretrain_weights", download)
    with pytest.raises(ExportFailed, match=r"rf-detr-nano\.pth could not be fetched"):
        FAMILY.build(ENTRY, Weights("official"))


def test_the_catalogues_input_sizes_are_the_packages():
    entries = [entry for entry in catalog.entries().values() if entry.family == FAMILY.name]
    assert len(entries) == 5
    for entry in entries:
        with rfdetr_models.quiet():
            config = rfdetr_models._config(entry.id.removeprefix("rfdetr-"))
        assert entry.input_size == (config.resolution, config.resolution)
