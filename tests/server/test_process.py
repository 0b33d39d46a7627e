"""A tritonserver that does not start is reported with the reason, and its log is never lost."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tritonvision.errors import SetupError
from tritonvision.server.locate import Installation
from tritonvision.server.process import TritonProcess, weighed


@pytest.fixture
def broken(tmp_path: Path) -> Installation:
    """A tritonserver that ends at once, as one with a missing library does."""
    (tmp_path / "backends" / "python").mkdir(parents=True)
    (tmp_path / "backends" / "onnxruntime").mkdir()
    executable = tmp_path / "tritonserver"
    executable.write_text(f"#!{sys.executable}\nraise SystemExit('libb64.so.0: cannot open shared object file')\n")
    executable.chmod(0o755)
    return Installation("path", executable, tmp_path / "backends")


def start(installation: Installation, log_file: Path, folder: Path) -> SetupError:
    process = TritonProcess(installation, folder, log_file, folder, 0)
    try:
        with pytest.raises(SetupError) as caught:
            process.wait_live()
    finally:
        process.stop(gently=False)
    return caught.value


def test_a_server_that_ends_while_starting_is_reported_with_its_last_error_and_log(broken, tmp_path):
    log_file = tmp_path / "log" / "tritonserver.log"
    error = start(broken, log_file, tmp_path)
    assert error.message == "tritonserver ended while starting. libb64.so.0: cannot open shared object file"
    assert error.hint == f"Its log tells why: {log_file}"
    assert "libb64" in log_file.read_text()
    assert not (tmp_path / "server").exists()


def test_without_a_writable_log_errors_go_to_standard_error_with_a_notice(broken, tmp_path, caplog, capfd):
    (tmp_path / "file").touch()
    error = start(broken, tmp_path / "file" / "tritonserver.log", tmp_path)
    assert error.hint == "Its log above tells why."
    assert "libb64" in capfd.readouterr().err
    assert "TRITONVISION_LOG_DIR names another folder" in caplog.text


def test_a_folder_that_cannot_be_filled_is_one_sentence(broken, tmp_path):
    with pytest.raises(SetupError, match="The files of the running server cannot be written to .*: Not a directory"):
        TritonProcess(broken, tmp_path, tmp_path / "log", broken.executable, 0)


def test_a_process_that_cannot_be_started_is_one_sentence_and_leaves_nothing_behind(broken, tmp_path, monkeypatch):
    def no_memory(*_, **__):
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    before = set(os.listdir("/proc/self/fd"))  # what other tests left may close meanwhile
    monkeypatch.setattr(subprocess, "Popen", no_memory)
    with pytest.raises(SetupError, match="tritonserver cannot be started: Cannot allocate memory"):
        TritonProcess(broken, tmp_path, tmp_path / "log", tmp_path, 0)
    assert not (tmp_path / "server").exists() and not set(os.listdir("/proc/self/fd")) - before


def test_errors_in_the_log_are_recognised_with_their_following_lines():
    lines = [
        "error while loading shared libraries", "I1129 20:41:32.521465 10767 server.cc:604]", "+--+", "| a table |",
        'E1129 20:41:33.086545 10767 model.cc:3] "failed:', "Traceback", 'W1129 20:41:33.086545 10767 m.cc:1] "x"', "y",
    ]  # fmt: skip
    assert [serious for _, serious in weighed(lines)] == [True, False, False, False, True, True, False, False]
