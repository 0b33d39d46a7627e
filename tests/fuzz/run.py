"""Fuzzes the parsers of tests/support/fuzz_targets.py, guided by coverage (libFuzzer): ``make fuzz SECONDS=60``.

One process a parser, one after another. Prints a row for each and ends with 1 where something was found; the bytes of
a finding stay in ``.cache/fuzz/``, and ``python tests/fuzz/run.py --again FILE --only PARSER`` shows it once more.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

TREE = Path(__file__).parents[2]
FOUND = TREE / ".cache" / "fuzz"
LONGEST = 4096  # bytes of an input
HANGS, MEMORY = 10, 4096  # seconds, and MB of the process, from which on an input is a finding
_RUN = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
_LAST = re.compile(r"#(\d+)\s")


def fuzz(name: str, arguments: list[str]) -> None:
    """Fuzz one parser in this process, until libFuzzer ends it."""
    import atheris

    sys.path.insert(0, str(TREE / "tests" / "support"))
    with atheris.instrument_imports(include=["tritonvision", "pickletools", "flatbuffers", "fuzz_targets"]):
        from fuzz_targets import TARGETS
    target = TARGETS[name]
    corpus = FOUND / name.replace(" ", "-").lstrip(".")
    corpus.mkdir(parents=True, exist_ok=True)
    for i, seed in enumerate(target.seeds()):
        (corpus / f"seed-{i}").write_bytes(seed)
    files = [] if any(Path(argument).is_file() for argument in arguments) else [str(corpus)]
    atheris.Setup([sys.argv[0], *arguments, *files], target.read)
    atheris.Fuzz()


def told(name: str, seconds: int) -> tuple[int, int, str]:
    """(inputs that were run, findings, the last line of the first finding) of one parser."""
    began, runs, findings, first = time.monotonic(), 0, 0, ""
    while (left := int(began + seconds - time.monotonic())) > 0:
        done = subprocess.run(
            [sys.executable, "-P", __file__, "--child", "--only", name, "--", f"-max_total_time={left}",
             f"-max_len={LONGEST}", f"-timeout={HANGS}", f"-rss_limit_mb={MEMORY}", "-print_final_stats=1",
             f"-artifact_prefix={FOUND}/{name.replace(' ', '-').lstrip('.')}-"],
            cwd=TREE, capture_output=True, text=True, errors="replace", check=False,
        )  # fmt: skip
        output = done.stdout + done.stderr
        counted = _RUN.findall(output) or _LAST.findall(output) or ["0"]
        runs += int(counted[-1])
        if done.returncode == 0:
            break
        findings += 1
        first = first or _sentence(output)
        if findings >= 3:
            break
    return runs, findings, first


def _sentence(output: str) -> str:
    """What was found, in a line."""
    lines = [line.strip() for line in output.splitlines()]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b|SUMMARY|==\d+== ERROR", line)]
    return (named or lines or [""])[0][:150]


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each parser")
    parser.add_argument("--only", help="one parser")
    parser.add_argument("--again", type=Path, help="the bytes of a finding, read once more")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs="*", help=argparse.SUPPRESS)
    given = parser.parse_args()
    sys.path.insert(0, str(TREE / "tests" / "support"))
    if given.child:
        fuzz(given.only, given.arguments)
    from fuzz_targets import TARGETS

    if given.again:
        TARGETS[given.only].read(given.again.read_bytes())
        print("It is read or refused.")
        return 0
    print("| parser | inputs | findings | |\n|---|---|---|---|", flush=True)
    failed = False
    for name in [given.only] if given.only else TARGETS:
        runs, findings, first = told(name, given.seconds)
        failed |= findings > 0 or not runs
        print(f"| {name} | {runs:,} | {findings} | {first} |", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
