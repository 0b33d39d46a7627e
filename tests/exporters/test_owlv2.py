"""OWLv2: the graphs compute the outputs of transformers' network, the composition finds the boxes of its processor."""

import torch  # isort: skip

import json

import numpy as np
import pytest

from tritonvision import catalog
from tritonvision.ensembles.in_process import LocalComposition, npy
from tritonvision.errors import ExportFailed, InvalidParameter
from tritonvision.exporters.contract import Weights
from tritonvision.exporters.families import owlv2
from tritonvision.exporters.families.owlv2 import graphs as owlv2_graphs
from tritonvision.exporters.graphs import check
from tritonvision.exporters.libraries import torch_env
from tritonvision.exporters.modules import query_networks
from tritonvision.exporters.parity import compare, sample_pictures
from tritonvision.exporters.parity.checks.open_vocabulary import MANY, SEVERAL
from tritonvision.python_backend.images import padded_square
from tritonvision.python_backend.vocabulary import example_queries
from tritonvision.tasks import OPEN_VOCABULARY, resolve

ENTRY = catalog.find("owlv2-base-patch14")
TRUE = dict(owlv2._CONFIGS)
SIDE = 224  # 196 patches
LAYERS = 3
RELATIVE = 1e-3
PIXELS, SCORES = 0.5, 1e-3


pytestmark = pytest.mark.usefixtures("few_threads")


@pytest.fixture(scope="module")
def small():
    """The catalogue's base with fewer patches and fewer layers."""
    layers = {"num_hidden_layers": LAYERS}
    facts = {"vision_config": {"image_size": SIDE, **layers}, "text_config": layers}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(owlv2._CONFIGS, ENTRY.id, facts)
        yield patch


@pytest.fixture(scope="module")
def model(small, tmp_path_factory):
    """A reference network and the composition over its graphs."""
    network = owlv2.FAMILY.build(ENTRY, Weights("random", seed=1))
    (point,) = owlv2.FAMILY.entry_points(ENTRY)
    folder = tmp_path_factory.mktemp("graphs")
    graphs = {net.role: folder / f"{net.role}.onnx" for net in point.nets}
    for net in point.nets:
        network.export(graphs[net.role], net.role)
        check.check(graphs[net.role], net)
    return network, LocalComposition(graphs, point, assets=network.assets(""))


def resolved(given):
    return resolve(OPEN_VOCABULARY.parameters, given)


@pytest.mark.slow
@pytest.mark.parametrize("role", ["image", "text"])
def test_a_graph_computes_what_the_network_computes(model, role):
    network, local = model
    one, inputs = network.examples(role).values()  # one sample, and a batch that begins with it
    assert all(np.array_equal(one[name], inputs[name][:1]) for name in inputs)
    got, want = local.nets[role].tensors(inputs), network.tensors(inputs, role=role)
    alone = local.nets[role].tensors({name: value[:1] for name, value in inputs.items()})
    double = network.tensors(inputs, double=True, role=role)
    for name in want:
        assert want[name].shape[0] > 1 and want[name].std() > 0.01
        largest = np.abs(want[name]).max()
        assert np.abs(got[name] - want[name]).max() <= RELATIVE * largest, name
        assert np.abs(alone[name] - got[name][:1]).max() <= 1e-4 * largest, name
        assert double[name].dtype == np.float64 and np.abs(double[name] - want[name]).max() <= 1e-4 * largest, name


@pytest.mark.slow
def test_the_pixels_are_those_of_the_models_processor(model):
    network, _ = model
    mean, std = (np.array(getattr(network.processor.image_processor, f"image_{name}")) for name in ("mean", "std"))
    pictures = {
        **sample_pictures.views(), "a little larger": sample_pictures.noise(SIDE + 1, 130),
        "as large": sample_pictures.noise(SIDE, SIDE),
        "much larger": sample_pictures.noise(700, 1900), "a strip": sample_pictures.noise(3, 900),
    }  # fmt: skip
    for name, picture in pictures.items():
        processed = network.processor(images=picture, return_tensors="np", input_data_format="channels_last")
        pixels = padded_square.resize(picture, SIDE)
        assert np.abs(processed["pixel_values"][0].transpose(1, 2, 0) * std + mean - pixels).max() <= 2e-6, name


@pytest.mark.slow
def test_the_tokens_are_those_of_the_vocabulary_clip_was_trained_with(model):
    from open_clip.tokenizer import SimpleTokenizer

    _, local = model
    reference = SimpleTokenizer(context_length=owlv2_graphs.CONTEXT)
    texts = ["x", "a photo of an astronaut", "12 dogs & cats, on the grass?", "  A\tCAT'S  toy\n", "naïve café", "東京"]
    assert np.array_equal(owlv2_graphs.ids(texts), reference(texts).numpy())
    for index, text in enumerate(texts):
        assert np.array_equal(local._composition._tokens(index, text), owlv2_graphs.ids([text])[0]), text
    grass = owlv2_graphs.ids(["grass!"])[0]
    assert grass[:4].tolist() == [49406, 5922, 0, 49407]  # "!" pads in the library's tokenizer, wherever it stands
    assert np.array_equal(local._composition._tokens(0, "grass!"), grass)
    fits = "cat " * 14
    assert local._composition._tokens(0, fits)[-1] == 49407 == owlv2_graphs.ids([fits])[0, -1]
    with pytest.raises(InvalidParameter, match="longer than 14 tokens"):
        local(sample_pictures.photo(), {"texts": ["dog", fits + "cat"]})


@pytest.mark.slow
def test_the_exported_vocabulary_does_not_depend_on_earlier_texts(model):
    network, _ = model
    owlv2_graphs.ids(["a cat"])
    file = json.loads(network.assets("")["tokenizer.json"])
    assert file["padding"] is None and file["truncation"] is None
    assert len(file["model"]["vocab"]) == network._model.config.text_config.vocab_size


QUESTIONS = (
    ("photo", {"texts": [*SEVERAL]}),
    ("photo", {"texts": [*SEVERAL], "iou_threshold": 0.3, "confidence": 0.05}),
    ("photo", {"texts": [*SEVERAL], "iou_threshold": 0.3, "confidence": 0.05, "class_agnostic_nms": True}),
    ("odd-220x316", {"texts": ["face"], "confidence": 0.02, "max_detections": 40}),
    ("wide-512x260", {"texts": [*MANY], "confidence": 0.1}),
    ("no-face-noise-333x97", {"texts": ["noise", "a wall"], "confidence": 0.01}),
)


@pytest.mark.slow
@pytest.mark.parametrize(("view", "given"), QUESTIONS)
def test_the_composition_finds_what_the_processor_finds(model, view, given):
    network, local = model
    picture = sample_pictures.views()[view]
    got, want = local(picture, given), network.predict(picture, resolved(given))
    assert len(want["scores"]) >= 3
    settings = resolved(given)
    missing, figures = compare.detections(got, want, settings["confidence"], SCORES, settings["max_detections"])
    assert missing == 0
    assert figures["pixels"] <= PIXELS and figures["scores"] <= SCORES


@pytest.mark.slow
def test_the_oracle_is_the_networks_own_forward_pass(model):
    network, _ = model
    picture, texts = sample_pictures.views()["wide-512x260"], [*SEVERAL]
    processor = network.processor
    processed = processor(text=[texts], images=picture, return_tensors="pt", input_data_format="channels_last")
    with torch.inference_mode():
        found = network._model(**processed)
    (whole,) = processor.post_process_grounded_object_detection(found, 0.1, [picture.shape[:2]])
    parts = network.predict(picture, resolved({"texts": texts, "confidence": 0.1}))
    order = np.argsort(-whole["scores"].numpy(), kind="stable")
    np.testing.assert_allclose(parts["scores"], whole["scores"].numpy()[order], rtol=1e-5)
    np.testing.assert_array_equal(parts["class_ids"], whole["labels"].numpy()[order])
    assert len(order) >= 3


@pytest.mark.slow
def test_random_weights_find_some_things_of_several_classes_on_the_photo(model):
    _, local = model
    found = local(sample_pictures.photo(), {"texts": [*SEVERAL]})
    assert 10 <= len(found["scores"]) <= 60
    assert len(set(found["class_ids"].tolist())) > 1
    other = local(sample_pictures.photo()[:, ::-1], {"texts": [*SEVERAL]})
    assert len(other["scores"]) != len(found["scores"]) or np.abs(other["scores"] - found["scores"]).max() > 0.01


@pytest.mark.slow
def test_an_example_of_the_whole_picture_is_the_query_that_the_library_embeds(model):
    """owlvit's rule, for which the box is the whole picture; OWLv2's own rule uses no box."""
    from transformers.models.owlvit.modeling_owlvit import OwlViTForObjectDetection

    network, _ = model
    for view in ("photo", "mirror", "small-200"):
        pixels = padded_square.resize(sample_pictures.views()[view], SIDE)
        tensors = {name: value[0] for name, value in network.tensors({"pixels": pixels[None]}, role="image").items()}
        with torch.inference_mode():
            feature_map = network._model.image_embedder(owlv2_graphs.normalised(torch.from_numpy(pixels[None])))[0]
            features = feature_map.flatten(1, 2)
            embeds, _, _ = OwlViTForObjectDetection.embed_image_query(network._model, features, feature_map)
        got = example_queries.shown_by([0, 0, 300, 300], (300, 300), tensors["boxes"], tensors["class_embeds"])
        np.testing.assert_allclose(got, embeds.numpy().reshape(-1), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_scores_of_examples_are_those_of_the_networks_class_head(model):
    network, local = model
    shown, searched, size = sample_pictures.photo(), sample_pictures.views()["rotated-15"], (512, 512)
    boxes, classes = [[60, 30, 300, 400], [300, 100, 500, 300], [10, 300, 200, 500]], [1, 0, 1]
    sample = {"image": npy(searched), "examples": [npy(shown)]}
    given = {"example_boxes": boxes, "example_classes": classes, "confidence": 0.05}
    got = local(sample, given)

    seen, asked = (padded_square.resize(picture, SIDE)[None] for picture in (shown, searched))
    tensors = {name: value[0] for name, value in network.tensors({"pixels": seen}, role="image").items()}
    queries = [example_queries.shown_by(box, size, tensors["boxes"], tensors["class_embeds"]) for box in boxes]
    model_ = network._model
    with torch.inference_mode():
        feature_map = model_.image_embedder(owlv2_graphs.normalised(torch.from_numpy(asked)))[0]
        features = feature_map.flatten(1, 2)
        logits = model_.class_predictor(features, torch.from_numpy(np.stack(queries))[None])[0][0]
        centres = model_.box_predictor(features, feature_map)[0].numpy()
    scores = logits.sigmoid().numpy()
    scores = np.stack([scores[:, 1], scores[:, [0, 2]].max(1)], axis=1)
    corners = np.concatenate([centres[:, :2] - centres[:, 2:] / 2, centres[:, :2] + centres[:, 2:] / 2], axis=1) * 512
    above = scores.max(1) > 0.05
    want = query_networks.limited(corners[above], scores.max(1)[above], scores.argmax(1)[above], size, resolved(given))
    assert len(want["scores"]) >= 3 and len(set(want["class_ids"].tolist())) == 2
    missing, figures = compare.detections(got, want, 0.05, SCORES, 300)
    assert missing == 0
    assert figures["pixels"] <= PIXELS and figures["scores"] <= SCORES


@pytest.mark.slow
def test_weights_are_read_as_the_library_saves_them(model, tmp_path):
    network, _ = model
    network._model.save_pretrained(tmp_path / "folder")
    read = owlv2.FAMILY.build(ENTRY, Weights("user", path=tmp_path / "folder"))
    for (name, ours), theirs in zip(
        network._model.state_dict().items(), read._model.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs), name
    assert read.source == "folder" and len(read.sha256) == 64
    with pytest.raises(ExportFailed, match="another size than owlv2-large"):
        owlv2.FAMILY.build(catalog.find("owlv2-large-patch14"), Weights("user", path=tmp_path / "folder"))
    state = network._model.state_dict()
    state.pop("class_head.dense0.weight")
    torch.save(state, tmp_path / "state.pt")
    with pytest.raises(ExportFailed, match="not those of google/owlv2-base-patch16-ensemble"):
        owlv2.FAMILY.build(ENTRY, Weights("user", path=tmp_path / "state.pt"))


def test_both_sizes_have_the_networks_of_their_checkpoints(monkeypatch):
    """Counted without memory; what the catalogue says."""
    monkeypatch.setattr(owlv2, "_CONFIGS", TRUE)
    torch_env.import_torchvision()
    from transformers import Owlv2ForObjectDetection

    for name, patches, width in (("owlv2-base-patch14", 3600, 512), ("owlv2-large-patch14", 5184, 768)):
        entry = catalog.find(name)
        (point,) = owlv2.FAMILY.entry_points(entry)
        assert point.size == tuple(entry.input_size)
        assert point == owlv2.point_of(owlv2.config(entry))
        dims = {tensor.name: tensor.dims for net in point.nets for tensor in net.outputs}
        assert dims["boxes"] == (patches, 4) and dims["class_embeds"] == (patches, width)
        assert dims["query_embeds"] == (width,)
        with torch.device("meta"):
            module = Owlv2ForObjectDetection(owlv2.config(entry))
        assert sum(p.numel() for p in module.parameters()) / 1e6 == pytest.approx(entry.params_m, rel=0.01)


def test_class_names_are_refused():
    with pytest.raises(ExportFailed, match="takes its classes from each request"):
        owlv2.FAMILY.build(ENTRY, Weights("random", labels=("cat",)))
