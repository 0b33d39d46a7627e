"""CLIP: the graphs compute the embeddings of open_clip's networks; texts get the ids of open_clip's tokenizer."""

import torch  # isort: skip

import numpy as np
import pytest
from attention import check_attention
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from tritonvision import catalog
from tritonvision.ensembles.in_process import open_entry_point
from tritonvision.errors import ExportFailed, InvalidParameter
from tritonvision.exporters.contract import Weights
from tritonvision.exporters.families import clip
from tritonvision.exporters.libraries import open_clip_towers, open_clip_vocabulary, torch_env
from tritonvision.exporters.parity import sample_pictures
from tritonvision.exporters.parity.checks.base import TEXTS
from tritonvision.python_backend.vocabulary.clip_tokenizer import Tokenizer

ENTRY = catalog.find("clip/RN50")
ENTRIES = [entry for entry in catalog.entries().values() if entry.family == "CLIP"]
CONTEXT = 77
PICTURES, WORDS = clip.FAMILY.entry_points(ENTRY)


@pytest.fixture(scope="module")
def towers():
    return clip.FAMILY.build(ENTRY, Weights("random", seed=0))


@pytest.fixture(scope="module")
def pipelines(towers, tmp_path_factory):
    """Both entry points, by role."""
    folder = tmp_path_factory.mktemp("graphs")
    graphs = {point.role: folder / f"model{point.role}.onnx" for point in (PICTURES, WORDS)}
    for role, path in graphs.items():
        towers.export(path, role)
    return {point.role: open_entry_point(graphs, point, towers.assets(point.role)) for point in (PICTURES, WORDS)}


def batch_of(pipeline, samples):
    rows = [pipeline.inputs(sample)[0] for sample in samples]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def samples_of(role):
    return (
        list(TEXTS)
        if role
        else [sample_pictures.photo(), sample_pictures.noise(97, 333), sample_pictures.views()["wide-512x260"]]
    )


@pytest.mark.slow
@pytest.mark.parametrize("role", ["", "text"])
def test_graph_computes_the_networks_embeddings(towers, pipelines, role):
    inputs = batch_of(pipelines[role], samples_of(role))
    for batch in (1, 3):
        part = {name: value[:batch] for name, value in inputs.items()}
        got, want = pipelines[role].tensors(part), towers.tensors(part, role=role)
        assert got["embeddings"].shape == (batch, 1024) and got["embeddings"].dtype == np.float32
        assert np.abs(got["embeddings"] - want["embeddings"]).max() <= clip.FAMILY.tolerance.tensors["embeddings"]


@pytest.mark.slow
@pytest.mark.parametrize("role", ["", "text"])
def test_pipeline_answers_what_open_clips_own_steps_answer(towers, pipelines, role):
    wanted = np.stack([towers.predict(sample, {}, role)["embeddings"] for sample in samples_of(role)])
    found = np.stack([pipelines[role](sample)["embeddings"] for sample in samples_of(role)])
    assert np.abs(found - wanted).max() <= 1e-3 * wanted.std(0).mean()


@pytest.mark.parametrize("role", ["", "text"])
def test_random_embeddings_differ_between_samples(towers, role):
    vectors = np.stack([towers.predict(sample, {}, role)["embeddings"] for sample in samples_of(role)])
    assert vectors.std(0).mean() >= 1000 * clip.FAMILY.tolerance.tensors["embeddings"]
    assert abs(np.linalg.norm(vectors, axis=1) - 1).max() > 0.1  # as the network gives them, not of unit length


def test_queries_and_keys_of_random_weights_have_an_effect(towers):
    pixels = PICTURES.pre.inputs(sample_pictures.photo())[0]["pixels"][None]
    tokens = open_clip_towers.tokenizer(CONTEXT)(list(TEXTS[:4])).numpy()
    check_attention(towers, clip.FAMILY.tolerance, {"": {"pixels": pixels}, "text": {"input_ids": tokens}})


def test_float64_reference_agrees_with_float32(towers):
    tokens = open_clip_towers.some_tokens(2, 1)
    for role, inputs in (("", {"pixels": sample_pictures.noise(224, 224)[None]}), ("text", {"input_ids": tokens})):
        single, double = (towers.tensors(inputs, double, role)["embeddings"] for double in (False, True))
        assert double.dtype == np.float64
        assert np.abs(single - double).max() <= clip.FAMILY.tolerance.tensors["embeddings"]


@pytest.mark.parametrize("entry", ENTRIES, ids=[entry.id for entry in ENTRIES])
def test_every_id_is_open_clips_architecture_with_openais_activation(entry):
    torch_env.import_torchvision()
    import open_clip
    from open_clip.pretrained import get_pretrained_cfg
    from open_clip.transformer import QuickGELU

    name = clip.FAMILY.open_clip_name(entry)
    with torch.device("meta"), open_clip_towers.quiet():
        network = open_clip.create_model(name, pretrained=None, force_quick_gelu=True, device="meta")
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(entry.params_m, rel=0.01)
    assert isinstance(network.transformer.resblocks[0].mlp.gelu, QuickGELU)
    assert network.context_length == CONTEXT
    pictures, _ = clip.FAMILY.entry_points(entry)
    size = network.visual.preprocess_cfg["size"]
    assert pictures.size == (size if isinstance(size, tuple) else (size, size)) == entry.input_size
    assert get_pretrained_cfg(name, "openai")["hf_hub"].startswith("timm/")


def test_users_weights_are_read_and_those_of_another_size_refused(towers, tmp_path):
    path = tmp_path / "mine.safetensors"
    state = {name: value.half().contiguous() for name, value in towers._model.state_dict().items()}
    save_file(state | {"input_resolution": torch.tensor(224)}, path)
    network = clip.FAMILY.build(ENTRY, Weights("user", path=path))
    assert (network.source, network.labels, len(network.sha256)) == ("mine.safetensors", (), 64)
    inputs = {"input_ids": open_clip_towers.some_tokens(2, 1)}
    apart = network.tensors(inputs, role="text")["embeddings"] - towers.tensors(inputs, role="text")["embeddings"]
    assert np.abs(apart).max() <= 0.05  # half precision
    with pytest.raises(ExportFailed, match="not those of clip/RN101"):
        clip.FAMILY.build(catalog.find("clip/RN101"), Weights("user", path=path))


# ---- the vocabulary --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reference():
    torch_env.import_torchvision()
    return open_clip_towers.tokenizer(77)


@pytest.fixture(scope="module")
def tokenizer(reference):
    return Tokenizer(open_clip_vocabulary.tokenizer_json(reference).decode(), CONTEXT)


PIECES = [
    "'s", "'T", "don’t", "&amp;", "&#39;", "&amp;lt;", "&nbsp;", "<start_of_text>", "<end_of_text>", "</w>", "ſ", "'ſ",
    "<ſtart_of_text>", "İ", "ΟΔΟΣ", "Ã©", "â€™", "ﬁ", "ﬅ", "３", "\r\n", "\u2028", "\u3000", "\u00a0", "\u200b",
    "\ufeff", "\x1b[36m", "K", "\u0345", "\u0301", "\U00010940", "😀", "👩‍👧", "日本語", "2024", "½", "...",
    "[", "]", "\\", "^",
]  # fmt: skip
TEXT = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=4), st.just(" ")), max_size=10).map("".join)


@given(TEXT)
@settings(max_examples=1500, deadline=None)
@example("")
@example(".<start_of_text>x<end_of_text> <start_of_text>")
@example(" ".join(PIECES))
@example("a " * 75)
@example("a " * 76)
def test_token_ids_equal_open_clips_and_texts_it_would_truncate_are_refused(
    reference, tokenizer, text
):
    whole = [reference.sot_token_id, *reference.encode(text), reference.eot_token_id]
    if len(whole) > CONTEXT:
        with pytest.raises(InvalidParameter, match="longer than 75 tokens"):
            tokenizer(text)
    else:
        ids = tokenizer(text)
        assert ids.dtype == np.int64
        assert ids.tolist() == reference(text)[0].tolist() == whole + [0] * (CONTEXT - len(whole))


def test_characters_of_every_block_are_split_as_open_clip_splits_them(reference, tokenizer):
    """A letter, then every 7th character in groups of ten, including those that one regular expression engine lacks."""
    characters = [chr(c) for c in range(0x20, 0x110000, 7) if not 0xD800 <= c < 0xE000]
    for start in range(0, len(characters), 10):
        text = "a".join(characters[start : start + 10])
        whole = [reference.sot_token_id, *reference.encode(text), reference.eot_token_id]
        if len(whole) <= CONTEXT:
            assert tokenizer(text)[: len(whole)].tolist() == whole


def test_the_vocabulary_is_the_same_file_every_time(reference):
    assert open_clip_vocabulary.tokenizer_json(reference) == open_clip_vocabulary.tokenizer_json(reference)
