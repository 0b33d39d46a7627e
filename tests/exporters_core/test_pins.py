"""Official weights are those that were meant: pinned by revision or hash, or named in the manifest as not pinned."""

import re

import pytest

from tritonvision import catalog
from tritonvision.errors import ExportFailed
from tritonvision.exporters import pins, weight_files

PINNED, LOOSE = "facebook/sam-vit-base", "somebody/moving"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """Stands in for the hub, which no test may ask: what it was asked, and a branch that moves with each question."""
    asked = []

    def download(repository, name, revision=None):
        asked.append((repository, name, revision))
        path = tmp_path / repository.replace("/", "--") / "snapshots" / (revision or f"{len(asked):040x}") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"weights")
        return path

    monkeypatch.setattr(weight_files.hub, "file", download)
    return asked


def test_every_pin_is_a_whole_commit_or_a_whole_hash():
    for source, pin in pins.PINS.items():
        assert pin.revision or pin.sha256, source
        assert re.fullmatch(r"([0-9a-f]{40})?", pin.revision), source
        assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in pin.sha256.values()), source


def test_every_checkpoint_of_ultralytics_that_an_id_stands_for_is_pinned():
    ids = [entry.id for entry in catalog.entries().values() if re.match(r"YOLOv(8|11)\b", entry.family)]
    files = {re.sub(r"^yolov11", "yolo11", model_id.rsplit("-", 1)[0]) + ".pt" for model_id in ids}
    assert len(files) == 20 and files == set(pins.PINS[pins.ULTRALYTICS].sha256)


def test_a_pinned_repository_is_asked_for_its_revision_and_leaves_no_note(hub):
    with pins.recorded() as taken:
        weight_files.hub_file(PINNED, "config.json")
    assert hub == [(PINNED, "config.json", pins.PINS[PINNED].revision)]
    assert pins.notes(taken) == ()


def test_files_of_a_branch_that_moves_are_of_one_revision_which_the_manifest_names(hub):
    with pins.recorded() as taken:
        first = weight_files.hub_file(LOOSE, "config.json")
        second = weight_files.hub_file(LOOSE, "model.safetensors")
    assert first.parent == second.parent and first.parent.name == f"{1:040x}"
    assert pins.notes(taken) == (
        f"The official weights of {LOOSE} are not pinned; what was there at revision {1:040x} has been taken, and its "
        "SHA-256 is recorded.",
    )


def test_the_next_export_asks_anew(hub):
    for _ in range(2):
        with pins.recorded():
            weight_files.hub_file(LOOSE, "config.json")
    assert [revision for *_, revision in hub] == [None, None]


@pytest.mark.parametrize("source", ["IDEA-Research/grounding-dino-tiny", pins.ULTRALYTICS])
def test_other_bytes_than_the_pinned_ones_are_refused(source, tmp_path):
    name = next(iter(pins.PINS[source].sha256))
    (tmp_path / name).write_bytes(b"something else")
    with pytest.raises(ExportFailed, match="is not the file that is pinned") as caught:
        pins.take(source, tmp_path / name)
    assert "--weights PATH" in caught.value.hint


def test_what_is_not_pinned_is_taken(tmp_path):
    (tmp_path / "new.pt").write_bytes(b"x")
    with pins.recorded() as taken:
        assert pins.take(pins.ULTRALYTICS, tmp_path / "new.pt") == tmp_path / "new.pt"
    assert not taken[0].pinned and "not pinned" in pins.notes(taken)[0]
