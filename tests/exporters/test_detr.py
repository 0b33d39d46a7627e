"""DETR: the graph computes the outputs of transformers' network at any size, the pipeline finds the same boxes.

The architecture is the real one; its pictures are smaller here, since height and width are free.
"""

import torch  # isort: skip

import numpy as np
import pytest
from attention import check_attention
from safetensors.torch import save_file

from tritonvision import catalog
from tritonvision.ensembles.in_process import LocalPipeline
from tritonvision.errors import ExportFailed
from tritonvision.exporters.contract import Weights
from tritonvision.exporters.families import detr
from tritonvision.exporters.families.detr import FAMILY
from tritonvision.exporters.libraries import transformers_weights
from tritonvision.exporters.libraries.ultralytics import load
from tritonvision.exporters.parity import compare, sample_pictures
from tritonvision.tasks import resolve

ENTRY = catalog.find("facebook/detr-resnet-50")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detr, "SHORTEST", 256)
        patch.setattr(detr, "LONGEST", 427)
        network = FAMILY.build(ENTRY, Weights("random", seed=1))
        path = tmp_path_factory.mktemp("graph") / "model.onnx"
        network.export(path)
        yield network, LocalPipeline(path, FAMILY.resize(ENTRY), FAMILY.head)


@pytest.mark.parametrize(
    ("size", "valid"),
    [
        ((256, 341), [(256, 341), (201, 340), (256, 32)]),  # 341 is no multiple of 32
        ((127, 411), [(64, 32), (127, 411)]),
        ((417, 177), [(417, 100), (208, 177)]),
    ],
)
def test_graph_computes_the_networks_answers_at_any_size_batch_and_padding(model, size, valid):
    network, pipeline = model
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (len(valid), *size, 3), dtype=np.uint8)
    pixels[0] = np.resize(sample_pictures.photo(), (*size, 3))
    inputs = {"pixels": pixels, "valid_size": np.array(valid, dtype=np.int32)}
    got, want = pipeline.tensors(inputs), network.tensors(inputs)
    assert got["boxes"].shape == (len(valid), 100, 4)
    worst = compare.tensor_differences(FAMILY.head.name, got, want, FAMILY.tolerance.tensors)
    assert worst["boxes"] <= 1e-4 and worst["scores"] <= 1e-4 and worst["class_ids"] == 0, worst


def test_pixels_in_the_padding_have_no_effect(model):
    _, pipeline = model
    pixels = np.stack([sample_pictures.photo()[:256, :320]] * 2)
    pixels[1, 200:], pixels[1, :, 250:] = 7, 250
    inputs = {"pixels": pixels, "valid_size": np.array([[200, 250]] * 2, dtype=np.int32)}
    tensors = pipeline.tensors(inputs)
    for name, values in tensors.items():
        np.testing.assert_array_equal(values[0], values[1], err_msg=name)


@pytest.mark.parametrize(
    ("view", "confidence"),
    [("photo", 0.4), ("wide-512x260", 0.25), ("no-face-noise-333x97", 0.001)],
)
def test_pipeline_finds_what_processor_network_and_post_processing_find(model, view, confidence):
    network, pipeline = model
    picture = sample_pictures.views()[view]
    got = pipeline(picture, {"confidence": confidence})
    want = network.predict(picture, resolve(pipeline.head.task.parameters, {"confidence": confidence}))
    assert len(want["scores"]) >= 10
    wanted = want | {"image_size": np.array(picture.shape[:2])}
    missing, worst = compare.detections(got, wanted, confidence, 1e-4, 300)
    assert missing == 0
    assert worst["pixels"] <= 0.05 and worst["scores"] <= 1e-4, worst


def test_queries_and_keys_of_random_weights_have_an_effect(model):
    network, pipeline = model
    inputs = {name: value[None] for name, value in pipeline.inputs(sample_pictures.photo())[0].items()}
    check_attention(network, FAMILY.tolerance, {"": inputs})


def test_a_random_network_finds_separate_boxes_of_several_classes(model):
    found = model[1](sample_pictures.photo())
    assert 10 <= len(found["scores"]) <= 60
    assert len(set(found["class_ids"].tolist())) >= 3
    assert found["boxes"].std(0).min() >= 20  # pixels


def test_class_ids_are_those_of_every_other_coco_model(model):
    load.prepare()
    assert model[0].labels == load.coco_names()
    assert model[0]._columns[:12] == (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13)


def test_float64_reference_agrees_with_float32(model):
    inputs = {"pixels": sample_pictures.noise(64, 96)[None], "valid_size": np.array([[64, 96]], dtype=np.int32)}
    single, double = model[0].tensors(inputs), model[0].tensors(inputs, double=True)
    assert double["scores"].dtype == np.float64
    assert np.abs(single["scores"] - double["scores"]).max() <= 1e-4


@pytest.fixture(scope="module")
def flowers(tmp_path_factory):
    """A folder as save_pretrained writes it, of a detector of three named classes."""
    from transformers import DetrConfig, DetrForObjectDetection

    config = DetrConfig(id2label={0: "rose", 1: "tulip", 2: "daisy"}, label2id={"rose": 0, "tulip": 1, "daisy": 2})
    folder = tmp_path_factory.mktemp("weights") / "flowers"
    transformers_weights.random(DetrForObjectDetection, config, seed=4).save_pretrained(folder)
    return folder


def test_a_users_folder_gives_classes_and_names(flowers):
    network = FAMILY.build(ENTRY, Weights("user", path=flowers))
    assert (network.labels, network.source, network.notes) == (("rose", "tulip", "daisy"), "flowers", ())
    assert len(network.sha256) == 64


def test_released_weights_are_read_like_a_users_folder(flowers, monkeypatch):
    """Only the hub is replaced: it serves the files of the folder."""
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda _, name, **options: str(flowers / name))
    released, mine = FAMILY.build(ENTRY, Weights()), FAMILY.build(ENTRY, Weights("user", path=flowers))
    assert (released.source, mine.source) == ("facebook/detr-resnet-50", "flowers")
    for fact in ("labels", "sha256", "notes", "versions"):
        assert getattr(released, fact) == getattr(mine, fact)


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_a_users_file_of_tensors_gives_the_class_count(flowers, tmp_path, suffix):
    from safetensors.torch import load_file

    state = load_file(flowers / "model.safetensors")
    path = tmp_path / f"w.{suffix}"
    if suffix == "pth":
        torch.save({"state_dict": state}, path)
    else:
        save_file(state, path)
    network = FAMILY.build(ENTRY, Weights("user", path=path))
    assert network.labels == ("class 0", "class 1", "class 2")
    assert "--labels" in network.notes[0]
    named = FAMILY.build(ENTRY, Weights("user", path=path, labels=("a", "b", "c")))
    assert (named.labels, named.notes) == (("a", "b", "c"), ())
    same = FAMILY.build(ENTRY, Weights("user", path=flowers))._model.state_dict()
    assert all(torch.equal(same[name], value) for name, value in network._model.state_dict().items())


def test_incomplete_weights_are_refused(flowers, tmp_path):
    from safetensors.torch import load_file

    state = load_file(flowers / "model.safetensors")
    save_file({name: value for name, value in state.items() if "layers.5" not in name}, tmp_path / "w.safetensors")
    with pytest.raises(ExportFailed, match="not those of facebook/detr-resnet-50"):
        FAMILY.build(ENTRY, Weights("user", path=tmp_path / "w.safetensors"))


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(ExportFailed, match="lacks config.json or model.safetensors"):
        FAMILY.build(ENTRY, Weights("user", path=tmp_path))


def test_official_weights_that_cannot_be_downloaded_are_an_error(monkeypatch):
    import huggingface_hub

    def download(*_, **options):
        raise OSError("no route")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(ExportFailed, match="facebook/detr-resnet-50.* could not be fetched"):
        FAMILY.build(ENTRY, Weights("official"))


def test_redrawing_changes_every_weight_and_is_deterministic():
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=32)
    one, same, other = (transformers_weights.random(ViTForImageClassification, config, seed) for seed in (1, 1, 2))
    for name, value in one.state_dict().items():
        assert value.std() > 0.01, name
        assert torch.equal(value, same.state_dict()[name])
        assert not torch.equal(value, other.state_dict()[name])
