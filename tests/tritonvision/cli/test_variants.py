"""``tritonvision variants`` and ``export --engine`` as a person meets them: words, tables and exit codes."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tritonvision import machine
from tritonvision.cli import checks
from tritonvision.cli.variants import rows
from tritonvision.publication import Repository
from tritonvision.server.process import free_port
from tritonvision.settings import Settings
from tritonvision.variants import Variant

pytest.importorskip("openvino")
FACE, BASE, VARIANT = "mediapipe-face-detection", "onnxruntime-fp32", "openvino-fp32"


@pytest.fixture
def run(with_variant, tmp_path):
    """Runs ``tritonvision`` over a copy of that repository and returns the finished process."""
    shutil.copytree(with_variant, tmp_path / "models")
    (tmp_path / "empty").mkdir()

    def run(*arguments):
        settings = {"TRITONVISION_REPOSITORY": str(tmp_path / "models"), "TRITONVISION_PORT": str(free_port())}
        return subprocess.run(
            [sys.executable, "-m", "tritonvision", *arguments], capture_output=True, text=True, cwd=tmp_path,
            env=os.environ | settings | {"COLUMNS": "120"}, timeout=120, check=False,
        )  # fmt: skip

    return run


def test_the_table_tells_what_there_is_how_it_was_proven_and_which_serves(run):
    told = run("variants", FACE)
    assert told.returncode == 0, told.stderr
    lines = {line.split()[0]: line for line in told.stdout.splitlines() if line.strip()}
    assert "the reference" in lines[BASE] and lines[BASE].rstrip().endswith("serves")
    assert "matched" in lines[VARIANT] and "(agreement)" in lines[VARIANT] and "serves" not in lines[VARIANT]
    assert "x)" in lines[VARIANT], "how much faster it is"


def test_one_is_chosen_and_the_lists_and_the_facts_of_the_model_say_so(run):
    assert run("variants", "use", FACE, VARIANT).stdout == f"{FACE} is served by {VARIANT}.\n"
    listed = json.loads(run("variants", FACE, "--json").stdout)
    assert [(row["name"], row["serves"]) for row in listed] == [(BASE, False), (VARIANT, True)]
    assert f"runs as     {VARIANT}; also there: {BASE}" in run("info", FACE).stdout


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("variants", "nobody"), 2, "No model is called 'nobody'."),
        (("variants", "use", FACE, "openvino-fp23"), 2, "Did you mean 'openvino-fp32'?"),
        (("variants", "remove", FACE, BASE), 2, "so it stays"),
        (("variants", "add", FACE, "--engine", "tensorrt", "--precision", "fp16"), 3, "'tensorrt' is not installed"),
        (("variants", "add", FACE, "--engine", "openvino", "--precision", "fp32", "--force", "--gate-data", "empty"),
         1, "holds"),
        (("export", FACE, "--engine", "openvyno"), 2, "Did you mean 'openvino'?"),
        (("export", FACE, "--precision", "bf16"), 2, "--engine openvino"),
        (("export", "yolov8n-640", "--engine", "tensorrt"), 3, "'tensorrt' is not installed"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line_and_a_hint(run, with_variant, tmp_path, arguments, status, words):
    done = run(*arguments)
    assert done.returncode == status, done.stderr
    first, second = done.stderr.splitlines()
    assert first.startswith("Error: ") and second.startswith("Hint: ") and words in done.stderr
    assert Repository(tmp_path / "models").get(FACE) == Repository(with_variant).get(FACE)


def test_an_export_that_names_an_engine_publishes_adds_and_lets_it_serve(run, tmp_path):
    done = run("export", FACE, "--force", "--engine", "openvino", "--precision", "fp32")
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith(f"{FACE} is published") and second.startswith(f"{VARIANT} of {FACE} passed the gate")
    assert Repository(tmp_path / "models").get(FACE).serving == VARIANT


def test_where_the_one_that_shall_serve_cannot_the_table_and_doctor_say_why(with_variant, tmp_path, monkeypatch):
    root = Path(shutil.copytree(with_variant, tmp_path / "models"))
    manifest = Repository(root).get(FACE)
    bf16 = Variant("openvino", "bf16", ("",), machine="another", milliseconds=1.0, base_milliseconds=2.0)
    changed = replace(manifest, variants=(*manifest.variants, bf16), serving=bf16.name)
    (root / FACE / "manifest.json").write_text(changed.to_json())
    monkeypatch.setattr(machine, "cpu_flags", lambda: frozenset({"avx2"}))
    base, _, other = rows(changed, free_port())
    assert base.serves and "does not compute in bf16" in base.why
    assert (other.serves, other.milliseconds, other.speed) == (False, None, None), "it was measured elsewhere"
    told = [finding for finding in checks._repository(Settings(repository=root)) if finding.status == "warn"]
    assert len(told) == 1 and "openvino-bf16" in told[0].found and f"tritonvision variants {FACE}" in told[0].advice
    (finding,) = [checks._variants()]
    assert "openvino-int8" in finding.found and "bf16," not in finding.found and "no bf16" in finding.found
