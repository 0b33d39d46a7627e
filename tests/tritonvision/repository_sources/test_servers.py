"""Sources on real servers: moto (S3), fake-gcs-server (GCS), Azurite (Azure) and docker-registry (OCI)."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import oras.client
import pytest
from object_stores import free_port, running, started
from source_folders import files, publish

from tritonvision.errors import ServerUnavailable
from tritonvision.publication import Repository
from tritonvision.repository_sources import source_of
from tritonvision.repository_sources.copying import RepositoryCopy
from tritonvision.repository_sources.objects import Bucket

REGISTRY = shutil.which("docker-registry")


@pytest.fixture(params=["s3", "gs", "az"])
def store(request, monkeypatch, tmp_path):
    """An empty bucket of each kind."""
    folder = tmp_path / "server"
    folder.mkdir()
    with running(request.param, monkeypatch, folder) as one:
        yield one


def test_a_bucket_is_copied_and_followed(store, tmp_path):
    there, here = tmp_path / "there", tmp_path / "here"
    publish(there, "eyes", b"a graph" * 1000)
    store.upload(there)
    copy = RepositoryCopy(source_of(store.url), here)
    assert copy.look().models == ("eyes",) and files(here) == files(there) and copy.look().models == ()
    publish(there, "eyes", b"a better graph")
    store.put("net--eyes/1/model.onnx", b"a better graph")
    assert copy.look().unfinished.keys() == {"eyes"} and (here / "net--eyes/1/model.onnx").stat().st_size == 7000
    store.upload(there)
    assert copy.look().models == ("eyes",) and files(here) == files(there)


def test_a_bucket_whose_server_is_gone_changes_nothing(store, tmp_path):
    there, here = tmp_path / "there", tmp_path / "here"
    publish(there, "eyes", b"a graph")
    store.upload(there)
    copy = RepositoryCopy(source_of(store.url), here)
    copy.look()
    store.end()
    with pytest.raises(ServerUnavailable, match=f"The source {store.url} cannot be read"):
        copy.look()
    assert Repository(here).get("eyes") is not None


def test_a_bucket_that_is_not_there_is_one_sentence(store, tmp_path):
    with pytest.raises(ServerUnavailable, match="cannot be read"):
        RepositoryCopy(source_of(f"{store.url[:5]}nobody/x"), tmp_path / "here").look()


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ("Generic S3 error: Error performing PUT http://169.254.169.254/latest/api/token", "no key for it is given"),
        ("Generic S3 error: 404 Not Found\nmore", "Generic S3 error: 404 Not Found"),
    ],
)
def test_what_a_bucket_says_becomes_one_sentence_and_a_hint(told, why):
    error = Bucket("s3://models/production")._silent(OSError(told))
    assert error.message.startswith(f"The source s3://models/production cannot be read: {why}")
    assert "\n" not in error.message and "AWS_ACCESS_KEY_ID" in error.hint


@pytest.fixture
def registry(tmp_path):
    """The address of a registry of containers."""
    if REGISTRY is None:
        pytest.skip("This machine has no docker-registry (Debian: docker-registry).")
    address = f"127.0.0.1:{free_port()}"
    config = tmp_path / "registry.yml"
    config.write_text(
        f"version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {tmp_path}/blobs\nhttp:\n  addr: {address}\n"
    )
    process = started([REGISTRY, "serve", str(config)], f"http://{address}/v2/")
    yield address
    process.kill()
    process.wait()


def push(address: str, root: Path, monkeypatch) -> None:
    """As the program oras does in the folder: it keeps a file's path in its title, and this package its name alone."""
    monkeypatch.chdir(root)
    paths = [path.relative_to(root).as_posix() for path in sorted(root.rglob("*")) if path.is_file()]
    titles = root.parent / "titles.json"
    titles.write_text(json.dumps({path: {"org.opencontainers.image.title": path} for path in paths}))
    client = oras.client.OrasClient(hostname=address, insecure=True)
    client.push(
        target=f"{address}/vision/models:now", files=paths, annotation_file=str(titles), disable_path_validation=True
    )


def test_an_artefact_in_a_registry_is_copied_and_followed(registry, tmp_path, monkeypatch):
    there, here = tmp_path / "there", tmp_path / "here"
    publish(there, "eyes", b"a graph")
    os.remove(there / "eyes/1/.keep")  # a registry takes no empty files
    push(registry, there, monkeypatch)
    copy = RepositoryCopy(source_of(f"oci://{registry}/vision/models:now"), here)
    assert copy.look().models == ("eyes",) and files(here) == files(there) and copy.look().models == ()
    publish(there, "ears", b"ears")
    os.remove(there / "ears/1/.keep")
    push(registry, there, monkeypatch)
    assert copy.look().models == ("ears",) and {m.id for m in Repository(here)} == {"eyes", "ears"}
    with pytest.raises(ServerUnavailable):
        RepositoryCopy(source_of(f"oci://{registry}/vision/nobody:now"), here).look()
