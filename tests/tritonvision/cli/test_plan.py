"""``tritonvision plan``: what stands in the list, and that without a GPU nothing is built or removed."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from tritonvision import gpus, machine, plans
from tritonvision.cli import app
from tritonvision.publication import MANIFEST, Manifest
from tritonvision.variants import Variant

VARIANT = Variant("tensorrt", "fp16", ("", "text"), max_batch=8)
MODEL = Manifest(
    id="mine/tags/1", family="f", task="classification", head="classes", weights="user", source="s", sha256="0",
    license="l", precision="fp32", labels=(), input_size=None, steps=(), variants=(VARIANT,), serving=VARIANT.name,
)  # fmt: skip
H200 = gpus.Gpu("NVIDIA H200", "9.0", "", "13.0")


@pytest.fixture
def root(tmp_path):
    for place in plans.places(MODEL, VARIANT.name)[:1]:
        plan = tmp_path / place
        plan.parent.mkdir(parents=True)
        plan.write_bytes(b"x" * 2_000_000)
        key = plans.key_on(H200, weights="", family_version="", tensorrt="", precision="fp16", profile="{}")
        plans.write_key(plan, key, 2.0)
    for manifest in (MODEL, replace(MODEL, id="other", variants=(), serving="")):
        folder = tmp_path / manifest.triton_name
        folder.mkdir()
        (folder / MANIFEST).write_text(manifest.to_json())
    return tmp_path


def run(root, *arguments):
    return CliRunner().invoke(app, ["plan", *arguments, "--repository", str(root)])


def test_the_list_shows_each_plan_with_what_it_was_built_for_and_why_it_cannot_serve_here(root):
    rows = json.loads(run(root, "list", "--json").stdout)
    assert [(row["file"], row["bytes"], row["gpu"]) for row in rows] == [
        ("net--mine__tags__1/1/tensorrt-fp16-b8.plan", 2_000_000, "NVIDIA H200"),
        ("net--mine__tags__1--text/1/tensorrt-fp16-b8.plan", 0, ""),
    ]
    assert {row["here"] for row in rows} == {"The package 'tensorrt' is not installed."}
    table = run(root, "list")
    assert table.exit_code == 0 and "mine/tags/1" in table.stdout and "2.0 MB" in table.stdout


def test_on_a_machine_with_a_gpu_the_list_says_what_is_missing(root, monkeypatch):
    monkeypatch.setattr(machine, "why_not", lambda engine, precision: "")
    monkeypatch.setattr(machine, "gpu", lambda: H200)
    rows = json.loads(run(root, "list", "--json").stdout)
    assert {row["here"] for row in rows} == {"No plan has been built yet."}  # that of the text tower


@pytest.mark.parametrize("action", ["build", "prune"])
def test_without_a_gpu_nothing_is_built_and_nothing_removed(root, action):
    result = run(root, action)
    assert result.exit_code == 3
    assert "The package 'tensorrt' is not installed." in result.stderr and "trt10" in result.stderr
    assert (root / plans.places(MODEL, VARIANT.name)[0]).stat().st_size == 2_000_000


def test_an_unknown_action_and_an_unknown_model_are_told(root):
    assert run(root, "show").exit_code == 2
    assert run(root, "build", "nothing-of-that-name").exit_code == 2


def test_models_without_plans_are_said_to_have_none(tmp_path):
    assert run(tmp_path, "list").stdout == "No published model has a TensorRT variant.\n"
