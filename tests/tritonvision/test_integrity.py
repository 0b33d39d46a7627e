"""Files of a published model that changed since are found before they are loaded, and each is read once."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from tritonvision import integrity
from tritonvision.errors import BrokenModel, ModelLoading, ServerUnavailable
from tritonvision.integrity import check_files
from tritonvision.moves import STAGING
from tritonvision.publication import MANIFEST, Manifest, Repository
from tritonvision.variants import Variant

GRAPH = "net--yolov8n-640/1/model.onnx"


def publish(root: Path, data: bytes, **more: str) -> Manifest:
    (root / GRAPH).parent.mkdir(parents=True, exist_ok=True)
    (root / "yolov8n-640").mkdir(exist_ok=True)
    (root / GRAPH).write_bytes(data)
    manifest = Manifest(
        id="yolov8n-640", family="YOLOv8", task="object-detection", head="dense-boxes", weights="user", source="x",
        sha256="0", license="x", precision="fp32", labels=(), input_size=(640, 640), steps=(),
        files={GRAPH: hashlib.sha256(data).hexdigest(), **more},
    )  # fmt: skip
    (root / "yolov8n-640" / "fresh").write_text(manifest.to_json())
    (root / "yolov8n-640" / "fresh").rename(root / "yolov8n-640" / MANIFEST)
    return Repository(root).get("yolov8n-640")


def test_what_was_published_passes(tmp_path):
    check_files(Repository(tmp_path), publish(tmp_path, b"graph"))


def test_flipped_bytes_are_one_sentence_that_names_the_model_and_the_file(tmp_path):
    manifest = publish(tmp_path, b"graph" * 1000)
    check_files(Repository(tmp_path), manifest)
    with (tmp_path / GRAPH).open("r+b") as file:
        file.seek(2000)
        file.write(b"\0\0\0\0")
    with pytest.raises(BrokenModel, match="The files of 'yolov8n-640' are not those that were published.") as caught:
        check_files(Repository(tmp_path), manifest)
    assert caught.value.code == "broken_model" and "--force" in caught.value.hint
    assert caught.value.message.endswith(f": {GRAPH} has changed."), "the file is named, below the repository"


def test_a_missing_file_is_one_sentence_too(tmp_path, caplog):
    manifest = publish(tmp_path, b"graph", **{"yolov8n-640/1/vocabulary.json": "00"})
    with pytest.raises(BrokenModel):
        check_files(Repository(tmp_path), manifest)
    assert "yolov8n-640/1/vocabulary.json cannot be read" in caplog.text


def test_a_repository_that_is_gone_is_no_damage_and_may_be_back(tmp_path):
    manifest = publish(tmp_path / "models", b"graph")
    (tmp_path / "models").rename(tmp_path / "elsewhere")
    with pytest.raises(ServerUnavailable, match="The model repository cannot be read now."):
        check_files(Repository(tmp_path / "models"), manifest)


def test_what_was_published_again_meanwhile_is_no_damage(tmp_path):
    old = publish(tmp_path, b"old")
    publish(tmp_path, b"new graph")
    with pytest.raises(ModelLoading):
        check_files(Repository(tmp_path), old)
    check_files(Repository(tmp_path), Repository(tmp_path).get("yolov8n-640"))


def test_a_file_is_read_once_while_it_stays(tmp_path, monkeypatch):
    manifest = publish(tmp_path, os.urandom(100))
    check_files(Repository(tmp_path), manifest)
    monkeypatch.setattr(integrity.hashlib, "file_digest", None)
    check_files(Repository(tmp_path), manifest)


def test_the_files_of_a_variant_are_compared_where_it_shall_run_and_only_there(tmp_path):
    manifest = publish(tmp_path, b"graph")
    variant = Variant("openvino", "int8", ("",), files={"net--yolov8n-640/1/openvino-int8.xml": "00"})
    check_files(Repository(tmp_path), manifest)
    with pytest.raises(BrokenModel):
        check_files(Repository(tmp_path), manifest, variant)


def test_what_a_killed_process_left_half_changed_is_taken_back_before_it_is_compared(tmp_path):
    """Also where the files fit by themselves: a step that has no hash may be another version's."""
    from tritonvision.moves import _Move, _write

    manifest = publish(tmp_path, b"graph")
    step, aside = tmp_path / "pre--letterbox-640", tmp_path / STAGING / "victim"
    (aside / "models").mkdir(parents=True)
    for folder, text in ((step, "new"), (aside / "models" / step.name, "old")):  # exchanged, and then it died
        folder.mkdir()
        (folder / "config.pbtxt").write_text(text)
    _write(aside, [
        _Move(aside / "models" / step.name, step, True, step.stat().st_ino),
        _Move(aside / "models" / "yolov8n-640", tmp_path / "yolov8n-640", True, 1),
    ])  # fmt: skip
    check_files(Repository(tmp_path), manifest)
    assert (step / "config.pbtxt").read_text() == "old"


def test_what_another_user_left_there_hinders_nobody(tmp_path, monkeypatch, caplog):
    """A server in a container reads a repository in which a killed export of another user left its private folder."""
    manifest = publish(tmp_path, b"graph")
    journal = tmp_path / STAGING / "theirs" / "journal.json"
    journal.parent.mkdir(parents=True)
    stat = os.stat

    def refusing(path, *rest, **more):
        if os.fspath(path) == str(journal):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return stat(path, *rest, **more)

    def not_read(path, *_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr("tritonvision.moves.os.stat", refusing)
    monkeypatch.setattr(Path, "read_text", not_read)
    check_files(Repository(tmp_path), manifest)
    assert "cannot be taken back" in caplog.text
