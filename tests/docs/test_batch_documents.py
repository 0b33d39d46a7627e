"""docs/batch.md, docs/scaling.md: options and columns that exist, right arithmetic, figures of RESULTS.md."""

import inspect
import re
import sys
from pathlib import Path

import pytest

from tritonvision.batch import parts, worker
from tritonvision.batch.job import JOB, PLAN, SUMMARY
from tritonvision.cli.batch import batch

TREE = Path(__file__).parents[2]
BATCH, SCALING = ((TREE / "docs" / name).read_text() for name in ("batch.md", "scaling.md"))
RESULTS = (TREE / "benchmarks" / "RESULTS.md").read_text()


def test_its_options_are_those_of_the_command():
    declared = {f"--{name.replace('_', '-')}" for name in inspect.signature(batch).parameters}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", BATCH)) - {"--repository"}
    assert len(named) > 6 and named <= declared


def test_its_columns_files_and_numbers_are_those_of_the_code():
    columns = re.findall(r"^\| (`.*`) \| ", BATCH.partition("| column |")[2].partition("\n\n")[0], flags=re.M)
    assert re.findall(r"`(\w+)`", " ".join(columns)) == [
        "picture", "status", "answer", "error", "model", "model_hash", "precision"
    ]  # fmt: skip
    assert {JOB, PLAN, SUMMARY, parts.name_of(0)} <= set(re.findall(r"[\w-]+\.(?:json|parquet)", BATCH))
    assert inspect.signature(batch).parameters["shard"].default == 512 and "(512)" in BATCH
    assert worker._MOST_IN_A_ROW == 20 and "twenty pictures after one" in BATCH


PROOFS = set(re.findall(r"`((?:tests|examples|benchmarks)/[\w/]+\.py)`", BATCH + SCALING))


@pytest.mark.parametrize("path", sorted(PROOFS))
def test_what_proves_a_claim_is_there(path):
    assert (TREE / path).is_file()


def table(heading: str) -> list[list[str]]:
    """The cells of the rows below the header that begins like this."""
    rows = SCALING.partition(f"| {heading}")[2].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_figures_that_it_calls_measured_stand_in_results():
    for model, rate, cost, beside in table("model, engine"):
        engine = "openvino-bf16" if "bf16" in model else "onnxruntime-fp32"
        section = RESULTS.partition(f"| {model.split(',')[0]} | a second | of the limit")[2].partition("\n\n")[0]
        assert f"| {engine}, concurrency 4 | {rate} |" in section
        if cost:
            name = "OpenVINO bf16" if "bf16" in model else "ONNX Runtime fp32"
            costs = RESULTS.partition("| yolov8n-640, 4 |")[2]
            row = next(line for line in ("|" + costs).splitlines() if f"| {name} |" in line)
            pre, network, post, server, facade, together = (
                float(cell.strip(" *")) for cell in row.rpartition(f"{name} |")[2].strip("|").split("|")
            )
            assert float(cost) == together and float(beside) == pytest.approx(together - network, abs=0.05)
    assert "| 1.56 | 369 |" in RESULTS and "369 MB" in SCALING and "1.6 s" in SCALING


def test_its_arithmetic_is_right():
    (code,) = re.findall(r"```python\n(.*?)```", SCALING, flags=re.DOTALL)
    columns = zip(*(row[1:] for row in table("at 10,000 a second")), strict=True)
    for rate, told in zip(("27.3", "17.2", "34.3"), columns, strict=True):
        found: dict[str, float] = {}
        exec(compile(code.replace("27.3", rate, 1), "scaling.md", "exec"), found)  # our own document
        names = ("replicas", "hours_a_million", "gigabits", "gigabits_base64")
        digits = (0, 1, 1, 1)
        assert [f"{float(cell):.{d}f}" for cell, d in zip(told, digits, strict=True)] == [
            f"{found[name] + (0.5 if name == 'replicas' else 0):.{d}f}" for name, d in zip(names, digits, strict=True)
        ]
    assert found["cost_a_million"] == 0


def test_the_simulated_day_is_what_the_benchmark_prints(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(TREE / "benchmarks"), *sys.path])
    import autoscaler

    scenario = autoscaler.scenarios(27.3, 10_000)[3]
    assert autoscaler.row(scenario.name, autoscaler.run(scenario, 10_000)) in SCALING
