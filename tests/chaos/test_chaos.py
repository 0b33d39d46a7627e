"""``make chaos`` and ``make soak`` in a short form: the promises of docs/reliability.md, each fault once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
# An end and a handover; killed processes are in tests/engine, too. The others are for ``make test-all``.
QUICK = ("kill-serve", "upgrade")
LONG = (
    "kill", "kill-server", "hang", "stall", "exit", "raise", "raise-in-execute", "memory", "memory-limit", "disk-full",
    "shm-full", "shm-full-kill", "clock", "read-only", "corrupt", "two-servers", "foreign", "hang-up", "terminate",
    "terminate-dead", "terminate-hung", "upgrade-in-vain", "vanished", "worn",
)  # fmt: skip


def run(script: str, repository: Path, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, str(HERE / script), "--repository", str(repository), *options],
        capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-6000:]
    return done.stdout


def once(repository: Path, name: str, times: int) -> None:
    """One row of the table; skips, with the reason, what this machine cannot bring about."""
    said = run("run.py", repository, "--times", str(times), "--only", name)
    if "not run: " in said:
        pytest.skip(said.rsplit("not run: ", 1)[1].split(" |")[0])
    assert "| kept |" in said and "none broken" in said


@pytest.mark.parametrize("name", QUICK)
def test_under_load_no_request_fails_no_answer_is_wrong_and_nothing_is_left(served_repository, name):
    once(served_repository, name, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG)
def test_the_same_is_true_of_every_other_fault(served_repository, name):
    once(served_repository, name, 2)


def test_every_fault_is_run_by_a_test_and_told_in_the_document(served_repository):
    names = run("run.py", served_repository, "--list").split()
    assert sorted(names) == sorted((*QUICK, *LONG))
    document = (HERE.parents[1] / "docs" / "reliability.md").read_text()
    assert [name for name in names if f"\n| `{name}`: " not in document] == []


def test_nothing_grows_in_a_minute_of_mixed_load_while_models_come_and_go_and_processes_are_killed(served_repository):
    said = run("soak.py", served_repository, "--minutes", "1", "--cycles", "20")
    assert "kept" in said and " 2 kills" in said
