"""The copy of a repository that lies elsewhere: what changed comes over, whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from source_folders import files, publish

from tritonvision.errors import ServerUnavailable, SetupError
from tritonvision.publication import Repository
from tritonvision.repository_sources import copying, source_of
from tritonvision.repository_sources.copying import RepositoryCopy
from tritonvision.settings import Settings, read_settings


@pytest.fixture
def there(tmp_path) -> Path:
    """The folder of the source, with two models in it."""
    root = tmp_path / "there"
    publish(root, "eyes", b"a graph")
    publish(root, "mine/weather/1", b"another graph")
    return root


@pytest.fixture
def here(tmp_path) -> Path:
    return tmp_path / "here"


@pytest.fixture
def copy(there, here) -> RepositoryCopy:
    return RepositoryCopy(source_of(f"file://{there}"), here)


def inodes(root: Path) -> dict[str, int]:
    return {path.name: os.stat(path).st_ino for path in root.iterdir() if path.is_dir()}


def test_the_copy_is_the_source_and_nothing_is_fetched_twice(there, here, copy, monkeypatch):
    assert sorted(copy.look().models) == ["eyes", "mine/weather/1"]
    assert files(here) == files(there) and {m.id for m in Repository(here)} == {"eyes", "mine/weather/1"}
    monkeypatch.setattr(copy._source, "fetch", None)
    assert copy.look() == copying.Changes((), (), {})


def test_a_model_that_is_published_again_comes_over_and_the_others_are_not_touched(there, here, copy):
    copy.look()
    before, fetched = inodes(here), []
    publish(there, "eyes", b"a better graph")
    fetch = copy._source.fetch
    copy._source.fetch = lambda remote, target: (fetched.append(remote.path), fetch(remote, target))
    assert copy.look().models == ("eyes",) and files(here) == files(there)
    changed = {name for name, inode in inodes(here).items() if before[name] != inode}
    assert changed == {"eyes", "net--eyes"}
    assert sorted(fetched) == ["eyes/manifest.json", "net--eyes/1/model.onnx"], "files that stayed are linked"


def test_a_model_that_is_being_uploaded_stays_as_it_was_until_it_is_whole(there, here, copy):
    copy.look()
    publish(there, "eyes", b"a better graph", manifest_too=False)
    changes = copy.look()
    assert changes.models == () and "model.onnx is not the file of its manifest" in changes.unfinished["eyes"]
    assert (here / "net--eyes/1/model.onnx").read_bytes() == b"a graph"
    publish(there, "ears", b"graph")
    assert copy.look().models == ("ears",), "others come over meanwhile"
    publish(there, "eyes", b"a better graph")
    assert copy.look().models == ("eyes",) and files(here) == files(there)


def test_a_broken_upload_is_fetched_once_and_told_again_until_the_source_changes(there, here, copy):
    copy.look()
    publish(there, "eyes", b"a better graph", manifest_too=False)
    fetched = []
    fetch = copy._source.fetch
    copy._source.fetch = lambda remote, target: (fetched.append(remote.path), fetch(remote, target))
    first = copy.look()
    assert fetched == ["net--eyes/1/model.onnx"] and copy.look() == first and len(fetched) == 1
    publish(there, "eyes", b"a better graph")
    assert copy.look().models == ("eyes",) and files(here) == files(there)


def test_a_new_model_without_all_of_its_folders_does_not_appear(there, here, copy):
    publish(there, "ears", b"graph")
    shutil.rmtree(there / "net--ears")
    assert "the folder net--ears is missing" in copy.look().unfinished["ears"]
    assert Repository(here).get("ears") is None and not (here / "ears").exists()


def test_what_the_source_does_not_have_any_more_goes_and_what_is_only_here_stays(there, here, copy):
    copy.look()
    publish(here, "own", b"exported here")
    for name in ("eyes", "net--eyes"):
        shutil.rmtree(there / name)
    assert copy.look().gone == ("eyes", "net--eyes")
    assert {manifest.id for manifest in Repository(here)} == {"mine/weather/1", "own"}


def test_an_empty_source_takes_nothing_away(there, here, copy):
    copy.look()
    shutil.rmtree(there)
    there.mkdir()
    with pytest.raises(SetupError, match="There is no model repository at"):
        copy.look()
    assert len(list(Repository(here))) == 2


def test_a_copy_that_lost_a_folder_has_it_again(there, here, copy):
    copy.look()
    shutil.rmtree(here / "net--eyes")
    copy.look()
    assert files(here) == files(there)


@pytest.mark.parametrize("at", range(1, 9))
def test_a_source_that_fails_in_the_middle_changes_nothing(there, here, copy, at):
    copy.look()
    before = files(here)
    publish(there, "eyes", b"a better graph")
    publish(there, "mine/weather/1", b"a better one, too")
    fetch, calls = copy._source.fetch, []

    def failing(remote, target):
        calls.append(remote)
        if len(calls) == at:
            raise ServerUnavailable("The source went.")
        fetch(remote, target)

    copy._source.fetch = failing
    try:
        copy.look()
    except ServerUnavailable:
        assert files(here) == before
    else:
        assert files(here) == files(there) and len(calls) < at
    copy._source.fetch = fetch
    copy.look()
    assert files(here) == files(there) and not (here / ".staging").exists()


def test_a_file_that_is_cut_short_is_not_taken(there, here, copy):
    fetch = copy._source.fetch

    def short(remote, target):
        fetch(remote, target)
        target.write_bytes(target.read_bytes()[:3])

    copy._source.fetch = short
    with pytest.raises(ServerUnavailable, match="changed while it was read"):
        copy.look()
    assert not list(Repository(here))


@pytest.mark.parametrize("path", [
    "../outside/x", "/etc/x", "eyes/../../x", ".staging/x/y", "README.md", "eyes//x", "eyes/1/__pycache__/x.pyc",
    "a b/c",
])  # fmt: skip
def test_files_that_can_be_no_part_of_a_repository_are_left_out(there, here, copy, path):
    from tritonvision.repository_sources.remote import Remote

    listed = copy._source.list
    copy._source.list = lambda: [*listed(), Remote(path, 3, "mark")]
    copy.look()
    assert files(here) == files(there)


def test_a_folder_of_a_process_that_died_is_removed(here, copy):
    (here / ".staging" / "left").mkdir(parents=True)
    copy.look()
    assert not (here / ".staging" / "left").exists()


def test_another_source_is_not_taken_for_the_one_of_before(there, here, copy, tmp_path):
    copy.look()
    other = tmp_path / "other"
    publish(other, "eyes", b"quite another graph")
    RepositoryCopy(source_of(f"file://{other}"), here).look()
    assert (here / "net--eyes/1/model.onnx").read_bytes() == b"quite another graph"
    assert json.loads((here / ".source.json").read_text())["url"] == f"file://{other}"


def test_a_repository_that_is_a_url_is_a_source_with_a_folder_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setenv("TRITONVISION_REPOSITORY", "s3://bucket/models")
    settings = read_settings()
    assert settings.repository_source == "s3://bucket/models" and settings.repository.is_absolute()
    assert read_settings(repository="s3://bucket/other").repository != settings.repository
    assert Settings(repository=tmp_path).repository_source is None


@pytest.mark.parametrize("url", ["ftp://x/y", "s3://", "oci://x", "oci://x/y", "nonsense://x"])
def test_what_is_no_source_is_one_sentence(url):
    with pytest.raises(SetupError):
        source_of(url)
