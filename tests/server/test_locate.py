"""Which tritonserver is used: the given one, the one on PATH, the one in the wheel, in this order."""

from __future__ import annotations

from pathlib import Path

import pytest

from tritonvision.errors import SetupError
from tritonvision.server.locate import locate
from tritonvision.settings import Settings


def make_server(folder: Path) -> Path:
    binary = folder / "bin" / "tritonserver"
    binary.parent.mkdir(parents=True)
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o755)
    (folder / "backends" / "python").mkdir(parents=True)
    return binary


def test_the_wheels_server_has_a_stub_for_this_python(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    found = locate(Settings())
    assert found.kind == "wheel" and found.version == "2.51.0"
    assert found.executable.is_file() and found.stub.is_file() and (found.backends / "python").is_dir()


def test_path_comes_before_the_wheel_and_a_given_binary_before_both(monkeypatch, tmp_path):
    on_path, given = make_server(tmp_path / "a"), make_server(tmp_path / "b")
    monkeypatch.setenv("PATH", str(on_path.parent))
    assert locate(Settings()).executable == on_path
    found = locate(Settings(tritonserver=given))
    assert (found.kind, found.executable) == ("path", given)


def test_a_missing_binary_is_an_error(tmp_path):
    with pytest.raises(SetupError, match="no tritonserver at"):
        locate(Settings(tritonserver=tmp_path / "nothing"))
