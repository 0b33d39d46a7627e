"""LoRA adapters merged into their base: the numbers of the formula, names that moved, and other bases refused."""

import torch  # isort: skip

import json
import math
import resource
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tritonvision.errors import ExportFailed, InvalidParameter, SetupError
from tritonvision.exporters import adapters
from tritonvision.exporters.contract import Weights

QUERY, TABLE, HEAD = "model.layers.0.self_attn.q_proj", "model.embed_tokens", "lm_head"
RANK, ALPHA = 2, 6
NAME = "base_model.model.{}.{}"


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


BASE = {f"{QUERY}.weight": random(4, 3), f"{TABLE}.weight": random(7, 3), f"{HEAD}.weight": random(7, 3)}
LORA = {
    NAME.format(QUERY, "lora_A.weight"): random(RANK, 3), NAME.format(QUERY, "lora_B.weight"): random(4, RANK),
    NAME.format(TABLE, "lora_embedding_A"): random(RANK, 7), NAME.format(TABLE, "lora_embedding_B"): random(3, RANK),
    NAME.format(HEAD, "weight"): random(3, 7).T.contiguous(),
}  # fmt: skip


def nowhere(text: str) -> Path:
    raise ExportFailed(f"No network for {text}.")


def base(root: Path, tensors=BASE) -> Path:
    folder = root / "base"
    folder.mkdir(exist_ok=True)
    save_file(dict(tensors), folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text("{}")
    return folder


def adapter(root: Path, tensors=LORA, **config) -> Path:
    folder = root / "lora"
    folder.mkdir(exist_ok=True)
    save_file(dict(tensors), folder / adapters.TENSORS)
    told = {"peft_type": "LORA", "lora_alpha": ALPHA, "r": RANK, "base_model_name_or_path": "../base"} | config
    (folder / adapters.CONFIG).write_text(json.dumps(told))
    return folder


def merge(folder: Path, given: str = "", fetch=nowhere) -> dict[str, torch.Tensor]:
    with adapters.merged(Weights("user", folder, base=given), fetch) as ready:
        assert ready.path.name == "base+lora" and (ready.path / "config.json").read_text() == "{}"
        return load_file(ready.path / "model.safetensors")


def product(module: str, parts: tuple[str, str] = ("lora_A.weight", "lora_B.weight")) -> torch.Tensor:
    a, b = (LORA[NAME.format(module, part)] for part in parts)
    return b @ a


def test_each_matrix_gets_its_change_a_table_the_transposed_one_and_a_whole_tensor_its_place(tmp_path):
    base(tmp_path)
    found = merge(adapter(tmp_path))
    scale = ALPHA / RANK
    torch.testing.assert_close(found[f"{QUERY}.weight"], BASE[f"{QUERY}.weight"] + scale * product(QUERY))
    change = product(TABLE, ("lora_embedding_A", "lora_embedding_B")).T
    torch.testing.assert_close(found[f"{TABLE}.weight"], BASE[f"{TABLE}.weight"] + scale * change)
    torch.testing.assert_close(found[f"{HEAD}.weight"], LORA[NAME.format(HEAD, "weight")])


@pytest.mark.parametrize(("config", "scale"), [
    ({"use_rslora": True}, ALPHA / math.sqrt(RANK)), ({"alpha_pattern": {"q_proj": 8}}, 8 / RANK),
    ({"alpha_pattern": {"proj": 8}}, ALPHA / RANK), ({"alpha_pattern": {r"layers\.\d+\.self_attn\..*": 8}}, 8 / RANK),
    ({"alpha_pattern": {"k_proj|q_proj": 8}}, 8 / RANK),
])  # fmt: skip
def test_the_scale_is_the_configuration_s(tmp_path, config, scale):
    base(tmp_path)
    found = merge(adapter(tmp_path, **config))
    torch.testing.assert_close(found[f"{QUERY}.weight"], BASE[f"{QUERY}.weight"] + scale * product(QUERY))


def test_the_type_of_the_base_stays_and_files_without_a_change_too(tmp_path):
    folder = base(tmp_path, {name: tensor.bfloat16() for name, tensor in BASE.items()})
    save_file({"vision.weight": random(2, 2)}, folder / "vision.safetensors")
    found = merge(adapter(tmp_path))
    assert found[f"{QUERY}.weight"].dtype == torch.bfloat16
    with adapters.merged(Weights("user", tmp_path / "lora"), nowhere) as ready:
        assert torch.equal(load_file(ready.path / "vision.safetensors")["vision.weight"], random(2, 2))
        gone = ready.path
    assert not gone.exists() and (folder / "config.json").is_file()


def test_a_module_that_the_library_has_moved_is_found_by_its_end(tmp_path):
    base(tmp_path, {name.replace("model.", "model.language_model."): tensor for name, tensor in BASE.items()})
    found = merge(adapter(tmp_path))
    moved = f"{QUERY}.weight".replace("model.", "model.language_model.")
    torch.testing.assert_close(found[moved], BASE[f"{QUERY}.weight"] + ALPHA / RANK * product(QUERY))


def test_weights_that_are_no_adapter_are_passed_on(tmp_path):
    for weights in (Weights("user", base(tmp_path)), Weights("random")):
        with adapters.merged(weights, nowhere) as ready:
            assert ready is weights
    with pytest.raises(InvalidParameter, match="--base is for an adapter"), adapters.merged(
        Weights("user", base(tmp_path), base="x"), nowhere
    ):
        pass


def test_a_disk_without_room_for_the_merged_weights_is_said(tmp_path):
    folder, before = adapter(tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)
    base(tmp_path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, before[1]))
    try:
        with pytest.raises(SetupError, match="merged with its base cannot be written"):
            merge(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# ---- the base --------------------------------------------------------------------------------------------------------


def test_the_base_is_a_folder_that_is_named_or_lies_on_the_hub(tmp_path):
    folder = base(tmp_path)
    merge(adapter(tmp_path, base_model_name_or_path="somebody/base"), str(folder))
    merge(adapter(tmp_path, base_model_name_or_path=str(folder)))
    asked = []
    merge(adapter(tmp_path, base_model_name_or_path="somebody/base"), fetch=lambda text: asked.append(text) or folder)
    assert asked == ["hf:somebody/base"]


@pytest.mark.parametrize(("told", "given", "error", "says"), [
    ("somebody/base", "hf:somebody/other", ExportFailed, "trained on 'somebody/base', not on 'somebody/other'"),
    ("", "", InvalidParameter, "does not tell what it was trained on"),
    ("somebody/base", "nowhere-at-all", InvalidParameter, "no folder 'nowhere-at-all'"),
    ("somebody/base", "", ExportFailed, "No network for hf:somebody/base"),
])  # fmt: skip
def test_a_base_that_cannot_be_had_is_a_sentence(tmp_path, told, given, error, says):
    with pytest.raises(error, match=says):
        merge(adapter(tmp_path, base_model_name_or_path=told), given)


@pytest.mark.parametrize("tensors", [
    {f"{QUERY}.weight": random(4, 5), f"{TABLE}.weight": random(7, 3), f"{HEAD}.weight": random(7, 3)},
    {"model.other.weight": random(4, 3)},
    {f"{name}.{key}": tensor.clone() for name in ("a", "b") for key, tensor in BASE.items()},
], ids=["shape", "names", "twice"])  # fmt: skip
def test_an_adapter_of_another_base_is_refused(tmp_path, tensors):
    base(tmp_path, tensors)
    with pytest.raises(ExportFailed, match="The adapter is of another base: 'base' has no"):
        merge(adapter(tmp_path))


# ---- the adapter -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("config", "says"), [
    ({"peft_type": "IA3"}, "no LoRA adapter"), ({"lora_alpha": None}, "no LoRA adapter"), ({"use_dora": True}, "DoRA"),
    ({"bias": "all"}, "biases"), ({"alpha_pattern": {"(": 8}}, "alpha_pattern"),
])  # fmt: skip
def test_another_kind_of_adapter_is_refused(tmp_path, config, says):
    base(tmp_path)
    with pytest.raises(ExportFailed, match=says):
        merge(adapter(tmp_path, **config))


@pytest.mark.parametrize(("tensors", "says"), [
    ({}, "changes nothing"), ({NAME.format(QUERY, "lora_A.weight"): random(RANK, 3)}, "one half"),
    ({NAME.format(QUERY, "lora_magnitude_vector"): random(4)}, "not merged here"),
    (LORA | {NAME.format(QUERY, "lora_B.weight"): random(4, 5)}, "product"),
    (LORA | {name.replace("layers", "text.layers"): tensor.clone() for name, tensor in LORA.items()}, "twice"),
])  # fmt: skip
def test_an_adapter_in_pieces_is_refused(tmp_path, tensors, says):
    base(tmp_path)
    with pytest.raises(ExportFailed, match=says):
        merge(adapter(tmp_path, tensors))


def test_a_broken_file_is_a_sentence(tmp_path):
    base(tmp_path)
    for name in (adapters.TENSORS, adapters.CONFIG):
        folder = adapter(tmp_path)
        (folder / name).write_text("no such thing")
        with pytest.raises(ExportFailed, match=f"{name} cannot be read"):
            merge(folder)
    adapter(tmp_path)
    (tmp_path / "base" / "model.safetensors").write_bytes(b"x" * 64)
    with pytest.raises(ExportFailed, match="base 'base' cannot be read"):
        merge(tmp_path / "lora")
