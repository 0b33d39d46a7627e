"""What ``make bench`` does: the figures of this machine, printed as tables, and each table as a picture.

    python benchmarks/bench.py --repository DIR --pictures FOLDER [--only faces speed ...]

Each script is a process of its own. What it prints is in ``FOLDER/<script>.md``, beside its pictures.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import charts

SCRIPTS = ("faces", "speed", "facade_cpu", "start_and_memory", "healing")


def main() -> None:
    """Print the tables, and say where the pictures are. Ends with 1 where a script failed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--only", nargs="*", choices=SCRIPTS, default=SCRIPTS)
    given = parser.parse_args()
    given.pictures.mkdir(parents=True, exist_ok=True)
    failed = []
    for script in given.only:
        printed = run(script, given.repository)
        if printed is None:
            failed.append(script)
            continue
        (given.pictures / f"{script}.md").write_text(printed, encoding="utf-8")
        for path in charts.write(printed, given.pictures, script):
            print(path)
    if failed:
        raise SystemExit(f"Failed: {', '.join(failed)}.")


def run(script: str, repository: Path) -> str | None:
    """What a script prints, line by line while it does; None where it failed."""
    command = [sys.executable, "-u", str(Path(__file__).with_name(f"{script}.py")), "--repository", str(repository)]
    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None, "it is a pipe"
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    return "".join(lines) if process.returncode == 0 else None


if __name__ == "__main__":
    main()
