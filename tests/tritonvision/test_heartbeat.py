"""A process that is well beats; one that hangs, or is stuck in one piece of work, does not."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tritonvision import heartbeat
from tritonvision.heartbeat import Heart, Watch


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """The folder that a supervisor made for this process."""
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.02)
    path = tmp_path / "server"
    path.mkdir(mode=0o700)
    monkeypatch.setenv(heartbeat.FOLDER_VARIABLE, str(path))
    return path


class Clock:
    """Time that passes when it is told to."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(heartbeat.time, "monotonic", lambda: self.now)

    def pass_by(self, watch: Watch, seconds: int) -> list[int]:
        """What a watch finds that looks once a second, the last time."""
        for _ in range(seconds):
            self.now += 1
            late = watch.stale()
        return late


def changes(file: Path, seconds: float) -> bool:
    """Whether the file is touched within so many real seconds."""
    before, end = file.stat().st_mtime_ns, time.perf_counter() + seconds
    while file.stat().st_mtime_ns == before and time.perf_counter() < end:
        time.sleep(0.005)
    return file.stat().st_mtime_ns != before


def beats(file: Path) -> bool:
    """Whether the heartbeat goes on, however busy the machine is."""
    return changes(file, seconds=20)


def rests(file: Path) -> bool:
    """Whether the heartbeat has stopped; a beat that was under way when it should stop may still come."""
    return any(not changes(file, seconds=0.2) for _ in range(20))


def test_without_a_supervisor_there_is_no_heartbeat(tmp_path, monkeypatch):
    monkeypatch.delenv(heartbeat.FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr(heartbeat.threading, "Thread", None)
    Heart()


@pytest.mark.parametrize("planted", ["link", "open to others", "not there"])
def test_a_folder_that_others_could_have_planted_is_none(folder, tmp_path, monkeypatch, planted):
    assert heartbeat.folder() == folder
    if planted == "link":
        (tmp_path / "link").symlink_to(folder)
        monkeypatch.setenv(heartbeat.FOLDER_VARIABLE, str(tmp_path / "link"))
    elif planted == "open to others":
        folder.chmod(0o777)
    else:
        folder.rmdir()
    assert heartbeat.folder() is None


def test_a_process_that_is_well_beats_on(folder):
    Heart()
    assert beats(folder / str(os.getpid()))


def test_work_that_takes_too_long_stops_the_beat_until_it_ends(folder, monkeypatch):
    clock, heart, file = Clock(monkeypatch), Heart(longest=10), folder / str(os.getpid())
    with heart:
        clock.now += 9
        assert beats(file)
        clock.now += 2
        assert rests(file)
    assert beats(file)


def test_one_thread_that_is_stuck_stops_the_beat_though_others_work_on(folder, monkeypatch):
    clock, heart, file = Clock(monkeypatch), Heart(longest=10), folder / str(os.getpid())
    entered, go_on = threading.Event(), threading.Event()

    def stick():
        with heart:
            entered.set()
            go_on.wait(60)

    stuck = threading.Thread(target=stick)
    stuck.start()
    assert entered.wait(20)
    clock.now += 11
    with heart:
        assert rests(file)
    assert rests(file)
    go_on.set()
    stuck.join()
    assert beats(file)


def test_waiting_for_another_process_is_no_work_of_its_own(folder, monkeypatch):
    clock, heart, file = Clock(monkeypatch), Heart(longest=10), folder / str(os.getpid())
    with heart:
        with heart.waiting():
            clock.now += 60
            assert beats(file)
        assert beats(file)  # what was waited for does not count afterwards
        clock.now += 11
        assert rests(file)


def test_long_work_of_many_steps_has_the_time_for_each_of_them(folder, monkeypatch):
    clock, heart, file = Clock(monkeypatch), Heart(longest=10), folder / str(os.getpid())
    with heart:
        for _ in range(10):
            heart.step()
            clock.now += 9
        assert beats(file)
        clock.now += 2
        assert rests(file)


def test_a_process_that_does_not_beat_for_long_is_stale_and_one_that_does_is_not(folder, monkeypatch):
    clock, watch = Clock(monkeypatch), Watch(folder)
    (folder / "111").touch()
    (folder / "222").touch()
    assert clock.pass_by(watch, 6) == []
    os.utime(folder / "222")
    assert clock.pass_by(watch, 2) == [111]


def test_a_pause_of_the_watcher_makes_no_process_stale(folder, monkeypatch):
    """A paused container, a suspended machine: the processes were paused, too, and may beat after the watcher wakes."""
    clock, watch = Clock(monkeypatch), Watch(folder)
    (folder / "111").touch()
    clock.pass_by(watch, 3)
    clock.now += 3600
    assert clock.pass_by(watch, 1) == []
    assert clock.pass_by(watch, 4) == [111]


@pytest.mark.parametrize("shift", [-3600, 3600])
def test_setting_the_clock_makes_no_process_stale_and_hides_none(folder, monkeypatch, shift):
    clock, watch = Clock(monkeypatch), Watch(folder)
    for name in ("111", "222"):
        (folder / name).touch()
        os.utime(folder / name, (time.time() + shift,) * 2)
    assert clock.pass_by(watch, 4) == []
    os.utime(folder / "222")
    assert clock.pass_by(watch, 4) == [111]


def test_a_network_may_take_the_longer_the_larger_it_is(tmp_path):
    assert heartbeat.longest_work(tmp_path) == heartbeat.LONGEST_EXECUTE_SECONDS
    with (tmp_path / "model.onnx").open("wb") as file:
        file.truncate(2**30)  # takes no room on the disk
    assert heartbeat.longest_work(tmp_path) == 17 * heartbeat.LONGEST_EXECUTE_SECONDS
    with (tmp_path / "model.onnx.data").open("wb") as file:
        file.truncate(2**40)
    assert heartbeat.longest_work(tmp_path) == 1800


def test_a_process_serves_without_a_heartbeat_where_the_disk_is_full(folder, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "touch", full)
    with Heart():
        pass
    assert not list(folder.iterdir())


def test_a_process_that_holds_pythons_lock_ends_with_its_supervisor(folder):
    """As one does that waits inside Triton: no thread of Python's would run."""
    owner = heartbeat.make_owner(folder)
    program = (
        "import ctypes; from pathlib import Path; from tritonvision.heartbeat import end_with_owner\n"
        f"end_with_owner(Path({str(folder)!r})); print('listens', flush=True); ctypes.PyDLL(None).sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as step:
        assert step.stdout.readline() == "listens\n" and step.poll() is None
        os.close(owner)
        assert step.wait(10) == -signal.SIGKILL


def test_without_a_supervisor_that_listens_nothing_happens(folder):
    heartbeat.end_with_owner(folder)
