"""What this machine can run, and how a model runs here."""

from dataclasses import replace

import pytest

from tritonvision import machine
from tritonvision.publication import Manifest
from tritonvision.variants import ENGINES, OFFERED, PRECISIONS, Variant

BF16 = Variant("openvino", "bf16", ("",), graph_bytes=50)
MODEL = Manifest(
    id="x", family="f", task="classification", head="classes", weights="random", source="s", sha256="0", license="l",
    precision="fp32", labels=(), input_size=(8, 8), steps=(), variants=(BF16,), serving="openvino-bf16",
)  # fmt: skip


@pytest.mark.parametrize("flags", [{"avx512_bf16"}, {"amx_bf16", "avx2"}])
def test_bf16_runs_where_the_processor_has_it(monkeypatch, flags):
    pytest.importorskip("openvino")
    monkeypatch.setattr(machine, "cpu_flags", lambda: frozenset(flags))
    assert machine.why_not("openvino", "bf16") == ""
    assert machine.choice(MODEL) == machine.Choice(BF16)


def test_where_it_has_not_the_model_runs_as_it_was_exported_and_a_sentence_says_why(monkeypatch):
    pytest.importorskip("openvino")
    monkeypatch.setattr(machine, "cpu_flags", lambda: frozenset({"avx2"}))
    monkeypatch.setattr(machine, "cpu_name", lambda: "an old one")
    choice = machine.choice(MODEL)
    assert choice.variant is None and choice.why_not == "The processor (an old one) does not compute in bf16."
    assert machine.choice(replace(MODEL, serving="")) == machine.Choice(None)


def test_an_engine_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(machine.importlib.util, "find_spec", lambda _: None)
    assert machine.choice(MODEL).why_not == "The package 'openvino' is not installed."


def test_a_name_that_the_manifest_does_not_list_serves_nobody():
    choice = machine.choice(replace(MODEL, variants=()))
    assert choice.variant is None and "openvino-bf16" in choice.why_not


def test_every_engine_offers_precisions_and_only_these():
    assert OFFERED.keys() == set(ENGINES)
    assert all(set(offered) <= set(PRECISIONS) for offered in OFFERED.values())


@pytest.mark.parametrize(
    ("variant", "alone", "among_others"),
    [
        (Variant("openvino", "bf16", ("",)), "", ""),
        (Variant("openvino", "int8", ("",)), "openvino-int8.xml", "vision.openvino-int8.xml"),
        (Variant("tensorrt", "fp16", ("",), 8), "tensorrt-fp16-b8.plan", "vision.tensorrt-fp16-b8.plan"),
    ],
)
def test_files_of_networks_that_share_a_folder_have_different_names(variant, alone, among_others):
    assert (variant.file(), variant.file("vision")) == (alone, among_others)
