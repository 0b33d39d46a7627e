"""The precision that a model is asked for: had, built, or refused in a sentence; never passed over."""

from __future__ import annotations

import pytest
from manifests import manifest_of, publish

from tritonvision.client.vi import precision
from tritonvision.engine.facts import Facts
from tritonvision.settings import Settings
from tritonvision.variants import Variant
from tritonvision.vi.errors import ViConfigurationError

EIGHT = Variant("onnxruntime", "int8", ("decoder",))


@pytest.mark.parametrize(("given", "wanted"), [
    ((None, False, False), ""), (("auto", False, False), ""), (("float16", False, False), "fp16"),
    (("torch.bfloat16", False, False), "bf16"), ((None, True, False), "int8"), ((None, False, True), "int4"),
])  # fmt: skip
def test_the_options_mean_a_precision(given, wanted):
    assert precision.wanted(*given) == wanted


@pytest.mark.parametrize("given", [
    (None, True, True), ("float16", True, False), ("float8", False, False), (8, False, False),
])  # fmt: skip
def test_two_precisions_or_an_unknown_one_are_refused(given):
    with pytest.raises(ViConfigurationError):
        precision.wanted(*given)


@pytest.fixture
def commands(monkeypatch):
    """What the command line is asked to do."""
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(precision, "run_command", lambda *arguments: asked.append(arguments))
    return asked


def let_serve(root, manifest, wanted) -> list[str]:
    publish(root, [manifest])
    said: list[str] = []
    precision.let_serve(Settings(repository=root), manifest.id, wanted, said.append)
    return said


def test_what_serves_already_is_left_alone(tmp_path, commands):
    assert let_serve(tmp_path, manifest_of("my-run", "vlm"), "fp32") == [] == commands
    served = manifest_of("my/2", "vlm", variants=(EIGHT,), serving=EIGHT.name)
    assert let_serve(tmp_path, served, "int8") == [] == commands


def test_a_published_variant_serves_from_now_on(tmp_path, commands):
    (said,) = let_serve(tmp_path, manifest_of("my-run", "vlm", variants=(EIGHT,)), "int8")
    assert "'my-run' is served by onnxruntime-int8 from now on." in said
    let_serve(tmp_path, manifest_of("my/2", "vlm", variants=(EIGHT,), serving=EIGHT.name), "fp32")
    where = ("--repository", str(tmp_path))
    assert commands == [
        ("variants", "use", *named, *where)
        for named in (("my-run", "onnxruntime-int8"), ("my/2", "onnxruntime-fp32"))
    ]


def test_a_precision_that_this_machine_runs_is_built(tmp_path, commands, monkeypatch):
    monkeypatch.setitem(precision.OFFERED, "onnxruntime", ("fp32", "int8"))
    assert "is built in int8 now" in let_serve(tmp_path, manifest_of("my-run", "vlm"), "int8")[0]
    (command,) = commands
    assert command[:3] == ("variants", "add", "my-run") and command[3:8] == (
        "--engine", "onnxruntime", "--precision", "int8", "--use"
    )


def test_a_precision_that_nothing_runs_is_a_sentence(tmp_path, commands):
    with pytest.raises(ViConfigurationError, match="Nothing on this machine runs 'my-run' in fp16.*published in fp32"):
        let_serve(tmp_path, manifest_of("my-run", "vlm"), "fp16")
    assert commands == []


def test_facts_tell_what_runs_and_what_is_published():
    facts = Facts.of(manifest_of("my-run", "vlm", variants=(EIGHT,)))
    assert (facts.precision, facts.precisions) == ("fp32", ("fp32", "int8"))
    assert Facts.of(manifest_of("my-run", "vlm", variants=(EIGHT,), serving=EIGHT.name)).precision == "int8"


def test_a_server_elsewhere_has_to_run_it_already():
    precision.check_served(Facts("my-run", "vlm", precision="int8", precisions=("fp32", "int8")), "int8")
    with pytest.raises(ViConfigurationError, match="runs 'my-run' in fp32.*published in fp32, int8"):
        precision.check_served(Facts("my-run", "vlm", precision="fp32", precisions=("fp32", "int8")), "int8")
