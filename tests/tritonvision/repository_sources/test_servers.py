"""Sources on real servers: S3's protocol by moto, OCI's by Debian's docker-registry."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import obstore
import oras.client
import pytest
from obstore.store import S3Store
from source_folders import files, publish

from tritonvision.errors import ServerUnavailable
from tritonvision.publication import Repository
from tritonvision.repository_sources import source_of
from tritonvision.repository_sources.copying import RepositoryCopy
from tritonvision.repository_sources.objects import Bucket

TREE = Path(__file__).parents[3]
MOTO = shutil.which("moto_server") or shutil.which("moto_server", path=str(TREE / ".venv-s3" / "bin"))
REGISTRY = shutil.which("docker-registry")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def started(command: list[str], url: str, **options) -> subprocess.Popen:
    """A server that answers at ``url``."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
    give_up = time.monotonic() + 30
    while True:
        try:
            urllib.request.urlopen(url, timeout=1).close()
            return process
        except urllib.error.HTTPError:
            return process
        except OSError:
            assert process.poll() is None and time.monotonic() < give_up, "the server did not start"
            time.sleep(0.05)


@pytest.fixture
def bucket(monkeypatch):
    """A bucket of a server of S3's protocol, whose address and keys are in the environment."""
    if MOTO is None:
        pytest.skip("This machine has no moto_server (make .venv-s3/.ready).")
    url = f"http://127.0.0.1:{free_port()}"
    process = started([MOTO, "-H", "127.0.0.1", "-p", url.rpartition(":")[2]], url)
    for name, value in {
        "ENDPOINT_URL": url, "ALLOW_HTTP": "true", "ACCESS_KEY_ID": "k", "SECRET_ACCESS_KEY": "s",
        "REGION": "us-east-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"AWS_{name}", value)
    urllib.request.urlopen(urllib.request.Request(f"{url}/models", method="PUT")).close()
    yield S3Store("models", prefix="production"), process
    process.kill()
    process.wait()


def upload(store: S3Store, root: Path) -> None:
    for path in sorted(root.rglob("*")):
        if path.is_file():
            obstore.put(store, path.relative_to(root).as_posix(), path.read_bytes())


def test_a_bucket_of_s3_is_copied_and_followed(bucket, tmp_path):
    store, process = bucket
    there, here = tmp_path / "there", tmp_path / "here"
    publish(there, "eyes", b"a graph" * 1000)
    upload(store, there)
    copy = RepositoryCopy(source_of("s3://models/production"), here)
    assert copy.look().models == ("eyes",) and files(here) == files(there) and copy.look().models == ()
    publish(there, "eyes", b"a better graph")
    obstore.put(store, "net--eyes/1/model.onnx", b"a better graph")
    assert copy.look().unfinished.keys() == {"eyes"} and (here / "net--eyes/1/model.onnx").stat().st_size == 7000
    upload(store, there)
    assert copy.look().models == ("eyes",) and files(here) == files(there)
    process.kill()
    process.wait()
    with pytest.raises(ServerUnavailable, match="The source s3://models/production cannot be read"):
        copy.look()
    assert Repository(here).get("eyes") is not None


def test_a_bucket_that_is_not_there_is_one_sentence(bucket, tmp_path):
    with pytest.raises(ServerUnavailable, match="cannot be read"):
        RepositoryCopy(source_of("s3://nobody/x"), tmp_path / "here").look()


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
