"""The embedded tritonserver starts, serves, recovers from crashes and leaves no files or memory; the real binary."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pytest
from settling import settles

from tritonvision.client import TritonClient
from tritonvision.errors import ServerUnavailable
from tritonvision.server import Embedded, restarts, run_folder, stubs
from tritonvision.settings import Settings

FACE = "mediapipe-face-detection"
STEPS = ("pre--square-128", "post--keypoints", f"net--{FACE}")


def regions() -> set[str]:
    return {name for name in os.listdir("/dev/shm") if name.startswith("triton_")}


def faces(server: Embedded, photo: bytes) -> int:
    with TritonClient(server.address) as client:
        _, detections = client.infer(FACE, photo)
        return len(detections)


def load(server: Embedded) -> None:
    for model in (*STEPS, FACE):
        server.load(model)


def test_it_finds_the_face_in_the_photo(embedded: Embedded, photo: bytes):
    load(embedded)
    assert faces(embedded, photo) == 1
    assert embedded.version == "2.51.0"
    assert embedded.healthy()


def test_an_abandoned_folder_that_holds_what_nobody_expects_is_removed_and_hinders_no_start(settings):
    folder = Path(tempfile.mkdtemp(prefix="tritonvision-server-", dir=run_folder.place()))
    (folder / "left").write_text("by another version")
    server = Embedded(settings)
    try:
        server.start()
        assert not folder.exists()
    finally:
        server.stop()


@pytest.mark.attack("open doors")
def test_only_its_user_can_connect_to_it_and_no_process_sends_telemetry(embedded: Embedded):
    load(embedded)
    lines = [line for kind in ("tcp", "tcp6") for line in Path(f"/proc/net/{kind}").read_text().splitlines()]
    listening = {line.split()[9] for line in lines if " 0A " in line}
    own = {os.readlink(fd) for fd in Path(f"/proc/{embedded.pid}/fd").iterdir() if fd.exists() or fd.is_symlink()}
    assert not {f"socket:[{inode}]" for inode in listening} & own, "it listens to a port"
    socket = Path(embedded.address.removeprefix("unix:"))
    assert socket.is_socket() and socket.parent.stat().st_mode & 0o077 == 0
    for stub in embedded.processes():
        assert b"ORT_DISABLE_TELEMETRY=1" in Path(f"/proc/{stub.pid}/environ").read_bytes().split(b"\0")


def test_it_serves_with_unusual_paths_and_with_a_proxy_in_the_environment(
    repository: Path, tmp_path: Path, photo: bytes, monkeypatch
):
    odd = tmp_path / "it's $HOME & \"mes modèles\" (日本)"
    shutil.copytree(repository, odd)
    (tmp_path / "t m p").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "t m p"))
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    server = Embedded(Settings(repository=odd, log_dir=tmp_path / "log"))
    server.start()
    try:
        load(server)
        assert faces(server, photo) == 1
    finally:
        server.stop()


@pytest.mark.parametrize("model", STEPS)
def test_a_killed_stub_is_replaced_and_its_model_answers_again(embedded: Embedded, photo: bytes, model: str):
    load(embedded)
    deaths = embedded.deaths
    victim = next(s for s in embedded.processes() if s.model == model)
    os.kill(victim.pid, signal.SIGKILL)
    assert settles(lambda: not embedded.healthy()), "it never said that it was not well"
    assert embedded.wait_healed(10)
    assert embedded.healthy() and embedded.deaths == deaths + 1
    living = [s for s in embedded.processes() if s.model == model]
    assert len(living) == 2 and victim.pid not in {s.pid for s in living}
    assert victim.region not in regions()
    assert [faces(embedded, photo) for _ in range(4)] == [1] * 4


def test_a_stopped_stub_is_ended_and_replaced(embedded: Embedded, photo: bytes):
    load(embedded)
    deaths = embedded.deaths
    victim = next(s for s in embedded.processes() if s.model == STEPS[0])
    os.kill(victim.pid, signal.SIGSTOP)
    assert settles(lambda: embedded.deaths > deaths), "a process that hangs was not noticed"
    assert embedded.wait_healed(10)
    assert victim.pid not in stubs.of_server(embedded.pid)
    assert [faces(embedded, photo) for _ in range(4)] == [1] * 4


def test_an_unload_is_not_reported_as_a_crash(embedded: Embedded):
    load(embedded)
    deaths = embedded.deaths
    for model in (FACE, *STEPS):
        embedded.unload(model)
    assert settles(lambda: not stubs.of_server(embedded.pid))
    assert embedded.wait_healed(5)
    assert embedded.deaths == deaths


def test_a_killed_server_is_restarted_at_the_same_address_with_its_models(settings: Settings, photo: bytes):
    server = Embedded(settings)
    server.start()
    try:
        load(server)
        address, pid = server.address, server.pid
        os.kill(pid, signal.SIGKILL)
        assert settles(lambda: server.healthy() and server.pid != pid, 30)
        assert server.wait_healed(30)
        assert server.address == address
        assert faces(server, photo) == 1
    finally:
        server.stop()


def test_a_server_that_is_killed_again_and_again_is_started_after_a_wait_that_callers_sit_out(
    settings: Settings, photo: bytes, monkeypatch: pytest.MonkeyPatch
):  # fmt: skip
    monkeypatch.setattr(restarts, "_AT_ONCE", 0)  # the first restart waits as the fourth would
    monkeypatch.setattr(restarts, "_LONGEST_UNTOLD", 1.0)
    server = Embedded(settings)
    server.start()
    try:
        load(server)
        os.kill(server.pid, signal.SIGKILL)
        assert settles(lambda: not server.healthy())
        assert server.wait_healed(60) and server.failure is None and server.starts == 2
        assert faces(server, photo) == 1
    finally:
        server.stop()


def test_a_server_that_ends_after_it_did_not_come_back_whole_is_reported(
    repository: Path, tmp_path: Path, photo: bytes, monkeypatch: pytest.MonkeyPatch
):  # fmt: skip
    monkeypatch.setattr(restarts, "_AT_ONCE", 1)  # the second restart waits as the fourth would
    root, aside = shutil.copytree(repository, tmp_path / "models"), tmp_path / "aside"
    server = Embedded(Settings(repository=root, log_dir=tmp_path))
    server.start()
    try:
        load(server)
        (root / STEPS[2]).rename(aside)
        os.kill(server.pid, signal.SIGKILL)
        assert settles(lambda: server.starts == 2 and server.healthy(), 30)
        os.kill(server.pid, signal.SIGKILL)
        assert settles(lambda: server.failure is not None), "it never said that it had given up for now"
        aside.rename(root / STEPS[2])
        assert not server.healthy() and server.wait_healed(0.1)
        with pytest.raises(ServerUnavailable, match="again and again") as refused:
            server.load(FACE)
        assert refused.value.retry_after
        assert settles(lambda: server.healthy(), 60) and server.failure is None and server.starts == 3
        assert faces(server, photo) == 1
    finally:
        server.stop()


def test_a_server_that_waits_for_its_next_start_is_stopped_at_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
):  # fmt: skip
    monkeypatch.setattr(restarts, "_AT_ONCE", -4)  # 32 seconds
    monkeypatch.setattr(restarts, "_LONGEST_UNTOLD", 60.0)
    server = Embedded(settings)
    server.start()
    os.kill(server.pid, signal.SIGKILL)
    assert settles(lambda: not server.healthy())
    time.sleep(1)  # by now it waits
    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < 10


def test_a_step_that_triton_loads_itself_is_supervised(embedded: Embedded, photo: bytes):
    for model in (FACE, *STEPS):
        embedded.unload(model)
    assert settles(lambda: not embedded.processes())
    embedded.load(FACE)  # Triton brings the steps
    assert [embedded.instances(model) for model in (FACE, *STEPS)] == [0, 2, 2, 2]
    for stub in embedded.processes():
        if stub.model == STEPS[0]:
            os.kill(stub.pid, signal.SIGKILL)
    assert settles(lambda: not embedded.healthy()) and embedded.wait_healed(20)
    assert [faces(embedded, photo) for _ in range(2)] == [1] * 2


def test_two_servers_live_side_by_side_and_leave_no_shared_memory(settings: Settings, photo: bytes):
    servers = [Embedded(settings), Embedded(settings)]
    for server in servers:
        server.start()
        load(server)
    assert [faces(server, photo) for server in servers] == [1, 1]
    own = {stub.region for server in servers for stub in server.processes()}
    victim = servers[0].processes()[0]
    os.kill(victim.pid, signal.SIGKILL)
    assert settles(lambda: servers[0].deaths == 1) and servers[0].wait_healed(10)
    own |= {stub.region for stub in servers[0].processes()}
    for server in servers:
        started = time.monotonic()
        server.stop()
        assert time.monotonic() - started < 10
    assert len(own) == 14 and not own & regions()


def test_server_and_stubs_die_with_a_killed_parent_and_the_next_start_cleans_up(settings: Settings, tmp_path: Path):
    program = textwrap.dedent(f"""
        import time
        from pathlib import Path
        from tritonvision.server import Embedded
        from tritonvision.settings import Settings
        server = Embedded(Settings(repository=Path({str(settings.repository)!r}), log_dir=Path({str(tmp_path)!r})))
        server.start()
        for model in {(*STEPS, FACE)!r}:
            server.load(model)
        print(server.pid, flush=True)
        time.sleep(60)
    """)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as owner:
        triton = int(owner.stdout.readline())
        children = stubs.of_server(triton)
        assert len(children) == 6
        owner.kill()
    everyone = [Path(f"/proc/{pid}") for pid in (triton, *children)]
    assert settles(lambda: not any(p.exists() and "Z" not in _state(p) for p in everyone)), "orphans were left"
    server = Embedded(settings)
    server.start()
    server.stop()
    assert not {stub.region for stub in children.values()} & regions()


def test_the_log_goes_to_a_file(embedded: Embedded, settings: Settings):
    load(embedded)
    text = (settings.log_dir / f"tritonserver-{settings.port}.log").read_text()
    assert f"successfully loaded '{FACE}'" in text


def _state(process: Path) -> str:
    try:
        return (process / "stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "Z"
