"""Weights in several files, as large ones are released, load as those in one."""

import torch  # isort: skip

import hashlib
import json

import pytest

from tritonvision.errors import ExportFailed
from tritonvision.exporters.contract import Weights
from tritonvision.exporters.libraries import transformers_weights


@pytest.fixture(scope="module")
def network():
    from transformers import GemmaConfig, GemmaForCausalLM

    sizes = {"vocab_size": 90, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 8}
    config = GemmaConfig(**sizes, num_key_value_heads=2, intermediate_size=48)
    return transformers_weights.random(GemmaForCausalLM, config, 0)


def load(network, folder):
    return transformers_weights.of_user(type(network), "a/model", Weights("user", path=folder), lambda _: None)


def test_weights_in_several_files_are_read(network, tmp_path):
    network.save_pretrained(tmp_path, max_shard_size="20KB")
    parts = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(parts) > 2
    found = load(network, tmp_path)
    for name, tensor in network.state_dict().items():
        assert torch.equal(found.module.state_dict()[name], tensor), name
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in (tmp_path / "model.safetensors.index.json", *parts)
    ]
    assert found.sha256 == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_a_missing_one_of_several_is_refused(network, tmp_path):
    network.save_pretrained(tmp_path, max_shard_size="20KB")
    min(tmp_path.glob("model-*.safetensors")).unlink()
    with pytest.raises(ExportFailed, match="lacks config.json or model.safetensors"):
        load(network, tmp_path)


@pytest.mark.parametrize(
    "index", [b"", b"[]", b'{"weight_map": 3}', json.dumps({"weight_map": {"a": "../other.safetensors"}}).encode()]
)
def test_a_list_of_files_that_is_none_is_refused(network, tmp_path, index):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors.index.json").write_bytes(index)
    with pytest.raises(ExportFailed, match="is no index of weights"):
        load(network, tmp_path)


def test_released_weights_in_several_files_are_fetched(network, tmp_path, monkeypatch):
    network.save_pretrained(tmp_path, max_shard_size="20KB")
    asked = []

    def fetched(repository, name):
        asked.append(name)
        if not (tmp_path / name).is_file():
            raise ExportFailed(f"{repository}/{name} could not be fetched.")
        return tmp_path / name

    monkeypatch.setattr(transformers_weights.files, "hub_file", fetched)
    found = transformers_weights.official(type(network), "a/model")
    assert torch.equal(found.module.lm_head.weight, network.lm_head.weight)
    assert {name for name in asked if name.startswith("model-")} == {p.name for p in tmp_path.glob("model-*")}
