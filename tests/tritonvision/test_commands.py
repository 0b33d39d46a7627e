"""Commands of ours as processes of their own: they end with us, and the current folder brings them no modules."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from tritonvision.commands import END_WITH_US, command

PARENT = """
import subprocess, sys, time
child = subprocess.Popen([*sys.argv[1:], sys.executable, "-c", "print('up', flush=True); import time; time.sleep(60)"],
                         stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(60)
"""


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_command_ends_with_the_process_that_began_it():
    parent = subprocess.Popen([sys.executable, "-c", PARENT, *END_WITH_US], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    assert runs(child)
    parent.kill()
    parent.wait()
    end = time.monotonic() + 20
    while runs(child) and time.monotonic() < end:
        time.sleep(0.01)
    assert not runs(child)


def test_the_current_folder_brings_no_modules(tmp_path):
    (tmp_path / "token.py").write_text("raise SystemExit('a module of the current folder')")
    done = subprocess.run(command("--version"), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
