import dataclasses
import json
import os
import shutil
from pathlib import Path

import pytest

from tritonvision.errors import BrokenModel, UnknownModel
from tritonvision.publication import MANIFEST, Manifest, Repository


def manifest(model_id: str, **changes) -> Manifest:
    return Manifest(
        id=model_id, family="YOLOv8", task="object-detection", head="dense-boxes", weights="random", source="seed 0",
        sha256="ab", license="AGPL-3.0", precision="fp32", labels=("cat", "Katze – chat"), input_size=(640, 640),
        steps=("pre--letterbox-640", "post--dense-boxes", f"net--{model_id}"), parity={"boxes": 1e-4},
        versions={"torch": "2"}, notes=("a note",),
    ) if not changes else dataclasses.replace(manifest(model_id), **changes)  # fmt: skip


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path)


def publish(repository: Repository, model_id: str, **changes) -> Manifest:
    published = manifest(model_id, **changes)
    folder = repository.root / published.triton_name
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / "fresh"
    fresh.write_text(published.to_json())
    fresh.rename(folder / MANIFEST)  # as publishing does: another inode
    return published


def test_a_manifest_reads_back_as_it_was_written():
    written = manifest("yolov8n-640")
    assert Manifest.from_json(written.to_json()) == written
    assert "Katze – chat" in written.to_json()


def test_what_was_published_before_backends_were_told_is_onnx():
    told = json.loads(manifest("yolov8n-640").to_json())
    del told["backend"]
    assert Manifest.from_json(json.dumps(told)).backend == "onnx"


def test_a_repository_lists_what_is_published_by_its_public_id(repository):
    published = [publish(repository, name) for name in ("project/3", "yolov8n-640")]
    (repository.root / "pre--letterbox-640").mkdir()
    assert sorted(repository, key=lambda m: m.id) == published


def test_an_empty_or_missing_folder_holds_nothing(tmp_path):
    assert list(Repository(tmp_path)) == []
    assert list(Repository(tmp_path / "nowhere")) == []
    assert Repository(tmp_path / "nowhere").get("yolov8n-640") is None


def typed(**wrong) -> str:
    """A manifest with fields of other types than theirs."""
    return json.dumps(json.loads(manifest("yolov8n-640").to_json()) | wrong)


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "{}", '{"id": "yolov8n-640"}', '{"unknown": 1}', "null", "3", typed(labels=3), typed(labels=[1]),
        typed(input_size="large"), typed(license=None), typed(graph_bytes="many"), typed(files=[]), typed(tuning=3),
        typed(parity={"boxes": "few"}), typed(variants=[{}]), typed(variants=["int8"]),
    ],
)  # fmt: skip
def test_a_broken_manifest_counts_as_not_published_and_the_others_stay(repository, text):
    publish(repository, "yolov8s-640")
    broken = repository.root / "yolov8n-640"
    broken.mkdir()
    (broken / MANIFEST).write_text(text)
    assert repository.get("yolov8n-640") is None
    assert [m.id for m in repository] == ["yolov8s-640"]
    with pytest.raises(BrokenModel, match="The folder 'yolov8n-640' holds"):
        repository.resolve("yolov8n-640")


def test_bytes_that_are_no_text_count_as_not_published(repository):
    (repository.root / "yolov8n-640").mkdir()
    (repository.root / "yolov8n-640" / MANIFEST).write_bytes(b"\xff\xfe\x00")
    assert repository.get("yolov8n-640") is None


def test_a_model_published_again_is_seen_without_a_restart(repository):
    publish(repository, "yolov8n-640")
    assert repository.get("yolov8n-640").source == "seed 0"
    publish(repository, "yolov8n-640", source="seed 1")
    assert repository.get("yolov8n-640").source == "seed 1"


def test_the_same_manifest_is_the_same_object_until_it_changes(repository):
    publish(repository, "yolov8n-640")
    assert repository.get("yolov8n-640") is repository.get("yolov8n-640")


def test_an_alias_finds_the_catalogue_model(repository):
    publish(repository, "yolov8n-640")
    for name in ("yolov8n-640", "coco/3", "workspace/coco/3"):
        assert repository.resolve(name).id == "yolov8n-640"


def test_a_users_own_export_comes_before_a_catalogue_alias_of_the_same_name(repository):
    publish(repository, "yolov8n-640")
    publish(repository, "coco/3", labels=("mine",))
    assert repository.resolve("coco/3").labels == ("mine",)
    assert repository.resolve("workspace/coco/3").labels == ("mine",)


def test_a_known_but_unpublished_model_is_refused_with_the_command_that_publishes_it(repository):
    with pytest.raises(UnknownModel, match="'yolov8n-640' is not published here") as caught:
        repository.resolve("coco/3")
    assert caught.value.hint == "Publish it with: tritonvision export yolov8n-640"


@pytest.mark.parametrize("name", ["nobody", "../etc/passwd", "a--b", "pre--letterbox-640", ""])
def test_an_unknown_name_is_refused(repository, name):
    with pytest.raises(UnknownModel):
        repository.resolve(name)


def test_a_manifest_is_plain_json_for_other_programs(repository):
    written = publish(repository, "yolov8n-640")
    data = json.loads((repository.root / written.triton_name / MANIFEST).read_text())
    assert data["weights"] == "random" and data["input_size"] == [640, 640]


@pytest.mark.parametrize("name", ["yolov8n-640 (copy)", "name_", "_old", "x--old", "yolov8n-640-copy", "a__b__c__d"])
def test_a_copied_folder_is_no_model_and_the_others_stay(repository, name):
    published = publish(repository, "yolov8n-640")
    shutil.copytree(repository.root / "yolov8n-640", repository.root / name)
    shutil.copytree(repository.root / "yolov8n-640", repository.root / ".trash")
    assert list(repository) == [published]
    assert repository.left_out() == [f"The folder '{name}' holds another model's manifest, or a broken one."]


def test_a_folder_that_this_user_cannot_read_is_named(repository, monkeypatch):
    publish(repository, "yolov8n-640")
    publish(repository, "yolov8s-640")

    def refused(path, *args, **rest):  # root reads everything, so rights are no way to test it
        if "yolov8s-640/" in str(path):
            raise PermissionError(13, "Permission denied")
        return stat(path, *args, **rest)

    stat = os.stat
    monkeypatch.setattr(os, "stat", refused)
    assert [m.id for m in repository] == ["yolov8n-640"]
    (sentence,) = repository.left_out()
    assert sentence.startswith("The folder 'yolov8s-640' cannot be read by this user")


def test_models_that_were_asked_for_are_known_while_the_whole_folder_is_gone(tmp_path):
    repository = Repository(tmp_path / "models")
    for name in ("yolov8n-640", "resnet18"):
        publish(repository, name)
    before = repository.resolve("yolov8n-640")
    repository.root.rename(tmp_path / "elsewhere")
    assert repository.resolve("yolov8n-640") is before
    with pytest.raises(UnknownModel):
        repository.resolve("resnet18")  # nobody has asked for it
    (tmp_path / "elsewhere").rename(repository.root)
    shutil.rmtree(repository.root / "yolov8n-640")  # removed on purpose: the other folders are there
    with pytest.raises(UnknownModel):
        repository.resolve("yolov8n-640")


def test_what_a_newer_version_published_is_left_out_and_said_to_be_that(repository):
    """Its manifest may say what changes the meaning of the rest, so it is not read in part."""
    told = json.loads(publish(repository, "yolov8n-640").to_json()) | {"colours_of_the_future": 3}
    (repository.root / "yolov8n-640" / MANIFEST).write_text(json.dumps(told))
    assert list(repository) == []
    assert repository.left_out() == [
        "The folder 'yolov8n-640' holds a manifest of a newer version of tritonvision, which tells "
        "'colours_of_the_future'."
    ]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"colours_of_the_future": 3}, "a newer version"),
        ({"id": "yolov8s-640"}, "another model's manifest"),
        ({"labels": 3, "tuning": 3}, "or a broken one"),
    ],
)
def test_what_is_published_and_cannot_be_read_is_refused_by_name_and_is_not_nothing(repository, change, why):
    """Whoever took it for missing would publish released or random weights in the place of the user's."""
    told = json.loads(publish(repository, "yolov8n-640").to_json()) | change
    (repository.root / "yolov8n-640" / MANIFEST).write_text(json.dumps(told))
    for ask in (repository.resolve, repository.existing):
        with pytest.raises(BrokenModel, match=f"The folder 'yolov8n-640' holds .*{why}") as caught:
            ask("yolov8n-640")
        assert "--force" in caught.value.hint
    with pytest.raises(BrokenModel):
        repository.resolve("coco/3")
    assert repository.existing("resnet18") is None


def test_a_manifest_that_may_be_read_again_is_read_though_its_time_has_not_changed(repository, monkeypatch):
    def refused(path):
        raise PermissionError(13, "Permission denied")

    written = publish(repository, "yolov8n-640")
    with monkeypatch.context() as changed:
        changed.setattr(Path, "read_bytes", refused)
        assert repository.get("yolov8n-640") is None
    assert repository.get("yolov8n-640") == written
