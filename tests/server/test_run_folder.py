"""The folder of a running server: private to its user, in a usable location, removed when its process has ended."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from tritonvision.errors import SetupError
from tritonvision.server import run_folder
from tritonvision.server.run_folder import RunFolder


@pytest.fixture
def places(tmp_path, monkeypatch) -> Path:
    """The only place for run folders."""
    monkeypatch.setattr(run_folder, "_places", lambda: [tmp_path])
    return tmp_path


def test_only_its_user_can_enter_it_and_its_name_is_random(places):
    first, second = RunFolder(), RunFolder()
    assert first.path.stat().st_mode & 0o777 == 0o700
    assert first.path != second.path and str(os.getpid()) not in first.path.name
    first.remove()
    second.remove()
    assert list(places.iterdir()) == []


def test_a_folder_is_abandoned_when_its_process_was_killed_and_not_before(places):
    program = f"""
import os
from pathlib import Path
from tritonvision.server import run_folder
run_folder._places = lambda: [Path({str(places)!r})]
print(run_folder.RunFolder().path, flush=True)
os.kill(os.getpid(), 9)
"""
    living = RunFolder()
    killed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False).stdout.strip()
    assert [str(path) for path in run_folder.abandoned()] == [killed]
    assert Path(killed).parent == living.path.parent
    living.remove()


@pytest.mark.attack("files that strangers leave")
def test_folders_that_others_own_or_can_write_are_not_removed(places):
    link, shared = places / "tritonvision-server-link", places / "tritonvision-server-shared"
    link.symlink_to(places)
    shared.mkdir()
    shared.chmod(0o777)
    (places / "tritonvision-server-file").touch()
    assert list(run_folder.abandoned()) == []


def test_a_folder_that_another_start_removed_is_created_again(places, monkeypatch):
    make, names = run_folder.tempfile.mkdtemp, []

    def stolen_at_first(**options):
        names.append(make(**options))
        if len(names) == 1:
            os.rmdir(names[0])
        return names[-1]

    monkeypatch.setattr(run_folder.tempfile, "mkdtemp", stolen_at_first)
    assert [str(RunFolder().path)] == names[1:]


def mounted(monkeypatch, flags: int = 0, free: int = 2**30) -> None:
    space = types.SimpleNamespace(f_flag=flags, f_bavail=free, f_frsize=1)
    monkeypatch.setattr(run_folder.os, "statvfs", lambda path: space)


@pytest.mark.parametrize("name", ["my models", "a&b", "it's", "modèles", "a" * 70])
def test_a_folder_whose_name_triton_cannot_handle_is_skipped(tmp_path, monkeypatch, name):
    bad = tmp_path / name
    bad.mkdir()
    monkeypatch.setattr(run_folder, "_places", lambda: [bad, Path("/tmp")])
    assert run_folder.place() == Path("/tmp")


@pytest.mark.parametrize("mount, why", [({"flags": os.ST_NOEXEC}, "is mounted noexec"), ({"free": 1000}, "is full")])
def test_without_a_usable_folder_the_error_says_why(places, monkeypatch, mount, why):
    mounted(monkeypatch, **mount)
    with pytest.raises(SetupError, match=f"{places} {why}"):
        RunFolder()


def test_a_user_without_a_home_gets_a_folder(monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert run_folder.place().is_dir()
