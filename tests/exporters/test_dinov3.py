"""DINOv3: the vectors of transformers' network and processor; with a probe its classes, and the features beside."""

import torch  # isort: skip

from unittest import mock

import numpy as np
import pytest
from attention import check_attention
from safetensors.torch import save_file

from tritonvision import catalog
from tritonvision.ensembles.in_process import open_entry_points
from tritonvision.errors import ExportFailed
from tritonvision.exporters import pipeline
from tritonvision.exporters.contract import Weights
from tritonvision.exporters.families import dinov3
from tritonvision.exporters.families.dinov3 import FAMILY
from tritonvision.exporters.libraries import torch_env
from tritonvision.exporters.parity import sample_pictures
from tritonvision.python_backend.images import resize
from tritonvision.tasks import resolve

ENTRY, GIANT = catalog.find("dinov3-small"), catalog.find("dinov3-giant")
ENTRIES = [entry for entry in catalog.entries().values() if entry.family == "DINOv3"]
SHALLOW = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
VIEWS = ("photo", "odd-220x316", "wide-512x260")


@pytest.fixture(autouse=True, scope="module")
def reduced():
    """Two layers; those of the largest size have their gated MLP."""
    facts = {size: found | SHALLOW for size, found in dinov3._CONFIGS.items()}
    with mock.patch.dict(dinov3._CONFIGS, facts):
        yield


@pytest.fixture
def head(tmp_path):
    """Saves a probe of so many features and five classes."""

    def save(width=64, name="probe.pt", **more):
        torch.manual_seed(1)
        layer = torch.nn.Linear(width, 5)
        torch.save({"state_dict": layer.state_dict(), **more}, tmp_path / name)
        return tmp_path / name

    return save


def opened(network, entry, folder):
    points = network.entry_points or FAMILY.entry_points(entry)
    network.export(folder / "model.onnx")
    return open_entry_points({"": folder / "model.onnx"}, points, lambda _: {})


def pixels_of(pipelines):
    return np.stack([pipelines[""].resize(sample_pictures.views()[name])[0] for name in VIEWS])


@pytest.mark.parametrize("entry", [ENTRY, GIANT], ids=["small", "giant"])
def test_without_a_head_graph_and_pipeline_give_the_librarys_vectors(entry, tmp_path):
    network = FAMILY.build(entry, Weights("random", seed=0))
    pipelines = opened(network, entry, tmp_path)
    pixels = pixels_of(pipelines)
    for batch in (1, 3):
        got, want = (one.tensors({"pixels": pixels[:batch]})["embeddings"] for one in (pipelines[""], network))
        assert got.shape == (batch, 64) and np.abs(got - want).max() <= FAMILY.tolerance.tensors["embeddings"]
    for name in VIEWS:
        picture = sample_pictures.views()[name]
        want, got = network.predict(picture, {})["embeddings"], pipelines[""](picture)["embeddings"]
        assert np.abs(got - want).max() <= 1e-4, name
    single, double = (network.tensors({"pixels": pixels}, double)["embeddings"] for double in (False, True))
    assert double.dtype == np.float64 and np.abs(single - double).max() <= 2e-5


@pytest.mark.parametrize("width", [64, 128])
def test_with_a_head_it_classifies_and_has_its_features_beside(head, tmp_path, width):
    weights = Weights("random", head=head(width, names=list("abcde")))
    network = FAMILY.build(ENTRY, weights)
    assert network.labels == tuple("abcde") and any("probe.pt" in note for note in network.notes)
    pipelines = opened(network, ENTRY, tmp_path)
    assert set(pipelines) == {"", "features"} and pipelines["features"].session is pipelines[""].session
    pixels = pixels_of(pipelines)
    got, want = pipelines[""].tensors({"pixels": pixels}), network.tensors({"pixels": pixels})
    assert want["embeddings"].shape == (3, width) and got["logits"].shape == (3, 5)
    for name, limit in FAMILY.tolerance.tensors.items():
        assert np.abs(got[name] - want[name]).max() <= limit, name
    settings = resolve(pipelines[""].head.task.parameters, {"function": "sigmoid", "confidence": 0.1})
    picture = sample_pictures.photo()
    want, got = network.predict(picture, settings), pipelines[""](picture, {"function": "sigmoid", "confidence": 0.1})
    np.testing.assert_allclose(got["scores"], want["scores"], atol=1e-5)
    features = network.predict(picture, {}, "features")["embeddings"]
    assert np.abs(pipelines["features"](picture)["embeddings"] - features).max() <= 1e-4


def test_a_model_with_a_head_is_published_as_a_classifier_and_one_without_as_an_embedder(head, tmp_path):
    plain = pipeline.export("dinov3-small", Weights("random"), tmp_path, "mine/1")
    assert (plain.task, plain.roles, plain.head) == ("embedding", ("",), "embeddings")
    probed = pipeline.export("dinov3-small", Weights("random", head=head()), tmp_path, "mine/2")
    assert (probed.task, probed.roles, probed.head) == ("classification", ("", "features"), "classes")
    assert probed.labels == tuple(f"class {i}" for i in range(5))
    assert probed.parity["tensor_embeddings"] <= 2e-5 and probed.parity["features_pipeline_answers"] == 4


def test_what_is_no_probe_of_this_size_is_refused_with_the_reason(head, tmp_path):
    for path, told in (
        (head(32), "reads 32 features; those of dinov3-small are 64 or 128"), (tmp_path / "none.pt", "no such head's"),
        (tmp_path / "net.pt", "something else than the weight"),
    ):  # fmt: skip
        torch.save(torch.nn.Sequential(torch.nn.Linear(64, 8), torch.nn.Linear(8, 5)).state_dict(), tmp_path / "net.pt")
        with pytest.raises(ExportFailed, match=told):
            FAMILY.build(ENTRY, Weights("random", head=path))
    with pytest.raises(ExportFailed, match="labels name 2 classes"):
        FAMILY.build(ENTRY, Weights("random", head=head(), labels=("a", "b")))
    for given in ({"labels": ("a",)}, {"multi_label": True}):
        with pytest.raises(ExportFailed, match="knows no classes without a head"):
            FAMILY.build(ENTRY, Weights("random", **given))


def test_users_weights_are_read_and_those_of_another_size_refused(tmp_path):
    network = FAMILY.build(ENTRY, Weights("random", seed=3))
    backbone = network._model.backbone
    save_file({name: value.contiguous() for name, value in backbone.state_dict().items()}, tmp_path / "w.safetensors")
    again = FAMILY.build(ENTRY, Weights("user", path=tmp_path / "w.safetensors"))
    picture = sample_pictures.photo()
    want, got = (one.predict(picture, {})["embeddings"] for one in (network, again))
    np.testing.assert_array_equal(got, want)
    backbone.save_pretrained(tmp_path / "folder")
    FAMILY.build(ENTRY, Weights("user", path=tmp_path / "folder"))
    with pytest.raises(ExportFailed, match="not those of"):
        FAMILY.build(GIANT, Weights("user", path=tmp_path / "folder"))


@pytest.mark.parametrize("entry", ENTRIES, ids=[entry.id for entry in ENTRIES])
def test_every_id_is_the_architecture_of_its_repository(entry):
    true = {
        "small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16), "giant": (1280, 32, 20),
    }[dinov3._size(entry)]  # fmt: skip
    mlp = {"giant": 3}.get(dinov3._size(entry), 2)  # matrices of each MLP
    width, layers, _ = true
    million = layers * width * width * (4 + mlp * 4) / 1e6
    assert million == pytest.approx(entry.params_m, rel=0.03)


@pytest.mark.parametrize("size", [(1, 1), (17, 5), (224, 224), (640, 97), (97, 640), (1333, 37), (1, 700)])
def test_pixels_are_those_of_the_librarys_processor(size):
    torch_env.import_torchvision()
    picture = np.random.default_rng(size[0]).integers(0, 256, (*size, 3), dtype=np.uint8)
    processor = dinov3._processor(ENTRY)
    wanted = processor(
        images=picture, return_tensors="np", input_data_format="channels_last", do_normalize=False
    )["pixel_values"][0].transpose(1, 2, 0)  # fmt: skip
    pixels, _ = resize.stretch(picture, 224, 224, "float32", "antialiased")
    # torch computes the weights of the filter in float32: half a hundredth of a grey level
    assert pixels.dtype == np.float32 and np.abs(pixels - wanted).max() <= 2e-5


def test_queries_and_keys_of_random_weights_have_an_effect():
    network = FAMILY.build(ENTRY, Weights("random", seed=0))
    pixels = FAMILY.resize(ENTRY)(sample_pictures.photo())[0]
    check_attention(network, FAMILY.tolerance, {"": {"pixels": pixels[None]}})
