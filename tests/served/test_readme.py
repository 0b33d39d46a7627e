"""The lines of the README that a shell runs against a running server, run."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
ADDRESS = "http://localhost:9001"
CURLS = re.findall(r"^curl -.+$", README.read_text(), re.MULTILINE)


def test_the_readme_asks_with_curl():
    assert len(CURLS) == 2 and all(ADDRESS in line for line in CURLS)


@pytest.mark.parametrize("line", CURLS)
def test_a_curl_line_gets_an_answer(server_url, photo, tmp_path, line):
    (tmp_path / "photo.jpg").write_bytes(photo)
    asked = [*shlex.split(line.replace(ADDRESS, server_url)), "--fail-with-body", "-sS"]
    done = subprocess.run(asked, capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)
