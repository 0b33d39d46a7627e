"""The table of ``make attacks`` hides no failure and no kind of which nothing could be tried."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import attack_table
import pytest

HELD = {"kind": "open doors", "where": "tritonserver", "outcome": "passed", "seconds": 0.1, "test": "t", "figure": ""}


@pytest.fixture
def pytester_run(tmp_path: Path):
    """``pytester_run(code)``: the rows that a run of pytest over a file with ``code`` wrote."""
    def run(code: str) -> list[dict]:
        (tmp_path / "test_some.py").write_text(code)
        support = str(Path(attack_table.__file__).parent)
        subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "attack_table", "-p", "no:cacheprovider", "--attacks-to",
             str(tmp_path / "rows.json"), str(tmp_path)],
            cwd=tmp_path, env=os.environ | {"PYTHONPATH": support}, capture_output=True, check=False,
        )  # fmt: skip
        return json.loads((tmp_path / "rows.json").read_text())

    return run


@pytest.mark.parametrize(
    ("rows", "status"),
    [
        ([HELD], 0),
        ([HELD, HELD | {"outcome": "skipped"}], 0),
        ([HELD, HELD | {"outcome": "failed"}], 1),
        ([HELD, HELD | {"kind": "another", "outcome": "skipped"}], 1),
        ([], 1),
    ],
)
def test_the_status_is_that_of_the_worst_try(tmp_path: Path, capsys, rows, status):
    (tmp_path / "some.json").write_text(json.dumps(rows))
    assert attack_table.main([str(tmp_path / "some.json")]) == status
    said = capsys.readouterr().out
    assert ("FAILED t" in said) is any(row["outcome"] == "failed" for row in rows)
    assert ("1 skipped" in said) is any(row["outcome"] == "skipped" for row in rows)


def test_a_marked_test_of_another_run_is_in_the_file(pytester_run):
    rows = pytester_run("""
import pytest


@pytest.mark.attack("a kind")
def test_held(record_property):
    record_property("figure", "7 tries")


@pytest.mark.attack("a kind")
def test_not_held():
    assert False


def test_of_nothing():
    pass
""")
    assert [(row["kind"], row["outcome"], row["figure"]) for row in rows] == [
        ("a kind", "passed", "7 tries"), ("a kind", "failed", ""),
    ]  # fmt: skip
