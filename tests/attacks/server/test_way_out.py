"""A process of the tritonserver that obeys an attacker reaches the models it serves, and nothing else of the machine.

What the tests try, they also try where it is allowed: a sandbox that forbids everything would not be one.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from pathlib import Path

import pytest
from walled import PROBE, SECRET, Walled

from tritonvision.server import sandbox

pytestmark = [
    pytest.mark.attack("ways out of the engine"),
    pytest.mark.skipif(
        not sandbox.landlock_version() or not sandbox.seccomp_here(), reason="this kernel has no Landlock or no seccomp"
    ),
]
CLONE = {  # of linux/sched.h
    "NEWNS": 0x20000, "NEWCGROUP": 0x2000000, "NEWUTS": 0x4000000, "NEWIPC": 0x8000000, "NEWUSER": 0x10000000,
    "NEWPID": 0x20000000, "NEWNET": 0x40000000,
}  # fmt: skip
DENIED = ("PermissionError", "OSError: [Errno 97]")  # EACCES and EPERM, EAFNOSUPPORT


def test_all_walls_hold_and_it_says_so(walled: Walled):
    assert walled.server.walls() == ["no_new_privs", "capabilities", "landlock", "seccomp"]
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{walled.server.pid}/status").read_text().splitlines()
    )
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
    assert int(status["CapEff"], 16) & ~0b100 == 0  # but for reading what others own


def test_it_writes_only_to_the_folder_of_its_run(walled: Walled, tmp_path: Path, request):
    repository = Path(walled.inside("import os; told = os.path.realpath(os.environ['TRITONVISION_SERVER_FOLDER']"
                                    " + '/repository')").strip("'"))  # fmt: skip
    assert (repository / PROBE / "config.pbtxt").is_file()
    # not below /tmp, where it may remove what is its user's: the Python backend removes a folder there at its end
    beside = Path(tempfile.mkdtemp(dir="/var/tmp"))
    request.addfinalizer(lambda: shutil.rmtree(beside))
    victim = beside / "victim"
    victim.write_text("as it was")
    targets = (
        tmp_path / "new", beside / "new", victim, Path.home() / ".bashrc-of-an-attacker",
        repository / PROBE / "1" / "model.py", repository / "another",
        Path(sandbox.__file__), Path("/etc/cron.d/attacker"), Path("/tmp/attacker"),
    )  # fmt: skip
    for target in targets:
        told = walled.inside(f"told = open({str(target)!r}, 'a').write('mine')")
        assert told.startswith(DENIED), f"{target}: {told}"
    changes = (
        "os.unlink", "os.mkdir", "lambda path: os.rename(path, path + '-mine')", "lambda path: os.truncate(path, 0)",
        "lambda path: os.symlink('/etc', path + '-link')",
    )  # fmt: skip
    for change in changes:
        told = walled.inside(f"import os; told = ({change})({str(victim)!r})")
        assert told.startswith((*DENIED, "FileExistsError")), f"{change}: {told}"
    assert victim.read_text() == "as it was" and os.listdir(beside) == ["victim"] and os.listdir(tmp_path) == []
    own = walled.inside("import tempfile; told = tempfile.NamedTemporaryFile().write(b'mine')")
    assert own == "4"


def test_it_reads_the_models_and_what_it_runs_on_but_no_files_of_people(walled: Walled, tmp_path: Path):
    (tmp_path / "id_ed25519").write_text(SECRET)
    own = Path(f"/proc/{os.getpid()}")
    closed = (tmp_path / "id_ed25519", Path("/etc/shadow"), Path("/proc/1/environ"), own / "environ", own / "mem")
    for path in closed:
        told = walled.inside(f"told = open({str(path)!r}, 'rb').read(1)")
        assert told.startswith(DENIED), f"{path}: {told}"
    for folder in (Path.home(), Path("/var/log"), Path("/run")):
        told = walled.inside(f"import os; told = os.listdir({str(folder)!r})")
        assert told.startswith(DENIED), f"{folder}: {told}"
    for path in ("/etc/hostname", "/proc/cpuinfo", sandbox.__file__):
        assert walled.inside(f"told = len(open({path!r}).read()) > 0") == "True"


def test_it_asks_nobody_over_any_network(walled: Walled, tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(socket.AF_UNIX) as local:
        local.bind(str(tmp_path / "socket"))
        local.listen()
        listener.settimeout(0.1)
        address = listener.getsockname()
        tries = (
            f"socket.create_connection({address!r}, 1)",
            "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 53))",
            "socket.socket(socket.AF_INET6)", "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
            "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
            "socket.create_server(('0.0.0.0', 0))",
            f"socket.socket(socket.AF_UNIX).connect({str(tmp_path / 'socket')!r})",
        )
        for tried in tries:
            told = walled.inside(f"import socket; told = {tried}")
            assert told.startswith(DENIED), f"{tried}: {told}"
        with pytest.raises(TimeoutError):
            listener.accept()
    assert walled.inside("import socket; a, b = socket.socketpair(); a.send(b'x'); told = b.recv(1)") == "b'x'"


def test_it_reaches_into_no_other_process_and_not_into_the_kernel(walled: Walled):
    told = walled.inside(f"import os; told = os.kill({os.getpid()}, 0)")
    assert told.startswith(DENIED), told
    calls = {
        "ptrace": (101, 117), "unshare": (272, 97), "mount": (165, 40), "io_uring_setup": (425, 425),
        "bpf": (321, 280), "process_vm_readv": (310, 270), "keyctl": (250, 219), "pidfd_getfd": (438, 438),
    }  # fmt: skip
    numbers = {name: pair[os.uname().machine == "aarch64"] for name, pair in calls.items()}
    told = walled.inside(f"""
        import ctypes, errno
        libc = ctypes.CDLL(None, use_errno=True)
        told = []
        for name, number in {numbers!r}.items():
            if libc.syscall(number, 0, 0, 0, 0, 0, 0) != -1 or ctypes.get_errno() != errno.EPERM:
                told.append(name)
    """)
    assert told == "[]"


def test_it_makes_no_namespace_and_still_makes_threads_and_processes(walled: Walled):
    told = walled.inside(f"""
        import ctypes, errno, os
        libc = ctypes.CDLL(None, use_errno=True)
        told = {{}}
        clone = {220 if os.uname().machine == "aarch64" else 56}
        for name in ("NEWNS", "NEWCGROUP", "NEWUTS", "NEWIPC", "NEWUSER", "NEWPID", "NEWNET"):
            child = libc.syscall(clone, {CLONE!r}[name] | 17, 0, 0, 0, 0)
            if child == 0:
                os._exit(0)
            told[name] = errno.errorcode[ctypes.get_errno()] if child == -1 else "was made"
        # struct clone_args: CLONE_NEWUSER, and what is sent at its end
        arguments = (ctypes.c_uint64 * 11)({CLONE["NEWUSER"]}, 0, 0, 0, 17)
        child = libc.syscall(435, arguments, ctypes.sizeof(arguments))
        if child == 0:
            os._exit(0)
        told["clone3"] = errno.errorcode[ctypes.get_errno()] if child == -1 else "was made"
    """)
    assert told == repr({**dict.fromkeys(CLONE, "EPERM"), "clone3": "ENOSYS"})
    assert walled.inside("import subprocess; told = subprocess.run(['/bin/true']).returncode") == "0"
    threaded = "import threading; told = []; thread = threading.Thread(target=told.append, args=(1,))"
    assert walled.inside(f"{threaded}; thread.start(); thread.join()") == "[1]"


def test_afterwards_the_server_is_as_it_was(walled: Walled):
    assert walled.unharmed()
