"""What another user of this machine gets of a running tritonserver of ours: nothing but that it runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from walled import SECRET, Walled

from tritonvision.server import stubs

KINDS = ("tcp", "tcp6", "udp", "udp6", "raw", "raw6")


def processes(walled: Walled) -> list[int]:
    """The tritonserver and its Python processes."""
    return [walled.server.pid, *stubs.of_server(walled.server.pid)]


@pytest.mark.attack("open doors")
def test_no_process_of_it_has_a_socket_of_the_network(walled: Walled):
    of_network = {
        f"socket:[{line.split()[9]}]"
        for kind in KINDS for line in Path(f"/proc/net/{kind}").read_text().splitlines()[1:]
    }  # fmt: skip
    for pid in processes(walled):
        assert not of_network & {os.readlink(file) for file in Path(f"/proc/{pid}/fd").iterdir() if file.is_symlink()}


@pytest.mark.attack("open doors")
def test_its_socket_cannot_be_connected_to_listed_or_replaced(walled: Walled, as_stranger):
    path = walled.server.address.removeprefix("unix:")
    told = as_stranger(
        """
        folder = os.path.dirname(given["path"])
        told = {
            "connect": tried(lambda: socket.socket(socket.AF_UNIX).connect(given["path"])),
            "list": tried(lambda: os.listdir(folder)), "list above": tried(lambda: os.listdir(os.path.dirname(folder))),
            "remove": tried(lambda: os.unlink(given["path"])),
            "move": tried(lambda: os.rename(os.path.dirname(folder), os.path.dirname(folder) + "-mine")),
            "abstract": [line for line in open("/proc/net/unix") if "@" in line and "tritonvision" in line],
        }
        """,
        path=path,
    )
    assert told.pop("abstract") == []
    assert set(told.values()) == {"PermissionError"}, told
    assert Path(path).stat().st_mode & 0o077 == 0
    assert walled.unharmed()


@pytest.mark.attack("shared memory of others")
def test_its_shared_memory_can_be_neither_read_nor_written(walled: Walled, as_stranger, record_property):
    assert walled.inside(f"told = {'a picture of somebody ' * 1000!r}[:3]") == "'a p'"  # it passed through a region
    regions = [stub.region.lstrip("/") for stub in stubs.of_server(walled.server.pid).values()]
    told = as_stranger(
        """
        told = {}
        for name in os.listdir("/dev/shm"):
            if name in given["regions"]:
                path = "/dev/shm/" + name
                told[name] = [tried(lambda: open(path, "rb").read(1)), tried(lambda: os.open(path, os.O_RDWR)),
                              tried(lambda: os.unlink(path)), tried(lambda: os.truncate(path, 0))]
        """,
        regions=regions,
    )
    assert sorted(told) == sorted(regions), "the regions are not where this test looks"
    assert {outcome for outcomes in told.values() for outcome in outcomes} == {"PermissionError"}, told
    record_property("figure", f"regions of shared memory: {len(regions)}, mode 0600")
    assert walled.unharmed()


@pytest.mark.attack("secrets that are told")
def test_no_argument_environment_or_file_of_it_tells_a_key(walled: Walled, as_stranger):
    pids = processes(walled)
    for pid in pids:  # as root: it is not even there
        for file in ("cmdline", "environ"):
            assert SECRET.encode() not in Path(f"/proc/{pid}/{file}").read_bytes()
    told = as_stranger(
        """
        told = {}
        for pid in given["pids"]:
            assert open(f"/proc/{pid}/cmdline").read()  # which everybody may
            for name in ("environ", "mem", "maps", "fd", "cwd", "root"):
                path = f"/proc/{pid}/{name}"
                link = name in ("cwd", "root")
                told[path] = tried(lambda: os.readlink(path) if link else os.listdir(path) if name == "fd"
                                   else open(path, "rb").read(1))
        """,
        pids=pids,
    )
    assert set(told.values()) == {"PermissionError"}, told


@pytest.mark.attack("secrets that are told")
def test_its_log_and_the_folder_of_the_run_are_not_for_others(walled: Walled, as_stranger):
    logs = [str(path) for path in walled.log.iterdir()]
    told = as_stranger(
        """told = {path: tried(lambda: open(path).read(1)) for path in given["paths"]}""",
        paths=[*logs, str(Path(walled.server.address.removeprefix("unix:")).parents[1] / "server" / "regions")],
    )
    assert logs and set(told.values()) == {"PermissionError"}, told


@pytest.mark.attack("open doors")
def test_its_processes_cannot_be_signalled_or_traced(walled: Walled, as_stranger):
    told = as_stranger(
        """
        libc = ctypes.CDLL(None, use_errno=True)
        told = {}
        for pid in given["pids"]:
            told[f"signal {pid}"] = tried(lambda: os.kill(pid, 0))
            told[f"trace {pid}"] = "PermissionError" if libc.ptrace(16, pid, 0, 0) != 0 else "traced"
        """,
        pids=processes(walled),
    )
    assert set(told.values()) == {"PermissionError"}, told
    assert walled.unharmed()
