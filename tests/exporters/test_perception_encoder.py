"""Perception Encoder: the graphs compute the unit vectors of open_clip's networks, which Meta's own files load into."""

import torch  # isort: skip

from unittest import mock

import numpy as np
import pytest
from attention import check_attention
from safetensors.torch import save_file
from shallow_towers import shallow

from tritonvision import catalog
from tritonvision.ensembles.in_process import open_entry_points
from tritonvision.errors import ExportFailed, InvalidParameter
from tritonvision.exporters.contract import Weights
from tritonvision.exporters.families.perception_encoder import FAMILY
from tritonvision.exporters.libraries import open_clip_towers, torch_env
from tritonvision.exporters.parity import sample_pictures
from tritonvision.exporters.parity.checks.base import TEXTS

ENTRY = catalog.find("perception-encoder/PE-Core-B16-224")
ENTRIES = [entry for entry in catalog.entries().values() if entry.family == FAMILY.name]
LIMIT = FAMILY.tolerance.tensors["embeddings"]
# Short texts: two tokens less than the context of 32.
SAID = [text for text in TEXTS if len(text.split()) < 12]


@pytest.fixture(scope="module")
def small():
    with shallow():
        return FAMILY.build(ENTRY, Weights("random", seed=0))


@pytest.fixture(scope="module")
def pipelines(small, tmp_path_factory):
    folder, points = tmp_path_factory.mktemp("graphs"), FAMILY.entry_points(ENTRY)
    graphs = {point.role: folder / f"model{point.role}.onnx" for point in points}
    for role, path in graphs.items():
        small.export(path, role)
    return open_entry_points(graphs, points, lambda point: small.assets(point.role))


def samples_of(role):
    return SAID if role else [sample_pictures.photo(), sample_pictures.noise(97, 333), sample_pictures.noise(640, 20)]


@pytest.mark.parametrize("role", ["", "text"])
def test_graph_and_pipeline_give_the_unit_vectors_of_open_clips_network_and_steps(small, pipelines, role):
    pipeline, samples = pipelines[role], samples_of(role)
    rows = [pipeline.inputs(sample)[0] for sample in samples]
    inputs = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    for batch in (1, len(samples)):
        part = {name: value[:batch] for name, value in inputs.items()}
        got, want = pipeline.tensors(part)["embeddings"], small.tensors(part, role=role)["embeddings"]
        assert got.shape == (batch, 48) and np.abs(got - want).max() <= LIMIT
    wanted = np.stack([small.predict(sample, {}, role)["embeddings"] for sample in samples])
    found = np.stack([pipeline(sample)["embeddings"] for sample in samples])
    assert np.abs(found - wanted).max() <= 1e-3 * wanted.std(0).mean()
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert wanted.std(0).mean() >= 1000 * LIMIT


def test_queries_and_keys_of_random_weights_have_an_effect(small):
    pixels = FAMILY.resize(ENTRY).inputs(sample_pictures.photo())[0]["pixels"][None]
    tokens = open_clip_towers.tokenizer(FAMILY.context(ENTRY))(SAID).numpy()
    asked = {"text": {"input_ids": tokens}, "": {"pixels": pixels}}
    check_attention(small, FAMILY.tolerance, asked, bars=1000)


def test_a_text_of_more_than_thirty_tokens_is_refused(pipelines):
    with pytest.raises(InvalidParameter, match="longer than 30 tokens"):
        pipelines["text"]("word " * 31)
    assert pipelines["text"]("word " * 30)["embeddings"].shape == (48,)


def test_metas_own_file_loads_as_open_clips_does_and_another_one_is_refused(small, tmp_path):
    state = {name: value.contiguous() for name, value in small._model.state_dict().items()}
    save_file(state, tmp_path / "open_clip.safetensors")
    torch.save(_metas(state), tmp_path / "PE.pt")
    picture, text = sample_pictures.photo(), "a photo of an astronaut"
    for name in ("open_clip.safetensors", "PE.pt"):
        with shallow():
            network = FAMILY.build(ENTRY, Weights("user", path=tmp_path / name))
        for sample, role in ((picture, ""), (text, "text")):
            want, got = (one.predict(sample, {}, role)["embeddings"] for one in (small, network))
            np.testing.assert_allclose(got, want, atol=1e-6)
    save_file({name: value for name, value in state.items() if "logit" not in name}, tmp_path / "part.safetensors")
    refused = pytest.raises(ExportFailed, match="not those of perception-encoder/PE-Core-B16-224: 'logit_scale'")
    with shallow(), refused:
        FAMILY.build(ENTRY, Weights("user", path=tmp_path / "part.safetensors"))


def _metas(state):
    """The names of Meta's repository: the inverse of what timm and open_clip do."""
    found = {}
    for name, value in state.items():
        if not name.startswith("visual.trunk."):
            found[name.removeprefix("text.")] = value
            continue
        name = name.removeprefix("visual.trunk.")
        if name.startswith("attn_pool."):
            name = name.replace("attn_pool.norm", "attn_pool.layernorm").replace("attn_pool.latent", "attn_pool.probe")
            name = name.replace("attn_pool.proj", "attn_pool.attn.out_proj").replace(".mlp.fc1", ".mlp.c_fc")
            name = name.replace(".mlp.fc2", ".mlp.c_proj")
            if ".q." in name:
                continue
            if ".kv." in name:
                query = state[f"visual.trunk.{name.replace('.kv.', '.q.')}"]
                name, value = f"attn_pool.attn.in_proj_{name.rpartition('.')[2]}", torch.cat((query, value))
        elif name == "head.weight":
            name, value = "proj", value.T.contiguous()
        elif name == "head.bias":
            continue
        elif name == "cls_token":
            name, value = "class_embedding", value[0, 0]
        elif name == "pos_embed":
            name, value = "positional_embedding", value[0]
        else:
            for ours, theirs in (
                ("patch_embed.proj", "conv1"), ("norm_pre", "ln_pre"), ("norm1", "ln_1"), ("norm2", "ln_2"),
                ("gamma_1", "ls_1.gamma"), ("gamma_2", "ls_2.gamma"), ("attn.qkv.", "attn.in_proj_"),
                ("attn.proj", "attn.out_proj"), ("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj"),
                ("blocks.", "transformer.resblocks."),
            ):  # fmt: skip
                name = name.replace(ours, theirs)
            name = "ln_post" + name.removeprefix("norm") if name.startswith("norm.") else name
        found[f"visual.{name}"] = value
    return found


@pytest.mark.parametrize("entry", ENTRIES, ids=[entry.id for entry in ENTRIES])
def test_every_id_is_open_clips_architecture_with_the_preprocessing_of_its_release(entry):
    torch_env.import_torchvision()
    import open_clip
    from open_clip.pretrained import get_pretrained_cfg

    name = FAMILY.open_clip_name(entry)
    with torch.device("meta"), open_clip_towers.quiet():
        network = open_clip.create_model(name, pretrained=None, device="meta")
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(entry.params_m, rel=0.02)
    assert network.context_length == FAMILY.context(entry)
    released = get_pretrained_cfg(name, "meta")
    with mock.patch.object(open_clip_towers.OpenClipFamily, "create", return_value=network):
        ours = FAMILY.create(entry).visual.preprocess_cfg
    for key in ("mean", "std", "interpolation", "resize_mode"):
        assert ours[key] == released[key]
    assert entry.input_size == (ours["size"] if isinstance(ours["size"], tuple) else (ours["size"],) * 2)
