"""A model is in the repository wholly, or the repository is as it was."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
import time

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from tritonvision import moves
from tritonvision.errors import SetupError
from tritonvision.exporters import publish
from tritonvision.publication import Manifest, Repository


def manifest(**changes) -> Manifest:
    facts = dict(
        id="team/faces/1", family="MediaPipe Face", task="keypoint-detection", head="keypoints", weights="user",
        source="x", sha256="0", license="x", precision="fp32", labels=("face",), input_size=(128, 128), steps=("a",),
    )  # fmt: skip
    return Manifest(**(facts | changes))


@pytest.fixture
def put(family, entry):
    """A function that publishes a graph of the given bytes."""

    def put(repository, graph: bytes, **changes):
        with publish.staging(repository) as folder:
            path = folder / "model.onnx"
            path.write_bytes(graph)
            publish.publish(repository, folder, manifest(**changes), family.entry_points(entry), {"": path})

    return put


def test_a_published_model_is_two_models_and_their_steps(put, tmp_path):
    put(tmp_path, b"graph")
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "net--team__faces__1", "post--keypoints", "pre--square-128", "team__faces__1",
    ]  # fmt: skip
    assert (tmp_path / "net--team__faces__1" / "1" / "model.onnx").read_bytes() == b"graph"
    assert (tmp_path / "team__faces__1" / "1").is_dir()
    graph = {"net--team__faces__1/1/model.onnx": hashlib.sha256(b"graph").hexdigest()}
    assert Repository(tmp_path).get("team/faces/1") == manifest(files=graph)
    for path in tmp_path.glob("*/config.pbtxt"):
        config = text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())
        assert config.name == path.parent.name


def test_folders_can_be_read_by_others(put, tmp_path):
    """tritonserver often runs as another user than the exporter."""
    put(tmp_path, b"graph")
    umask = os.umask(0)
    os.umask(umask)
    for path in tmp_path.rglob("*"):
        assert path.stat().st_mode & 0o044 == 0o044 & ~umask, path


def test_publishing_again_replaces_network_and_manifest(put, tmp_path):
    put(tmp_path, b"old", notes=("old",))
    put(tmp_path, b"new", notes=("new",))
    assert (tmp_path / "net--team__faces__1" / "1" / "model.onnx").read_bytes() == b"new"
    assert Repository(tmp_path).get("team/faces/1").notes == ("new",)
    assert not (tmp_path / ".staging").exists()


def test_shared_steps_that_are_as_they_should_be_are_not_touched(put, tmp_path):
    put(tmp_path, b"old")
    step = tmp_path / "pre--square-128"
    (step / "1" / "__pycache__").mkdir()
    before = step.stat().st_ino
    put(tmp_path, b"new")
    assert step.stat().st_ino == before
    (step / "config.pbtxt").write_text("of an older version")
    put(tmp_path, b"newer")
    assert "name: " in (step / "config.pbtxt").read_text()


@pytest.mark.parametrize("exchange", [True, False], ids=["one exchange of names", "by way of a third name"])
@pytest.mark.parametrize("failing", range(4))
@pytest.mark.parametrize("published", [True, False], ids=["replaced", "new"])
def test_a_failure_at_any_rename_leaves_the_repository_as_it_was(
    put, tmp_path, contents, monkeypatch, exchange, failing, published
):
    if not exchange:
        monkeypatch.setattr(moves.ctypes, "CDLL", lambda *_, **__: object())
    if published:
        put(tmp_path, b"old")
        for path in tmp_path.glob("p*--*/config.pbtxt"):
            path.write_text("another version")  # so that the steps are exchanged, too
    before = contents(tmp_path)
    done, rename, swap = [], publish.Path.rename, moves.exchange

    def counted(function):
        def step(*arguments):
            if "models" in str(arguments[0]) and len(done) == failing:
                done.append("failed")
                raise OSError(28, "No space left on device")
            if "models" in str(arguments[0]):
                done.append("moved")
            return function(*arguments)

        return step

    monkeypatch.setattr(moves, "exchange", counted(swap))
    if not published:
        monkeypatch.setattr(publish.Path, "rename", counted(rename))
    with pytest.raises(SetupError, match="as it was"):
        put(tmp_path, b"new", notes=("new",))
    assert "failed" in done
    assert contents(tmp_path) == before


def test_a_repository_that_cannot_be_written_is_said_in_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="cannot be written") as caught:
        with publish.staging(tmp_path / "file"):
            pass
    assert "--repository" in caught.value.hint


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_while_a_model_is_built_is_one_sentence_and_leaves_nothing(tmp_path, code):
    with pytest.raises(SetupError, match="The disk of the model repository is full"):
        with publish.staging(tmp_path) as folder:
            (folder / "model.onnx").touch()
            raise OSError(code, os.strerror(code))
    assert list(tmp_path.iterdir()) == []


def test_a_killed_export_leaves_only_its_staging_folder_and_the_next_sweeps_it(put, tmp_path, contents):
    put(tmp_path, b"old")
    before = contents(tmp_path)
    program = (
        "import sys, time, pathlib\n"
        "from tritonvision.exporters import publish\n"
        "with publish.staging(pathlib.Path(sys.argv[1])) as folder:\n"
        "    (folder / 'model.onnx').write_bytes(b'half')\n"
        "    print('building', flush=True)\n"
        "    time.sleep(60)\n"
    )
    victim = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
    victim.stdout.readline()
    with publish.staging(tmp_path):  # another export beside it leaves it alone
        assert len(list((tmp_path / ".staging").iterdir())) == 2
    assert len(list((tmp_path / ".staging").iterdir())) == 1
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    left = contents(tmp_path)
    assert {name: data for name, data in left.items() if not name.startswith(".staging")} == before
    assert left != before
    put(tmp_path, b"old")
    assert contents(tmp_path) == before


def test_two_exports_of_one_model_at_once_end_with_one_of_them(tmp_path, family, entry):
    program = (
        "import sys, pathlib\n"
        "from tritonvision import catalog\n"
        "from tritonvision.exporters import publish, registry\n"
        "from tritonvision.publication import Manifest\n"
        "root, who = pathlib.Path(sys.argv[1]), sys.argv[2]\n"
        "entry = catalog.find('mediapipe-face-detection')\n"
        "family = registry.find(entry.family)\n"
        "facts = Manifest('t/1', 'f', 't', 'keypoints', 'user', who, '0', 'x', 'fp32', (), (128, 128), ())\n"
        "for _ in range(30):\n"
        "    with publish.staging(root) as folder:\n"
        "        graph = folder / 'model.onnx'\n"
        "        graph.write_text(who)\n"
        "        publish.publish(root, folder, facts, family.entry_points(entry), {'': graph})\n"
    )
    both = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path), who]) for who in ("one", "two")]
    deadline = time.monotonic() + 60
    assert [process.wait(max(deadline - time.monotonic(), 1)) for process in both] == [0, 0]
    net = (tmp_path / "net--t__1" / "1" / "model.onnx").read_text()
    assert Repository(tmp_path).get("t/1").source == net
    assert not (tmp_path / ".staging").exists()


def test_networks_that_the_next_version_of_a_model_has_not_are_removed(put, tmp_path):
    """A family that goes over to other networks would leave the old ones in the repository for ever."""
    put(tmp_path, b"graph", steps=("net--team__faces__1", "net--team__faces__1--old"), roles=("", "old"))
    for orphan in ("net--team__faces__1--old", "team__faces__1--old", "net--team__faces__12", "pre--old"):
        (tmp_path / orphan).mkdir()
    put(tmp_path, b"another graph")
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "net--team__faces__1", "net--team__faces__12", "post--keypoints", "pre--old", "pre--square-128",
        "team__faces__1",
    ]  # fmt: skip
