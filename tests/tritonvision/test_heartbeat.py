"""A process that is well beats; one that hangs, or is stuck in one piece of work, does not."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from tritonvision import heartbeat
from tritonvision.heartbeat import Heart


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """The folder of this process's parent, as a supervisor would make it."""
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.02)
    path = heartbeat.folder(os.getppid())
    path.mkdir()
    return path


def age_grows(file: Path) -> bool:
    before = file.stat().st_mtime_ns
    time.sleep(0.2)
    return file.stat().st_mtime_ns == before


def test_nobody_beats_where_nobody_watches(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    Heart()
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_is_well_beats_on(folder):
    Heart()
    assert not age_grows(folder / str(os.getpid()))
    assert heartbeat.stale(os.getppid()) == []


def test_work_that_takes_too_long_stops_the_beat_until_it_ends(folder, monkeypatch):
    monkeypatch.setattr(heartbeat, "LONGEST_EXECUTE_SECONDS", 0.1)
    heart = Heart()
    file = folder / str(os.getpid())
    with heart:
        assert not age_grows(file)
        assert age_grows(file)
    assert not age_grows(file)


def test_one_thread_that_is_stuck_stops_the_beat_though_others_work_on(folder, monkeypatch):
    monkeypatch.setattr(heartbeat, "LONGEST_EXECUTE_SECONDS", 0.1)
    heart, file = Heart(), folder / str(os.getpid())
    entered, go_on = threading.Event(), threading.Event()

    def stick():
        with heart:
            entered.set()
            go_on.wait(20)

    stuck = threading.Thread(target=stick)
    stuck.start()
    assert entered.wait(20)
    for _ in range(8):
        with heart:
            time.sleep(0.03)
    assert age_grows(file)
    go_on.set()
    stuck.join()
    assert not age_grows(file)


def test_waiting_for_another_process_is_no_work_of_its_own(folder, monkeypatch):
    monkeypatch.setattr(heartbeat, "LONGEST_EXECUTE_SECONDS", 0.1)
    heart = Heart()
    file = folder / str(os.getpid())
    with heart:
        with heart.waiting():
            time.sleep(0.2)
            assert not age_grows(file)
        assert not age_grows(file)  # what was waited for does not count afterwards
        assert age_grows(file)


def test_long_work_of_many_steps_has_the_time_for_each_of_them(folder, monkeypatch):
    monkeypatch.setattr(heartbeat, "LONGEST_EXECUTE_SECONDS", 0.1)
    heart = Heart()
    file = folder / str(os.getpid())
    with heart:
        for _ in range(10):
            heart.step()
            time.sleep(0.03)
        assert not age_grows(file)
        assert age_grows(file)


def test_a_file_that_was_not_touched_for_long_is_stale(folder):
    file = folder / "12345"
    file.touch()
    assert heartbeat.stale(os.getppid()) == []
    long_ago = time.time() - heartbeat.STALE_SECONDS - 1
    os.utime(file, (long_ago, long_ago))
    assert heartbeat.stale(os.getppid()) == [12345]


def test_folders_of_servers_that_are_gone_are_found(folder, tmp_path):
    gone = tmp_path / "tritonvision-4194305"  # over the kernel's largest process id
    gone.mkdir()
    (tmp_path / "tritonvision-run-x").mkdir()
    assert heartbeat.abandoned() == [gone]
