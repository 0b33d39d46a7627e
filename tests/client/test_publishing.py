"""What is missing is published by the real commands, and what they say when they fail is what the caller gets."""

from __future__ import annotations

import json
import os
import pty
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonvision import catalog
from tritonvision.client import publishing
from tritonvision.errors import ExportFailed, InvalidParameter, SetupError, TritonVisionError, UnknownModel

FACE = "mediapipe-face-detection"


def test_what_is_missing_is_exported_once_however_many_ask(tmp_path, caplog):
    said: list[str] = []
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: publishing.ensure_published(tmp_path, FACE, said.append), range(4)))
    assert {manifest.id for manifest in found} == {FACE} and found[0].weights == "official"
    assert said == [f"'{FACE}' is not published here: it is exported now, which takes a while."]
    assert publishing.ensure_published(tmp_path, FACE, said.append) == found[0] and len(said) == 1


def test_a_name_that_nobody_has_starts_nothing(tmp_path):
    with pytest.raises(UnknownModel):
        publishing.ensure_published(tmp_path, "nobody/1", lambda _: pytest.fail("nothing begins"))


def test_a_family_that_cannot_be_exported_yet_says_so_in_the_words_of_the_export(tmp_path):
    with pytest.raises(TritonVisionError) as caught:
        publishing.ensure_published(tmp_path, "yolonass-640", lambda _: None)
    assert "YOLO-NAS" in caught.value.message and "Error:" not in caught.value.message
    assert not list(tmp_path.glob("yolo*"))


@pytest.mark.parametrize(
    ("arguments", "kind", "told"),
    [
        (("export", "nobody/1"), InvalidParameter, "nobody/1"),
        (("export", FACE, "--weights", "/nowhere.tflite", "--as", "nobody/1"), TritonVisionError, ""),
        (("export", FACE, "--repository", "/proc/nowhere"), SetupError, "repository"),
    ],
)  # fmt: skip
def test_the_sentence_of_a_command_that_fails_is_the_callers(arguments, kind, told):
    with pytest.raises(kind) as caught:
        publishing.run_command(*arguments)
    assert told in caught.value.message and "\n" not in caught.value.message
    assert "\x1b" not in caught.value.message + caught.value.hint


def test_a_person_at_a_terminal_sees_the_progress_and_the_caller_the_sentence(monkeypatch, tmp_path):
    ours, theirs = pty.openpty()
    seen = bytearray()

    def watch() -> None:
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:
                return
            seen.extend(part)

    watcher = threading.Thread(target=watch)
    watcher.start()
    with open(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        publishing.run_command("export", FACE, "--repository", str(tmp_path))
        with pytest.raises(InvalidParameter) as caught:
            publishing.run_command("export", "nobody/1")
        monkeypatch.undo()
    watcher.join()
    os.close(ours)
    assert FACE.encode() in seen and b"nobody/1" in seen
    assert "nobody/1" in caught.value.message and "\x1b" not in caught.value.message


# ---- packages --------------------------------------------------------------------------------------------------------


@given(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=80))
def test_every_folder_has_an_id_that_can_be_published(name):
    model_id = publishing.local_id(Path("/packages") / name)
    assert catalog.from_triton_name(catalog.triton_name(catalog.check_id(model_id))) == model_id
    assert model_id == publishing.local_id(Path("/packages") / name) != publishing.local_id(Path("/others") / name)


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({"model.py": ""}, True), ({"model_config.json": {"model_module": "net.py"}}, True),
        ({"model_config.json": {"model_class": "Net"}}, True), ({"weights.onnx": ""}, False),
        ({"model_config.json": {"model_architecture": "yolov8", "task_type": "object-detection"}}, False), ({}, False),
        ({"model_config.json": [1]}, False),
    ],
)  # fmt: skip
def test_code_is_not_imported_unless_that_is_allowed(tmp_path, files, code):
    for name, content in files.items():
        (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    assert publishing.brings_code(tmp_path) is code
    with pytest.raises(InvalidParameter if code else ExportFailed) as caught:
        publishing.import_package(tmp_path / ".." / tmp_path.name, tmp_path, allow_code=False)
    assert ("allow_local_code_packages=True" in caught.value.hint) is code
