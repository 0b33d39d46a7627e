"""Fine-tuned weights: a LoRA adapter merged at export answers as the base with the adapter beside it, under its run."""

import torch  # isort: skip

import json

import pytest
from safetensors.torch import save_file

from tritonvision import catalog
from tritonvision.errors import ExportFailed, NotSupported
from tritonvision.exporters import adapters, pipeline
from tritonvision.exporters.contract import Weights
from tritonvision.exporters.families import smolvlm

ENTRY = catalog.find("smolvlm-256m")
ALPHA, RANK = 16, 4
CHANGED = ("q_proj", "v_proj", "down_proj")

pytestmark = pytest.mark.usefixtures("few_threads")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights") / "base"
    smolvlm.save_reduced(folder)
    return folder


@pytest.fixture(scope="module")
def network(base):
    return smolvlm.FAMILY.build(ENTRY, Weights("user", base))


@pytest.fixture(scope="module")
def products(network):
    """(A, B) of each changed module of the text model, by its name."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: tuple(torch.randn(shape, generator=generator) / 4 for shape in (
            (RANK, module.in_features), (module.out_features, RANK),
        ))
        for name, module in network._model.named_modules() if name.endswith(CHANGED) and "text_model" in name
    }  # fmt: skip


@pytest.fixture(scope="module")
def lora(base, products, tmp_path_factory):
    """The adapter as ``peft`` saves it."""
    folder = tmp_path_factory.mktemp("adapter") / "lora"
    folder.mkdir()
    tensors = {
        f"base_model.model.{name}.lora_{letter}.weight": tensor
        for name, pair in products.items() for letter, tensor in zip("AB", pair, strict=True)
    }  # fmt: skip
    save_file(tensors, folder / adapters.TENSORS)
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "base_model_name_or_path": str(base)}
    (folder / adapters.CONFIG).write_text(json.dumps(config))
    return folder


def logits(network, ids):
    with torch.inference_mode():
        return network._model(input_ids=ids).logits


def test_the_merged_network_computes_what_base_and_adapter_compute_together(network, products, lora):
    ids = torch.arange(9)[None] + 10
    plain = logits(network, ids)
    hooks = [
        network._model.get_submodule(name).register_forward_hook(
            lambda _, given, found, a=a, b=b: found + ALPHA / RANK * (given[0] @ a.T @ b.T)
        )
        for name, (a, b) in products.items()
    ]  # fmt: skip
    together = logits(network, ids)
    for hook in hooks:
        hook.remove()
    with adapters.merged(Weights("user", lora), pytest.fail) as ready:
        merged = logits(smolvlm.FAMILY.build(ENTRY, ready), ids)
    torch.testing.assert_close(merged, together, rtol=1e-4, atol=1e-4)
    assert (merged - plain).abs().max() > 0.1, "the adapter changes nothing"


def test_it_is_published_under_its_run_with_what_is_asked_of_it(lora, tmp_path):
    weights = Weights("user", lora, asked_as="phrase-grounding")
    manifest = pipeline.export_of_family("smolvlm", weights, tmp_path, "my-run")
    assert (manifest.id, manifest.asked_as, manifest.weights) == ("my-run", "phrase-grounding", "user")
    assert manifest.source == "base+lora" and manifest.parity["pipeline_tokens"] == 0


def test_an_adapter_of_another_size_is_refused(lora, tmp_path):
    smolvlm.SmolVLMNetwork(*smolvlm.random(_wider(), 0), "wider").save(tmp_path / "wider")
    with pytest.raises(ExportFailed, match="The adapter is of another base: 'wider' has no 'model.text_model"):
        pipeline.export_of_family("smolvlm", Weights("user", lora, base=str(tmp_path / "wider")), tmp_path, "my-run")
    assert not (tmp_path / "my-run").exists()


def test_a_model_that_does_not_write_has_no_run(tmp_path):
    with pytest.raises(NotSupported, match="does not answer questions in words"):
        pipeline.export("resnet18", Weights("random", asked_as="vqa"), tmp_path)


def _wider():
    config = smolvlm.config("reduced")
    config.text_config.intermediate_size += 8
    return config
