"""Grounding DINO: the graph computes the outputs of transformers' network at any size and for any text, the pipeline
finds the boxes of its processor.

The parts have their real widths, but fewer layers, and the pictures are smaller, since height and width are dynamic.
"""

import torch  # isort: skip

import numpy as np
import pytest

from tritonvision import catalog
from tritonvision.ensembles.in_process import open_entry_point
from tritonvision.errors import ExportFailed
from tritonvision.exporters.contract import Weights
from tritonvision.exporters.families import grounding_dino
from tritonvision.exporters.families.grounding_dino import FAMILY
from tritonvision.exporters.graphs import check
from tritonvision.exporters.libraries import torch_env
from tritonvision.exporters.modules import proposals
from tritonvision.exporters.parity import sample_pictures
from tritonvision.exporters.parity.checks import open_vocabulary
from tritonvision.exporters.parity.checks.base import RANDOM_BOXES
from tritonvision.python_backend.compositions import phrase_grounding
from tritonvision.tasks import resolve

ENTRY = catalog.find("grounding-dino-tiny")
SIDES = 240, 400
RELATIVE = 1e-3
TEXTS = ("a dog", "a red cup", "dog")


pytestmark = pytest.mark.usefixtures("few_threads")


def shallow(entry, true_config=grounding_dino.config):
    """The configuration of one id with a layer or two of everything that is repeated."""
    config = true_config(entry)
    config.backbone_config.depths = [2, 1, 2, 1]  # of two the second shifts its windows
    config.text_config.num_hidden_layers = config.encoder_layers = config.decoder_layers = 2
    return config


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A shallow network, its pipeline, and its graph's file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grounding_dino, "config", shallow)
        network = grounding_dino.random_network(ENTRY, 0, SIDES)
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    network.export(path)
    point = grounding_dino.point(*SIDES)
    return network, open_entry_point({"": path}, point, network.assets("")), path


def inputs_of(network, sizes, valid, texts=TEXTS):
    pixels = np.stack([sample_pictures.noise(*sizes, seed=seed) for seed in range(len(valid))])
    photo = sample_pictures.photo()[: sizes[0], : sizes[1]]
    pixels[0, : photo.shape[0], : photo.shape[1]] = photo
    return {"pixels": pixels, "valid_size": np.array(valid, np.int32), **network._text(texts, len(valid))}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "valid", "texts"),
    [
        ((240, 320), [(240, 320)], ("dog",)),
        ((301, 259), [(301, 259), (224, 100)], TEXTS),  # no multiples of a patch, and padding
        ((224, 448), [(224, 448), (224, 448)], open_vocabulary.MANY[:30]),  # multiples of patches and windows
    ],
)
def test_the_graph_computes_the_networks_boxes_and_scores(model, size, valid, texts):
    network, local, _ = model
    inputs = inputs_of(network, size, valid, texts)
    got, want = local.nets[""].tensors(inputs), network.tensors(inputs)
    assert got["boxes"].shape == (len(valid), 900, 4)
    assert got["token_scores"].shape == (len(valid), 900, inputs["input_ids"].shape[1])
    # closer to 1, float32 has no digits left for a logit; close to 0, the runtime's sigmoid has few
    logits, wanted = (np.log(p) - np.log1p(-p) for p in (side["token_scores"].clip(1e-3, 0.95) for side in (got, want)))
    assert wanted.std() > 0.5
    assert np.abs(logits - wanted).max() <= RELATIVE * np.abs(wanted).max()
    assert want["boxes"].std() > 0.1
    assert np.abs(got["boxes"] - want["boxes"]).max() <= 1e-4


@pytest.mark.slow
def test_the_graph_ranks_proposals_by_the_networks_scores(model):
    network, _, path = model
    inputs = inputs_of(network, (240, 320), [(240, 320)])
    given = proposals.GraphRanking(path)(inputs)
    seen = []
    head = network._model.model.encoder_output_class_embed
    hook = head.register_forward_hook(lambda _, __, logits: seen.append(logits.amax(2).numpy()))
    network.tensors(inputs)
    hook.remove()
    assert np.abs(seen[0]).max() > 1
    assert len(np.unique(seen[0])) > 900
    assert np.abs(given - seen[0]).max() <= RELATIVE * np.abs(seen[0]).max()


@pytest.mark.slow
def test_pixels_outside_the_valid_size_have_no_effect(model):
    network, local, _ = model
    inputs = inputs_of(network, (240, 320), [(240, 250)])
    clean = local.nets[""].tensors(inputs)
    inputs["pixels"][:, :, 250:] = 77
    dirty = local.nets[""].tensors(inputs)
    for name in clean:
        np.testing.assert_array_equal(clean[name], dirty[name])


@pytest.mark.slow
def test_the_graph_matches_its_entry_point(model):
    check.check(model[2], grounding_dino.point().nets[0])


@pytest.mark.slow
def test_the_pipeline_finds_what_the_processor_finds(model):
    network, local, _ = model
    parity_check = open_vocabulary.OpenVocabulary(local.point, network, FAMILY.tolerance, "random")
    count, missing, worst = parity_check.run(local)
    assert missing == 0
    assert count > 100
    assert worst["pixels"] <= 0.5
    assert worst["scores"] <= 1e-3


@pytest.mark.slow
def test_equal_and_contained_texts_are_distinguished_as_the_processor_does(model):
    network, local, _ = model
    given = {"texts": ["dog", "dog house", "dog", "a house"], "confidence": 0.001, "text_threshold": 0.01}
    wanted = network.predict(sample_pictures.photo(), resolve(phrase_grounding.TASK.parameters, given))
    got = local(sample_pictures.photo(), given)
    assert len(set(wanted["class_ids"].tolist())) > 1
    assert wanted["scores"].min() > 0.01
    assert got["class_ids"].tolist() == wanted["class_ids"].tolist()
    np.testing.assert_allclose(got["boxes"], wanted["boxes"], atol=0.5)
    np.testing.assert_allclose(got["scores"], wanted["scores"], atol=1e-3)


@pytest.mark.slow
def test_a_narrow_strip_is_padded_as_the_processor_does(model):
    network, local, _ = model
    given = {"texts": ["a dog"], "confidence": 0, "text_threshold": 0, "max_detections": 20}
    strip = sample_pictures.photo()[100:130]
    wanted = network.predict(strip, resolve(phrase_grounding.TASK.parameters, given))
    got = local(strip, given)
    np.testing.assert_allclose(got["scores"], wanted["scores"], atol=1e-3)


@pytest.mark.slow
def test_random_answers_differ_between_classes_and_pictures(model):
    _, local, _ = model
    photo = local(sample_pictures.photo(), {"texts": [*open_vocabulary.SEVERAL]})
    assert len(photo["scores"]) in RANDOM_BOXES
    assert len(set(photo["class_ids"].tolist())) > 1
    other = local(sample_pictures.noise(300, 400), {"texts": [*open_vocabulary.SEVERAL]})
    assert photo["scores"].tolist() != other["scores"].tolist()


def test_the_phrases_of_the_library_are_those_of_the_pipeline():
    torch_env.import_torchvision()
    from transformers.models.grounding_dino import modeling_grounding_dino as library

    rng = np.random.default_rng(0)
    for _ in range(500):
        ids = rng.choice([101, 102, 1012, 1029, 7, 2000, 30521], size=rng.integers(1, 40))
        mask, positions = library.generate_masks_with_special_tokens_and_transfer_map(
            torch.from_numpy(ids[None]), torch.tensor(library.SPECIAL_TOKENS)
        )
        ours = phrase_grounding.phrases(ids)
        np.testing.assert_array_equal(ours[0], mask[0].numpy(), str(ids))
        np.testing.assert_array_equal(ours[1], positions[0].numpy(), str(ids))


@pytest.mark.slow
@pytest.mark.parametrize(
    "texts",
    [
        ["a cat", "A Dog "],
        ["Café crème", "naïve-looking robot #2", "3/4 view"],
        ["who is it?", "the dog's bone", "日本 flag", "x" * 150],
        [*open_vocabulary.MANY],
    ],
)
def test_captions_are_those_of_the_processor(model, texts):
    network, _, _ = model
    caption = phrase_grounding.caption(network._tokenizer, texts)
    processed = network.processor(images=np.zeros((30, 40, 3), np.uint8), text=[list(texts)], return_tensors="np")
    assert caption.ids.tolist() == processed["input_ids"][0].tolist()
    for span, found in zip(caption.spans, network._spans(texts), strict=True):
        assert span.tolist() == [i for i in found if caption.ids[i] not in (1012, 1029)]


@pytest.mark.slow
def test_the_text_encoder_reads_its_mask_as_the_library_does_by_default(model):
    """Eager attention would add the mask to the scores as ones and zeros."""
    from transformers import BertConfig, BertModel

    network, _, _ = model
    text = network._model.model.text_backbone
    assert text.config._attn_implementation == BertModel(BertConfig(num_hidden_layers=1)).config._attn_implementation
    one, both = (network._text(texts) for texts in (("a red cup",), ("a red cup", "dog")))
    with torch.inference_mode():
        alone, beside = (
            text(
                torch.from_numpy(given["input_ids"]), torch.from_numpy(given["text_token_mask"]).bool()[:, None],
                position_ids=torch.from_numpy(given["position_ids"]),
            ).last_hidden_state[0]
            for given in (one, both)
        )  # fmt: skip
    torch.testing.assert_close(alone[1:5], beside[1:5], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("id", "millions"), [("grounding-dino-tiny", 172), ("grounding-dino-base", 232)])
def test_every_id_has_its_size(id, millions):
    torch_env.import_torchvision()
    from transformers import GroundingDinoForObjectDetection

    with torch.device("meta"):
        network = GroundingDinoForObjectDetection(grounding_dino.config(catalog.find(id)))
    assert round(sum(p.numel() for p in network.parameters()) / 1e6) == millions


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    model[0]._model.save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes(model[0].assets("")["tokenizer.json"])
    return folder


@pytest.mark.slow
def test_user_weights_give_the_same_network(model, saved):
    network, _, _ = model
    again = FAMILY.build(ENTRY, Weights("user", path=saved))
    inputs = inputs_of(network, (224, 224), [(224, 224)])
    network_ranking, network._ranking = network._ranking, None
    try:
        want = network.tensors(inputs)
    finally:
        network._ranking = network_ranking
    for name, value in again.tensors(inputs).items():
        np.testing.assert_array_equal(value, want[name])
    assert again.assets("") == network.assets("")


@pytest.mark.slow
def test_weights_of_another_size_are_refused(saved):
    with pytest.raises(ExportFailed, match="not those of grounding-dino-base"):
        FAMILY.build(catalog.find("grounding-dino-base"), Weights("user", path=saved))


def test_weights_without_a_tokenizer_are_refused(tmp_path):
    with pytest.raises(ExportFailed, match="no tokenizer.json") as refused:
        FAMILY.build(ENTRY, Weights("user", path=tmp_path))
    assert "save_pretrained" in refused.value.hint


def test_official_weights_that_cannot_be_downloaded_are_an_error(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ExportFailed, match="IDEA-Research/grounding-dino-tiny"):
        FAMILY.build(ENTRY, Weights("official"))


def test_labels_are_refused():
    with pytest.raises(ExportFailed, match="from each request"):
        FAMILY.build(ENTRY, Weights("random", labels=("dog",)))
