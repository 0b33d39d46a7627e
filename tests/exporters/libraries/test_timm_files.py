"""Users' weights of timm: checkpoints and folders with another preprocessing, another size, or one class."""

import torch  # isort: skip

import argparse
import json

import numpy as np
import pytest
from PIL import Image

from tritonvision import catalog
from tritonvision.ensembles.in_process import LocalPipeline
from tritonvision.ensembles.preprocessing import Resize
from tritonvision.errors import ExportFailed
from tritonvision.exporters.contract import Weights, entry_points_of
from tritonvision.exporters.families import resnet, vit
from tritonvision.exporters.libraries import torch_env
from tritonvision.exporters.parity import sample_pictures
from tritonvision.tasks import resolve

ENTRY = catalog.find("resnet18")
OWN = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.3, 0.35), "crop_pct": 0.875, "interpolation": "bilinear"}
RESIZE = Resize("crop", 96, 96, (("interpolation", "bilinear"), ("percent", 87.5)))


@pytest.fixture(scope="module")
def network():
    torch_env.import_torchvision()
    import timm

    torch.manual_seed(1)
    found = timm.create_model("resnet18", num_classes=3)
    with torch.no_grad():
        found.train()(torch.rand(4, 3, 64, 64))
        found.fc.weight.mul_(20)
    return found.eval()


def saved(network, folder, **config):
    """A folder as timm writes it for the hub, with ``config`` in its pretrained_cfg."""
    import timm

    timm.models.save_for_hf(
        network, folder, safe_serialization=True, model_config={"label_names": ["oak", "elm", "fir"]}
    )
    path = folder / "config.json"
    written = json.loads(path.read_text())
    written["pretrained_cfg"] |= config
    path.write_text(json.dumps(written))
    return folder


def built(path, family=resnet.FAMILY, entry=ENTRY, **more):
    return family.build(entry, Weights("user", path=path, **more))


def test_a_folder_brings_its_class_names_and_serves_as_the_id_does(network, tmp_path):
    found = built(saved(network, tmp_path))
    assert found.labels == ("oak", "elm", "fir") and found.notes == ()
    point, _ = entry_points_of(resnet.FAMILY, ENTRY, found)
    assert point.pre == resnet.FAMILY.resize(ENTRY) and found.source == "model.safetensors"


@pytest.mark.parametrize("form", ["folder", "checkpoint"])
def test_the_weights_own_preprocessing_is_served_and_noted(network, tmp_path, form):
    if form == "folder":
        path = saved(network, tmp_path, **OWN, input_size=[3, 96, 96])
    else:
        arguments = argparse.Namespace(**OWN, img_size=96, input_size=None, opt="sgd")
        path = tmp_path / "model_best.pth.tar"
        torch.save({"state_dict": network.state_dict(), "args": arguments}, path)
    found = built(path)
    point, _ = entry_points_of(resnet.FAMILY, ENTRY, found)
    assert point.pre == RESIZE and "96 x 96 pixels, bilinear, a crop of 87.5 percent" in found.notes[-1]
    found.export(tmp_path / "model.onnx")
    pipeline = LocalPipeline(tmp_path / "model.onnx", point.pre, point.head)
    rgb = sample_pictures.photo()
    settings = resolve(pipeline.head.task.parameters, {})
    np.testing.assert_allclose(pipeline(rgb)["scores"], found.predict(rgb, settings)["scores"], atol=1e-5)
    # and the transform is that of the weights, written once more
    small = Image.fromarray(rgb).resize((109, 109), Image.Resampling.BILINEAR)  # 96 / 0.875, rounded down
    pixels = (np.asarray(small.crop((6, 6, 102, 102))) / 255 - OWN["mean"]) / OWN["std"]
    with torch.no_grad():
        want = network(torch.from_numpy(pixels.transpose(2, 0, 1)[None]).float()).softmax(1)[0].numpy()
    np.testing.assert_allclose(pipeline(rgb)["scores"], want, atol=1e-4)
    assert np.ptp(want) > 0.01


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"interpolation": "lanczos"}, "interpolation lanczos, which cannot be done here"),
        ({"crop_mode": "squash"}, "crop_mode squash"), ({"crop_pct": 1.2}, "crop_pct 1.2"),
        ({"input_size": [3, 96, 64]}, r"input_size \[3, 96, 64\]"), ({"input_size": [1, 96, 96]}, "input_size"),
        ({"std": [0, 1, 1]}, "std"), ({"mean": "x"}, "mean x"),
    ],
)  # fmt: skip
def test_an_unsupported_preprocessing_is_refused_by_its_key(network, tmp_path, config, sentence):
    with pytest.raises(ExportFailed, match=f"The weights want their pictures prepared with {sentence}"):
        built(saved(network, tmp_path, **config))


def test_a_folder_of_another_model_is_refused_with_its_name(network, tmp_path):
    with pytest.raises(ExportFailed, match="The folder's config.json is of 'resnet18', not of resnet34"):
        built(saved(network, tmp_path), entry=catalog.find("resnet34"))
    (tmp_path / "config.json").write_text("[")
    with pytest.raises(ExportFailed, match="has no config.json that can be read"):
        built(tmp_path)
    (tmp_path / "config.json").write_text('{"architecture": "resnet18"}')
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ExportFailed, match="lacks model.safetensors and pytorch_model.bin"):
        built(tmp_path)


def test_labels_of_another_count_than_the_head_are_refused_with_both_numbers(network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "w.pth")
    with pytest.raises(ExportFailed, match="The labels name 2 classes, the weights have 3"):
        built(tmp_path / "w.pth", labels=("a", "b"))


def test_one_class_is_scored_by_a_sigmoid_because_its_softmax_is_always_one(tmp_path):
    import timm

    torch.manual_seed(0)
    network = timm.create_model("resnet18", num_classes=1).eval()
    torch.save(network.state_dict(), tmp_path / "w.pth")
    found = built(tmp_path / "w.pth", labels=("defect",))
    assert found.multi_label and "sigmoid" in found.notes[-1]
    pixels = resnet.FAMILY.resize(ENTRY)(sample_pictures.photo())[0][None]
    tensors = found.tensors({"pixels": pixels})
    assert 0 < tensors["scores"][0, 0] < 1


def test_a_vision_transformers_size_follows_from_its_position_embeddings(tmp_path):
    import timm

    entry = catalog.find("vit-tiny-patch16")
    torch.manual_seed(0)
    network = timm.create_model("vit_tiny_patch16_224", num_classes=3, img_size=96)
    torch.save({"model": network.state_dict()}, tmp_path / "w.pth")
    found = built(tmp_path / "w.pth", vit.FAMILY, entry)
    point, _ = entry_points_of(vit.FAMILY, entry, found)
    assert point.pre.size == (96, 96) and "96 x 96 pixels" in found.notes[-1]
    pixels = point.pre(sample_pictures.photo())[0][None]
    assert found.tensors({"pixels": pixels})["scores"].shape == (1, 3)
