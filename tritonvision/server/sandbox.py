"""Confines this process by what the kernel offers, and becomes a command: ``python -I -S sandbox.py RULES COMMAND...``.

It is run as a file, in a process of its own, because code between fork and exec would run into gRPC's fork handlers; so
it imports the standard library alone. What it does holds for the command and all that the command starts:

* no new privileges, prctl(2); of root's capabilities only the one to read what others own, capabilities(7);
* Landlock, landlock(7): of files only those that RULES name can be read, written, or used as a device; no TCP port is
  opened or connected to; no process outside is signalled, nor its memory or environment read;
* seccomp(2): sockets are Unix sockets, none connects, and calls that reach into other processes or the kernel fail.

A kernel without one of them does without it; ``report`` of RULES is where the ones that hold are written.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import struct
import sys
from contextlib import suppress
from dataclasses import dataclass

_LIBC = ctypes.CDLL(None, use_errno=True)

# prctl(2), landlock(7); the numbers of Landlock's calls are the same on every processor
_PDEATHSIG, _SECCOMP, _CAPBSET_DROP, _NO_NEW_PRIVS = 1, 22, 24, 38
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE, _IOCTL_DEV = 1 << 1, 1 << 2, 1 << 3, 1 << 14, 1 << 15
_CHANGE_FOLDER = sum(1 << bit for bit in range(4, 14))  # remove, make, rename between folders
_READ = _READ_FILE | _READ_DIR
_FOLDERS = _READ_DIR | 1 << 4 | 1 << 5 | 1 << 7  # remove what is there, make folders; remove(3) unlinks at first
_DEVICE = _READ_FILE | _WRITE_FILE | _IOCTL_DEV
_WRITE = _READ | _WRITE_FILE | _TRUNCATE | _CHANGE_FOLDER
_OF_FILES = _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV  # rights that a rule for a file can give
_SINCE = {1 << 13: 2, _TRUNCATE: 3, _IOCTL_DEV: 5}  # right -> the version of Landlock that has it, 1 for the others
_KEPT_CAPABILITY = 2  # CAP_DAC_READ_SEARCH: a repository may belong to another user than root

# machine -> its name in a filter; then the numbers of calls on each, in this order
_MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_SOCKET, _CONNECT, _FCHMOD, _CLONE, _CLONE3 = (41, 198), (42, 203), (91, 52), (56, 220), (435, 435)
_REFUSED = {  # what no model needs, and what leads out of the sandbox or deep into the kernel
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "unshare": (272, 97),
    "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430), "io_uring_setup": (425, 425),
    "open_by_handle_at": (304, 265), "kexec_load": (246, 104), "kexec_file_load": (320, 294),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106), "bpf": (321, 280),
    "perf_event_open": (298, 241), "pidfd_getfd": (438, 438), "add_key": (248, 217), "request_key": (249, 218),
    "keyctl": (250, 219),
}  # fmt: skip
# flags of clone(2): CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
_NAMESPACES = 0x7E020000
_AF_UNIX, _EPERM, _ENOSYS, _EAFNOSUPPORT = 1, 1, 38, 97
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06


@dataclass(frozen=True)
class Rules:
    """What the confined processes may reach.

    Attributes:
        read: files and folders with all that is in them.
        write: folders in which anything may be done, reading included.
        folders: in which folders may be made, names listed and removed, but no file made, read or written.
        devices: device files.
        connect: whether Unix sockets of others may be connected to.
        report: a file for the names of the walls that hold, a JSON list; empty for none.
    """

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    connect: bool = False
    report: str = ""


def landlock_version() -> int:
    """The version of the kernel's Landlock; 0 where it has none or it is off."""
    return max(_LIBC.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1), 0)


def seccomp_here() -> bool:
    """Whether the kernel takes filters, and this module knows the numbers of this processor's calls."""
    return platform.machine() in _MACHINES and os.path.exists("/proc/sys/kernel/seccomp/actions_avail")


def confine(rules: Rules) -> list[str]:
    """Put this process, which has one thread, behind every wall there is. Returns the names of those that hold."""
    held = []
    if _LIBC.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0) == 0:
        held.append("no_new_privs")
    if _drop_capabilities():
        held.append("capabilities")
    if _restrict_files(rules):
        held.append("landlock")
    if _restrict_calls(rules):
        held.append("seccomp")
    return held


def _drop_capabilities() -> bool:
    for capability in range(64):
        if capability != _KEPT_CAPABILITY:
            _LIBC.prctl(_CAPBSET_DROP, capability, 0, 0, 0)  # fails for who has none, and beyond the last
    header = struct.pack("Ii", 0x20080522, 0)
    sets = ctypes.create_string_buffer(24)
    if _LIBC.capget(header, sets) != 0:
        return False
    kept = struct.unpack("6I", sets.raw)[1] & 1 << _KEPT_CAPABILITY
    return _LIBC.capset(header, struct.pack("6I", kept, kept, 0, 0, 0, 0)) == 0


def _restrict_files(rules: Rules) -> bool:
    version = landlock_version()
    if not version:
        return False
    handled = _WRITE | _IOCTL_DEV
    for right, since in _SINCE.items():
        if version < since:
            handled &= ~right
    # TCP from version 4 on, abstract sockets and signals from 6 on; a kernel takes no fields that it does not know
    fields = [handled] + [3] * ((version >= 4) + (version >= 6))
    attributes = struct.pack(f"{len(fields)}Q", *fields)
    ruleset = _LIBC.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    if ruleset < 0:
        return False
    try:
        granted = ((rules.read, _READ), (rules.write, _WRITE), (rules.folders, _FOLDERS), (rules.devices, _DEVICE))
        for paths, rights in granted:
            for path in paths:
                _add(ruleset, path, rights & handled)
        return _LIBC.syscall(_RESTRICT_SELF, ruleset, 0) == 0
    finally:
        os.close(ruleset)


def _add(ruleset: int, path: str, rights: int) -> None:
    with suppress(OSError):  # it is not there, so it need not be reached
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            if not os.path.isdir(path):
                rights &= _OF_FILES
            _LIBC.syscall(_ADD_RULE, ruleset, 1, struct.pack("=Qi", rights, descriptor), 0)
        finally:
            os.close(descriptor)


def _restrict_calls(rules: Rules | None) -> bool:
    machine = platform.machine()
    if machine not in _MACHINES:
        return False
    program = _program(machine, rules)
    code = ctypes.create_string_buffer(program)
    # struct sock_fprog: how many instructions of 8 bytes, and where they are
    return _LIBC.prctl(_SECCOMP, 2, struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(code)), 0, 0) == 0


def _program(machine: str, rules: Rules | None) -> bytes:
    """The filter, in the kernel's instructions: (code, how many to skip if so, if not so, number)."""
    here = list(_MACHINES).index(machine)
    others = _ALLOW if rules is None else _ERRNO | _ENOSYS  # calls by the numbers of another processor
    steps = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, _MACHINES[machine]), (_RETURN, 0, 0, others), (_LOAD, 0, 0, 0)]
    # Triton's library gives each region of shared memory the mode 0644, whatever the umask: that does nothing.
    steps += [
        (_EQUAL, 0, 4, _FCHMOD[here]), (_LOAD, 0, 0, 24), (_EQUAL, 0, 1, 0o644), (_RETURN, 0, 0, _ERRNO),
        (_RETURN, 0, 0, _ALLOW),
    ]  # fmt: skip
    if rules is not None:
        steps += [(_AT_LEAST, 0, 1, 0x40000000), (_RETURN, 0, 0, _ERRNO | _ENOSYS)]  # x32 has other numbers
        refused = [numbers[here] for numbers in _REFUSED.values()]
        for number in refused if rules.connect else [*refused, _CONNECT[here]]:
            steps += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERRNO | _EPERM)]
        # clone3(2) has its flags in memory, where no filter looks: without it, libraries take clone(2).
        steps += [(_EQUAL, 0, 1, _CLONE3[here]), (_RETURN, 0, 0, _ERRNO | _ENOSYS)]
        steps += [
            (_EQUAL, 0, 4, _CLONE[here]), (_LOAD, 0, 0, 16), (_ANY_BIT, 0, 1, _NAMESPACES),
            (_RETURN, 0, 0, _ERRNO | _EPERM), (_RETURN, 0, 0, _ALLOW),
        ]  # fmt: skip
        steps += [
            (_EQUAL, 0, 3, _SOCKET[here]), (_LOAD, 0, 0, 16), (_EQUAL, 1, 0, _AF_UNIX),
            (_RETURN, 0, 0, _ERRNO | _EAFNOSUPPORT),
        ]  # fmt: skip
    return b"".join(struct.pack("HBBI", *step) for step in [*steps, (_RETURN, 0, 0, _ALLOW)])


def main() -> None:
    """End with the process that began this one, confine this one, become the command.

    RULES may be ``null``: then what the command creates is for its user alone, as always, and that is all.
    """
    _LIBC.prctl(_PDEATHSIG, 9)
    os.umask(0o077)  # shared memory with pictures and answers would be readable by every user of the machine
    given = json.loads(sys.argv[1])
    if given is None:
        _LIBC.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)  # without which no filter is taken
        _restrict_calls(None)
    else:
        rules = Rules(**given)
        report = os.open(rules.report, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600) if rules.report else None
        held = confine(rules)
        if report is not None:
            os.write(report, json.dumps(held).encode())
    os.execv(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
