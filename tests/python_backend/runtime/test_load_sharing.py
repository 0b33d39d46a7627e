"""Processes of one model see each other at work; alone is who sees nobody."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tritonvision import heartbeat
from tritonvision.python_backend.runtime.load_sharing import Siblings


@pytest.fixture
def watched(tmp_path: Path, monkeypatch) -> Path:
    """A supervisor's folder."""
    monkeypatch.setenv(heartbeat.FOLDER_VARIABLE, str(tmp_path))
    return tmp_path


@pytest.fixture
def pass_time(monkeypatch):
    """Lets a moment pass by the clock."""

    def step() -> None:
        later = time.monotonic() + 0.03
        monkeypatch.setattr(time, "monotonic", lambda: later)

    return step


def test_the_second_at_work_is_not_alone_until_the_first_is_done(watched, pass_time):
    first, second = Siblings("net", "net_0_0", 2), Siblings("net", "net_0_1", 2)
    with first as alone:
        assert alone
        with second as also:
            assert not also
    pass_time()
    with second as alone:
        assert alone


def test_who_worked_beside_another_and_works_on_at_once_is_not_alone_while_the_other_takes_its_next(watched):
    first, second = Siblings("net", "net_0_0", 2), Siblings("net", "net_0_1", 2)
    with second:
        with first:
            pass
    with first as alone:
        assert not alone
    with first as alone:  # ended the last alone
        assert alone


def test_who_worked_beside_another_is_alone_again_after_a_pause(watched, pass_time):
    first, second = Siblings("net", "net_0_0", 2), Siblings("net", "net_0_1", 2)
    with second:
        with first:
            pass
    pass_time()
    with first as alone:
        assert alone


def test_work_within_work_is_over_with_the_outer_one(watched, pass_time):
    first, second = Siblings("net", "net_0_0", 2), Siblings("net", "net_0_1", 2)
    with first:
        with first as alone:
            assert alone
        with second as also:
            assert not also
    pass_time()
    with second as alone:
        assert alone


def test_models_do_not_see_each_other(watched):
    with Siblings("a", "a_0_0", 2), Siblings("b", "b_0_1", 2) as alone:
        assert alone


def test_a_process_that_died_at_work_is_not_counted_once_it_is_replaced(watched):
    Siblings("net", "net_0_0", 2).__enter__()
    Siblings("net", "net_0_0", 2)
    with Siblings("net", "net_0_1", 2) as alone:
        assert alone


def test_where_nobody_watches_everybody_is_alone(monkeypatch):
    monkeypatch.delenv(heartbeat.FOLDER_VARIABLE, raising=False)
    with Siblings("net", "net_0_0", 2), Siblings("net", "net_0_1", 2) as alone:
        assert alone


def test_it_is_seen_from_another_process(watched):
    program = """
from tritonvision.python_backend.runtime.load_sharing import Siblings
with Siblings("net", "net_0_1", 2) as alone:
    print(alone)
"""
    with Siblings("net", "net_0_0", 2):
        assert subprocess.check_output([sys.executable, "-c", program], text=True) == "False\n"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "True\n"
