"""ViT: the graph computes the outputs of timm's network, the pipeline gives those of transform and network."""

import torch  # isort: skip

from pathlib import Path

import numpy as np
import pytest
from attention import check_attention
from PIL import Image
from safetensors.torch import save_file

from tritonvision import catalog
from tritonvision.ensembles.in_process import LocalPipeline, open_entry_point
from tritonvision.errors import ExportFailed
from tritonvision.exporters.contract import Weights
from tritonvision.exporters.families.vit import FAMILY
from tritonvision.exporters.libraries import torch_env
from tritonvision.exporters.parity import sample_pictures
from tritonvision.tasks import resolve

ENTRY = catalog.find("vit-tiny-patch16")
ENTRIES = [entry for entry in catalog.entries().values() if entry.family == "ViT"]


def exported(network, folder, entry=ENTRY):
    network.export(folder / "model.onnx")
    return LocalPipeline(folder / "model.onnx", FAMILY.resize(entry), FAMILY.head)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    network = FAMILY.build(ENTRY, Weights("random", seed=0))
    return network, exported(network, tmp_path_factory.mktemp("graph"))


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_graph_computes_the_networks_logits_and_scores(model, batch):
    network, pipeline = model
    photo, _ = pipeline.resize(sample_pictures.photo())
    inputs = {"pixels": np.stack([photo, sample_pictures.noise(224, 224), photo[:, ::-1]])[:batch]}
    got, want = pipeline.tensors(inputs), network.tensors(inputs)
    assert got["logits"].shape == got["scores"].shape == (batch, 1000)
    assert np.abs(got["logits"] - want["logits"]).max() <= 1e-4
    assert np.abs(got["scores"] - want["scores"]).max() <= 1e-5


def test_pipeline_answers_what_timms_transform_and_network_answer(model):
    network, pipeline = model
    for name in ("photo", "wide-512x260", "tiny-91x77", "no-face-noise-333x97"):
        picture = sample_pictures.views()[name]
        for given in ({}, {"confidence": 0.001, "function": "sigmoid"}):
            settings = resolve(pipeline.head.task.parameters, given)
            got, want = pipeline(picture, given), network.predict(picture, settings)
            assert np.abs(got["scores"] - want["scores"]).max() <= 1e-5, name
            unsure = np.abs(want["scores"] - settings["confidence"]) <= 1e-5
            assert not set(np.setxor1d(got["class_ids"], want["class_ids"])) - set(np.flatnonzero(unsure)), name


def test_queries_and_keys_of_random_weights_have_an_effect(model):
    network, pipeline = model
    check_attention(network, FAMILY.tolerance, {"": {"pixels": pipeline.resize(sample_pictures.photo())[0][None]}})


def test_features_are_what_timms_last_layer_reads_and_share_the_graph(model):
    network, pipeline = model
    classes, features = FAMILY.entry_points(ENTRY)
    assert (features.role, features.nets, features.net.role) == ("features", (), classes.net.role)
    opened = open_entry_point({"": Path()}, features, session=pipeline.session)
    for name in ("photo", "wide-512x260"):
        picture = sample_pictures.views()[name]
        image = network._transform(Image.fromarray(picture))[None]
        with torch.inference_mode():
            timm = network._model.forward_head(network._model.forward_features(image), pre_logits=True)[0].numpy()
        found = opened(picture)["embeddings"]
        assert found.shape == (192,) and np.abs(found - timm).max() <= 1e-3 * timm.std()
        np.testing.assert_array_equal(network.predict(picture, {}, "features")["embeddings"], timm)


def test_random_scores_differ_between_pictures(model):
    network, pipeline = model
    pixels = np.stack([pipeline.resize(picture)[0] for picture in sample_pictures.views().values()])
    tensors = network.tensors({"pixels": pixels})
    assert len(set(tensors["logits"].argmax(1).tolist())) >= 3
    assert np.abs(tensors["logits"][0] - tensors["logits"][-1]).max() >= 1000 * FAMILY.tolerance.tensors["logits"]


@pytest.mark.parametrize("entry", ENTRIES, ids=[entry.id for entry in ENTRIES])
def test_every_id_is_timms_architecture_with_timms_transform(entry):
    torch_env.import_torchvision()
    from timm.data import resolve_data_config

    with torch.device("meta"):
        network = FAMILY._create(entry, 1000)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(entry.params_m, rel=0.01)
    assert f"patch{network.patch_embed.patch_size[0]}" in entry.id
    config = resolve_data_config(network.pretrained_cfg)
    assert config["input_size"] == (3, *entry.input_size)
    assert (config["mean"], config["std"]) == (FAMILY.mean, FAMILY.std)
    resize = FAMILY.resize(entry)
    assert dict(resize.options) == {"interpolation": config["interpolation"], "percent": 100 * config["crop_pct"]}


def test_users_weights_give_the_class_count(tmp_path):
    import timm

    torch.manual_seed(1)
    state = timm.create_model("vit_tiny_patch16_224", num_classes=3).state_dict()
    save_file(state, tmp_path / "flowers.safetensors")
    network = FAMILY.build(ENTRY, Weights("user", path=tmp_path / "flowers.safetensors", labels=("a", "b", "c")))
    assert (network.labels, network.source) == (("a", "b", "c"), "flowers.safetensors")
    with pytest.raises(ExportFailed, match="not those of vit-small-patch16"):
        FAMILY.build(catalog.find("vit-small-patch16"), Weights("user", path=tmp_path / "flowers.safetensors"))


def test_the_unreleased_size_has_random_weights_only():
    entry = catalog.find("vit-tiny-patch32")
    with pytest.raises(ExportFailed, match="ever released"):
        FAMILY.build(entry, Weights("official"))
    assert FAMILY.build(entry, Weights("random")).labels[0] == "tench"
