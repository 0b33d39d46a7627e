"""The command line in the test's own process: a process of its own spends half a second on imports before its words."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest


def run_here(*arguments: object, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """``tritonvision`` with ``arguments`` in ``folder``, ended: its exit code, its output and its error output.

    For commands that end by themselves and start nothing. What only a process shows, such as signals, a terminal or
    what is imported, needs one.
    """
    from tritonvision.cli import main

    words = ["tritonvision", *map(str, arguments)]
    with (
        mock.patch.dict(os.environ, environment), mock.patch.object(sys, "argv", words), contextlib.chdir(folder),
        contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err,
        pytest.raises(SystemExit) as ended,
    ):  # fmt: skip
        main()
    return subprocess.CompletedProcess(words, ended.value.code or 0, out.getvalue(), err.getvalue())
