"""Checkpoints in the forms that trainers write are loaded completely or refused with the reason; none runs code."""

import torch  # isort: skip

import argparse
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file
from torch import nn

from tritonvision.errors import ExportFailed
from tritonvision.exporters import checkpoints


class Small(nn.Module):
    def __init__(self, classes=3, width=4):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 1), nn.BatchNorm2d(width))
        self.head = nn.Linear(width, classes)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Small()


def prefixed(state, prefix):
    return {prefix + name: value for name, value in state.items()}


FORMS = {
    "plain": lambda s: s,
    "DistributedDataParallel": lambda s: prefixed(s, "module."),
    "torch.compile": lambda s: prefixed(s, "_orig_mod."),
    "both": lambda s: {"state_dict": prefixed(s, "module._orig_mod.")},
    "torchvision's references": lambda s: {"model": s, "epoch": 3, "args": argparse.Namespace(lr=0.1)},
    "timm's model_best": lambda s: {"epoch": 9, "arch": "x", "state_dict": s, "metric": np.float64(80.5)},
    "a loop of one's own": lambda s: {"model_state_dict": s, "optimizer_state_dict": {"state": {}, "param_groups": []}},
    "Lightning": lambda s: {
        "state_dict": prefixed(s, "model.") | {"criterion.weight": torch.ones(3)},
        "hyper_parameters": {"root": Path("/data"), "lr": 0.1},
    },
    "within one another": lambda s: {"model": {"net": {"state_dict": prefixed(s, "backbone.model.")}}},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".pth.tar"])
def test_checkpoints_of_several_trainers_give_the_same_network(network, tmp_path, form, suffix):
    path = tmp_path / f"weights{suffix}"
    torch.save(FORMS[form](network.state_dict()), path)
    found = checkpoints.read(path)
    other = Small()
    checkpoints.load_into(other, checkpoints.unwrapped(found.tensors, other.state_dict().keys()), "small", "")
    for name, value in network.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


def test_prefixes_are_found_in_safetensors_too(network, tmp_path):
    save_file(prefixed(network.state_dict(), "_orig_mod."), tmp_path / "w.safetensors")
    tensors = checkpoints.unwrapped(checkpoints.read(tmp_path / "w.safetensors").tensors, network.state_dict().keys())
    assert tensors.keys() == network.state_dict().keys()


@pytest.mark.parametrize("key", ["state_dict_ema", "model_ema", "ema"])
def test_averaged_weights_are_used_and_noted(network, tmp_path, key):
    state = network.state_dict()
    averaged = {name: value + 1 for name, value in state.items()}
    torch.save({"state_dict": state, key: {"module": averaged} if key == "ema" else averaged}, tmp_path / "w.pth")
    found = checkpoints.read(tmp_path / "w.pth")
    assert torch.equal(found.tensors["head.bias"], state["head.bias"] + 1) and "EMA" in found.notes[0]
    found = checkpoints.read(tmp_path / "w.pth", averaged=False)
    assert torch.equal(found.tensors["head.bias"], state["head.bias"]) and found.notes == ()


def test_a_trainers_metadata_is_kept(network, tmp_path):
    torch.save(
        {"model": network.state_dict(), "args": argparse.Namespace(resolution=576, class_names=["a"])}, tmp_path / "w"
    )
    assert checkpoints.read(tmp_path / "w").settings["resolution"] == 576
    torch.save({"model": network.state_dict(), "hyper_parameters": {"lr": 1}, "epoch": 3}, tmp_path / "w")
    settings = checkpoints.read(tmp_path / "w").settings
    assert (settings["lr"], settings["epoch"]) == (1, 3) and "model" not in settings


def test_of_two_networks_in_one_file_only_an_averaged_one_is_chosen(network):
    state, names = network.state_dict(), network.state_dict().keys()
    with pytest.raises(ExportFailed, match=r"several such networks: student\., teacher\."):
        checkpoints.unwrapped(prefixed(state, "teacher.") | prefixed(state, "student."), names)
    averaged = {name: value + 1 for name, value in state.items()}
    found = checkpoints.unwrapped(prefixed(state, "model.") | prefixed(averaged, "ema_model."), names)
    assert torch.equal(found["head.bias"], averaged["head.bias"])


def test_batch_norm_counters_may_be_missing(network):
    state = {name: value for name, value in network.state_dict().items() if "num_batches" not in name}
    other = Small()
    checkpoints.load_into(other, state, "small", "")
    assert torch.equal(other.head.weight, network.head.weight)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda s: {n: v for n, v in s.items() if n != "head.bias"}, "'head.bias' is missing."),
        (lambda s: s | {"fc.bias": torch.ones(1)}, "'fc.bias' is none of its tensors."),
        (lambda s: s | {"head.weight": torch.ones(3, 5)}, r"'head.weight' is \[3, 5\], not \[3, 4\]."),
        (lambda s: prefixed(s, "x"), "'stem.0.weight' is missing, and 16 more differ."),
    ],
)
def test_a_refusal_names_the_tensor(network, change, sentence):
    with pytest.raises(ExportFailed, match=f"The weights are not those of small: {sentence}") as caught:
        checkpoints.load_into(Small(), change(network.state_dict()), "small", "a hint")
    assert caught.value.hint == "a hint"


class Payload:
    """Touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.attack("code in weights and packages")
def test_code_in_a_file_is_refused_by_name_and_does_not_run(network, tmp_path):
    torch.save({"state_dict": network.state_dict(), "x": Payload(tmp_path / "ran")}, tmp_path / "evil.pth")
    with pytest.raises(ExportFailed, match="cannot be read without running code of (_io|io).open") as caught:
        checkpoints.read(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists() and "torch.save(model.state_dict(), path)" in caught.value.hint
    torch.save(network, tmp_path / "whole.pth")
    with pytest.raises(ExportFailed, match="without running code of .*Small"):
        checkpoints.read(tmp_path / "whole.pth")


def test_a_checkpoint_of_ultralytics_is_named_as_that(tmp_path, monkeypatch):
    tasks = types.ModuleType("ultralytics.nn.tasks")
    tasks.DetectionModel = type("DetectionModel", (), {"__module__": tasks.__name__})
    monkeypatch.setitem(sys.modules, tasks.__name__, tasks)
    torch.save({"model": tasks.DetectionModel(), "ema": None}, tmp_path / "best.pt")
    with pytest.raises(ExportFailed, match="without running code of ultralytics.nn.tasks.DetectionModel") as caught:
        checkpoints.read(tmp_path / "best.pt")
    assert "under the id of its YOLO" in caught.value.hint


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors", "of-before-2020.pth"])
def test_a_file_that_was_downloaded_in_part_is_refused(network, tmp_path, name):
    path, state = tmp_path / name, network.state_dict()
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=name == "w.pth")
    assert checkpoints.read(path).tensors.keys() == state.keys()
    data = path.read_bytes()
    for kept in (*range(0, len(data), 7), len(data) - 1):
        path.write_bytes(data[:kept])
        with pytest.raises(ExportFailed, match="cannot be read|something else") as caught:
            checkpoints.read(path)
        assert caught.value.hint and str(tmp_path) not in caught.value.message, kept


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors", "of-before-2020.pth"])
def test_a_file_with_wrong_bytes_is_read_or_refused_and_breaks_nothing(network, tmp_path, name):
    path, rng = tmp_path / name, np.random.default_rng(0)
    if path.suffix == ".safetensors":
        save_file(network.state_dict(), path)
    else:
        torch.save(network.state_dict(), path, _use_new_zipfile_serialization=name == "w.pth")
    data = path.read_bytes()
    for _ in range(200):
        wrong = bytearray(data)
        for place in rng.integers(0, len(data), 3):
            wrong[place] = rng.integers(256)
        path.write_bytes(wrong)
        try:
            checkpoints.read(path)
        except ExportFailed as error:
            assert error.hint


@pytest.mark.parametrize("content", [{"epoch": 3}, [torch.ones(1)], {"state_dict": {"a": 1}}, {}])
def test_a_file_without_tensors_by_name_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ExportFailed, match="something else than a dictionary of tensors"):
        checkpoints.read(tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({0: "a", 1: "b"}, ("a", "b")), ({"1": "b", "0": "a"}, ("a", "b")), (["a", "b"], ("a", "b")), ("a", ("a",)),
        ({1: "a", 2: "b"}, None), (["a", ""], None), ({}, None), (None, None), (7, None),
    ],
)  # fmt: skip
def test_class_names_come_in_many_forms(given, names):
    assert checkpoints.class_names(given) == names
