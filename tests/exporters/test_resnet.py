"""ResNet: the graph computes the outputs of timm's network, the pipeline gives those of transform and network."""

import torch  # isort: skip

import numpy as np
import pytest
from safetensors.torch import save_file

from tritonvision import catalog
from tritonvision.ensembles.in_process import LocalPipeline
from tritonvision.errors import ExportFailed
from tritonvision.exporters.contract import Weights
from tritonvision.exporters.families.resnet import FAMILY
from tritonvision.exporters.parity import sample_pictures
from tritonvision.exporters.synthetic import seeds
from tritonvision.tasks import resolve

ENTRY = catalog.find("resnet18")


def exported(network, folder, entry=ENTRY):
    network.export(folder / "model.onnx")
    return LocalPipeline(folder / "model.onnx", FAMILY.resize(entry), FAMILY.head)


@pytest.fixture(scope="module", params=[False, True], ids=["single label", "multi-label"])
def model(request, tmp_path_factory):
    network = FAMILY.build(ENTRY, Weights("random", seed=5, multi_label=request.param))
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
    for name, picture in sample_pictures.views().items():
        for given in ({}, {"confidence": 0.001}, {"function": "softmax"}, {"function": "sigmoid", "confidence": 0.9}):
            settings = resolve(pipeline.head.task.parameters, given)
            got, want = pipeline(picture, given), network.predict(picture, settings)
            assert np.abs(got["scores"] - want["scores"]).max() <= 1e-5, name
            unsure = np.abs(want["scores"] - settings["confidence"]) <= 1e-5
            assert not set(np.setxor1d(got["class_ids"], want["class_ids"])) - set(np.flatnonzero(unsure)), name
            assert got["class_ids"][:1].tolist() == want["class_ids"][:1].tolist()


def test_random_scores_differ_between_pictures(model):
    network, pipeline = model
    pixels = np.stack([pipeline.resize(picture)[0] for picture in sample_pictures.views().values()])
    tensors = network.tensors({"pixels": pixels})
    assert len(set(tensors["logits"].argmax(1).tolist())) >= 3
    assert np.abs(tensors["logits"][0] - tensors["logits"][6]).max() >= 0.1
    assert tensors["scores"].max(axis=1).min() >= 0.01
    sums = tensors["scores"].sum(axis=1)
    assert np.allclose(sums, 1, atol=1e-5) != network.multi_label


def test_float64_reference_agrees_with_float32(model):
    network, _ = model
    inputs = {"pixels": sample_pictures.noise(224, 224)[None]}
    single, double = network.tensors(inputs), network.tensors(inputs, double=True)
    assert double["logits"].dtype == np.float64
    assert np.abs(single["logits"] - double["logits"]).max() <= 1e-4


def test_labels_are_imagenets_each_name_once(model):
    network, _ = model
    assert len(set(network.labels)) == len(network.labels) == 1000
    assert (network.labels[0], network.labels[281], network.labels[999]) == ("tench", "tabby", "toilet tissue")


@pytest.fixture(scope="module")
def state():
    """Weights of a three-class ResNet-18 as timm names them."""
    import timm

    torch.manual_seed(1)
    return timm.create_model("resnet18", num_classes=3).state_dict()


@pytest.mark.parametrize("form", ["safetensors", "pth", "pth under state_dict"])
def test_users_weights_are_read_and_give_the_class_count(state, tmp_path, form):
    path = tmp_path / f"flowers.{form.split()[0]}"
    if form == "safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state} if "under" in form else state, path)
    network = FAMILY.build(ENTRY, Weights("user", path=path))
    assert network.labels == ("class 0", "class 1", "class 2")
    assert network.source == path.name
    assert len(network.sha256) == 64
    assert "--labels" in network.notes[0]
    named = FAMILY.build(ENTRY, Weights("user", path=path, labels=("rose", "tulip", "daisy"), multi_label=True))
    assert (named.labels, named.multi_label, named.notes) == (("rose", "tulip", "daisy"), True, ())
    pipeline = exported(named, tmp_path)
    inputs = {"pixels": pipeline.resize(sample_pictures.photo())[0][None]}
    assert np.abs(pipeline.tensors(inputs)["scores"] - named.tensors(inputs)["scores"]).max() <= 1e-5


def test_weights_of_another_depth_are_refused(state, tmp_path):
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(ExportFailed, match="not those of resnet34"):
        FAMILY.build(catalog.find("resnet34"), Weights("user", path=tmp_path / "w.safetensors"))


class Payload:
    """Touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.attack("code in weights and packages")
def test_weights_that_would_run_code_are_refused_and_run_none(tmp_path):
    torch.save({"state_dict": Payload(tmp_path / "ran")}, tmp_path / "evil.pth")
    with pytest.raises(ExportFailed, match="cannot be read"):
        FAMILY.build(ENTRY, Weights("user", path=tmp_path / "evil.pth"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["broken.pth", "broken.safetensors"])
def test_a_file_that_holds_no_tensors_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"nothing of the kind")
    with pytest.raises(ExportFailed, match="cannot be read"):
        FAMILY.build(ENTRY, Weights("user", path=tmp_path / name))


def test_a_missing_file_and_a_wrong_suffix_are_refused(tmp_path):
    with pytest.raises(ExportFailed, match="no such weights file"):
        FAMILY.build(ENTRY, Weights("user", path=tmp_path / "none.pth"))
    (tmp_path / "w.h5").write_bytes(b"x")
    with pytest.raises(ExportFailed, match="not '.h5'"):
        FAMILY.build(ENTRY, Weights("user", path=tmp_path / "w.h5"))


@pytest.mark.parametrize("count", [2, 7])
def test_random_weights_of_few_classes_carry_signal(count):
    """A margin between the best class and the others, as for a thousand classes, rejected every seed."""
    labels = tuple(f"class {n}" for n in range(count))

    def built(weights):
        return FAMILY.build(ENTRY, weights)

    network = seeds.with_signal(built, Weights("random", labels=labels), [].append)
    pixels = np.stack([sample_pictures.photo()[:224, :224], sample_pictures.noise(224, 224)])
    logits = network.tensors({"pixels": pixels})["logits"]
    assert logits.shape == (2, count) and np.abs(logits[0] - logits[1]).max() >= 0.1
