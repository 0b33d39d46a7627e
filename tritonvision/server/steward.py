"""The process that others know by its id, after its work was handed on: passes signals on, ends as its worker ends.

A program of its own, of the standard library alone: ``python steward.py PID`` of the process that serves. A worker that
takes over says so with SIGUSR1. Workers of later handovers become its children when their parents end, prctl(2).
"""

import ctypes
import os
import signal
import sys

_PR_SET_CHILD_SUBREAPER = 36
_PASSED_ON = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2}
_HEARD = {*_PASSED_ON, signal.SIGCHLD, signal.SIGUSR1}


def main(worker: int) -> int:
    """Serve until no child is left; the exit status is that of the last ``worker``."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    signal.pthread_sigmask(signal.SIG_SETMASK, _HEARD)
    ended: dict[int, int] = {}
    former: set[int] = set()
    while _children_left(ended):
        heard = signal.sigwaitinfo(_HEARD)
        if heard.si_signo == signal.SIGUSR1:
            former.add(worker)
            worker = heard.si_pid
        elif heard.si_signo in _PASSED_ON:
            asked = {worker} if heard.si_signo == signal.SIGUSR2 else {worker, *former}
            for pid in asked - ended.keys():
                _send(pid, heard.si_signo)
    status = ended.get(worker, 1)
    return status if status >= 0 else 128 - status


def _children_left(ended: dict[int, int]) -> bool:
    """Whether a child runs; those that ended are added to ``ended`` with their status."""
    try:
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return True
            ended[pid] = os.waitstatus_to_exitcode(status)
    except ChildProcessError:
        return False


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:  # it ends just now
        pass


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
