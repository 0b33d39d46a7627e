"""The run behind PARITY.md: who is chosen, which seed counts, what a failure leaves; exports are replaced."""

import importlib
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tritonvision import catalog
from tritonvision.exporters import registry
from tritonvision.exporters.contract import kind
from tritonvision.variants import Variant


@pytest.fixture(scope="module")
def runner():
    folder = str(Path(__file__).parents[2] / "benchmarks")
    sys.path.insert(0, folder)
    yield importlib.import_module("parity_all")
    sys.path.remove(folder)


@pytest.fixture
def exports(runner, monkeypatch):
    """Calls of ``export``, answered out of a list of answers."""
    calls, answers = [], []

    def export(model_id, weights, seed, repository, timeout):
        assert Path(repository).is_dir()
        calls.append((model_id, weights, seed))
        return answers.pop(0)

    monkeypatch.setattr(runner, "export", export)
    return calls, answers


def test_ids_aliases_and_families_are_chosen_in_catalogue_order(runner):
    chosen = [entry.id for entry in runner.select(["vit", "coco/3"])]
    assert chosen[0] == "yolov8n-640" and len(chosen) == 9
    assert {entry.family for entry in runner.select([])} == set(registry.exportable())


def test_large_ones_can_be_skipped_by_their_megabytes(runner):
    assert [entry.id for entry in runner.select(["ResNet"], megabytes=100)] == ["resnet18", "resnet34"]


def test_a_name_that_is_none_ends_the_run(runner):
    with pytest.raises(SystemExit, match="neither an id nor a family"):
        runner.select(["nobody"])


@pytest.mark.parametrize("name", sorted(registry.exportable()))
def test_every_figure_of_a_family_has_a_limit(runner, name):
    family = registry.find(name)
    entry = next(entry for entry in catalog.entries().values() if entry.family == name)
    points = family.entry_points(entry)
    limits, relative = runner.limits_of(points, family.tolerance)
    prefixes = [f"{point.role}_" if point.role else "" for point in points]
    assert {f"{prefix}pipeline_pixels" for prefix in prefixes} <= set(limits)
    emitted = set(map(kind, family.tolerance.tensors))
    if not family.refusals.head:  # classes come with a head of the user's, which a run of every id has not
        emitted -= {"logits", "scores"}
    assert len([limit for limit in limits if "tensor_" in limit]) >= len(emitted)
    assert relative <= set(limits)


def test_the_seed_that_the_export_took_is_recorded(runner, exports):
    calls, answers = exports
    parity = {"tensor_logits": 1e-6, "pipeline_answers": 4.0}
    answers.append(({"source": "resnet18, seed 8", "parity": parity}, ""))
    record = runner.run(catalog.find("resnet18"), 7, 60)
    assert calls == [("resnet18", "random", 7)]
    assert record["seed"] == 8 and not record["failure"] and record["answers"] == {"": 4}
    assert record["figures"] == {"tensor_logits": [1e-6, 1e-4]}


def test_a_difference_is_a_failure_with_any_seed_and_keeps_its_sentence(runner, exports):
    calls, answers = exports
    answers.append(({}, "The pipeline differs.\nHint: none."))
    record = runner.run(catalog.find("resnet18"), 0, 60)
    assert len(calls) == 1 and record["failure"] == "The pipeline differs." and record["figures"] == {}


def test_a_reduced_network_is_exported_as_a_users_folder_and_recorded_as_reduced(runner, exports, monkeypatch):
    calls, answers = exports
    answers.append(({"parity": {"pipeline_answers": 96.0}}, ""))
    from tritonvision.exporters.families import smolvlm

    monkeypatch.setattr(smolvlm, "save_reduced", lambda folder, seed: folder.mkdir())
    record = runner.run(catalog.find("smolvlm-2.2b"), 3, 60, reduced=True)
    ((model_id, weights, seed),) = calls
    assert (model_id, Path(weights).name, seed) == ("smolvlm-2.2b", "weights", 3)
    assert record["reduced"] is True and record["weights"] == "random" and record["input"] is None
    assert runner.public_id(model_id, weights) == "parity/reduced" and runner.public_id("a", "random") == "a"


def test_a_model_that_asks_another_finds_it_published(runner, exports):
    calls, answers = exports
    answers += [({}, ""), ({"parity": {"pipeline_answers": 5.0}}, "")]
    runner.run(catalog.find("l2cs-gaze"), 0, 60)
    assert calls == [("mediapipe-face-detection", "official", 0), ("l2cs-gaze", "random", 0)]


def test_an_export_that_fails_says_why(runner, tmp_path):
    figures, failure = runner.export("nobody", "random", 0, str(tmp_path), 60)
    assert figures == {} and failure.startswith("No model is called 'nobody'.")


def test_the_most_memory_of_a_process_is_measured(runner):
    held = "held = b'x' * 200_000_000; sum(range(10**7)); del held"
    program = f"import sys; {held}; print('said'); print('wrong', file=sys.stderr); sys.exit(3)"
    code, said, errors, peak = runner.measured([sys.executable, "-c", program], 60)
    assert (code, said, errors) == (3, "said\n", "wrong\n") and 200e6 < peak < 400e6


def test_a_process_that_takes_too_long_is_ended(runner):
    with pytest.raises(subprocess.TimeoutExpired):
        runner.measured([sys.executable, "-c", "import time; time.sleep(60)"], 0.1)


def test_variants_are_tried_on_an_exported_model_and_the_sentence_of_a_refusal_is_kept(runner, exports, monkeypatch):
    calls, answers = exports
    answers.append(({}, ""))
    passed = Variant("openvino", "bf16", ("",), figures={"agreement": 0.99}, shown="agreement", kept_fp32=("/conv",))
    monkeypatch.setattr(runner.Repository, "resolve", lambda *_: SimpleNamespace(variants=(passed,)))
    said = {"bf16": (0, "", "", 0), "int8": (1, "", "Note: slow.\nError: int8 misses a bar: 0.9.\nHint: none.\n", 0)}
    monkeypatch.setattr(runner, "measured", lambda command, _: said[command[command.index("--precision") + 1]])
    found, failure = runner.tried(catalog.find("resnet18"), 0, 60)
    assert calls == [("resnet18", "random", 0)] and not failure
    assert found == {
        "openvino-bf16": {"figures": {"agreement": 0.99}, "shown": "agreement", "kept_fp32": 1},
        "openvino-int8": {"refused": "int8 misses a bar: 0.9."},
    }


def test_a_model_that_cannot_be_exported_has_no_variants(runner, exports):
    exports[1].append(({}, "It differs.\nHint: none."))
    assert runner.tried(catalog.find("resnet18"), 0, 60) == ({}, "It differs.\nHint: none.")


def test_a_variant_that_takes_too_long_is_not_said_to_be_refused(runner, exports, monkeypatch):
    def too_long(command, timeout):
        raise subprocess.TimeoutExpired(command, timeout)

    exports[1].append(({}, ""))
    monkeypatch.setattr(runner, "measured", too_long)
    assert runner.tried(catalog.find("resnet18"), 0, 60) == ({}, "")
