"""The table of ``make attacks``: which kinds of holes were tried, where, and whether each try was held off.

As a pytest plugin (``-p attack_table --attacks-to FILE``) it writes what each test marked ``attack(kind)`` came to; run
as a program with such files it prints the table in Markdown, and ends with 1 where a try was not held off, or nothing
of a kind was tried. A test may add a figure of its own with ``record_property("figure", "0.2 s")``.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# What was attacked, by the folder of the test; all else is the facade.
_PLACES = {
    "tests/attacks/server": "tritonserver", "tests/server": "tritonserver", "tests/exporters": "exports",
    "tests/python_backend": "models",
}  # fmt: skip


class Record:
    """Collects the outcomes of marked tests and writes them when the session ends."""

    def __init__(self, path: Path):
        self._path = path
        self._rows: list[dict[str, Any]] = []

    def pytest_runtest_logreport(self, report: Any) -> None:
        """One phase of a test; a set-up or clean-up counts only where it fails or skips."""
        said = dict(report.user_properties)
        if "attack" in said and (report.when == "call" or not report.passed):
            where = next((place for folder, place in _PLACES.items() if report.nodeid.startswith(folder)), "facade")
            self._rows.append({
                "kind": said["attack"], "where": where, "outcome": report.outcome, "seconds": report.duration,
                "test": report.nodeid, "figure": said.get("figure", ""),
            })  # fmt: skip

    def pytest_sessionfinish(self) -> None:
        """Write the file."""
        self._path.write_text(json.dumps(self._rows))


def pytest_addoption(parser: Any) -> None:
    """``--attacks-to FILE``."""
    parser.addoption("--attacks-to", type=Path, help="write the outcomes of tests marked 'attack' to this file")


def pytest_configure(config: Any) -> None:
    """Record where a file was named; processes of pytest-xdist report to the one that began them."""
    path = config.getoption("--attacks-to")
    if path is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Record(path))


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """Let each report of a marked test tell its kind."""
    for item in items:
        marker = item.get_closest_marker("attack")
        if marker is not None:
            item.user_properties.append(("attack", marker.args[0]))


def table(rows: Iterable[dict[str, Any]]) -> tuple[list[str], bool]:
    """The lines of the table, and whether something of every kind was tried and each try was held off."""
    groups = defaultdict(list)
    for row in rows:
        groups[row["kind"], row["where"]].append(row)
    tried = {kind for (kind, _), found in groups.items() if any(row["outcome"] == "passed" for row in found)}
    lines = [_line("kind of hole", "where", "tries", "held", "longest", ""), "|---|---|---|---|---|---|"]
    for (kind, where), found in sorted(groups.items()):
        outcomes = [row["outcome"] for row in found]
        notes = list(dict.fromkeys(row["figure"] for row in found if row["figure"]))
        notes += [f"{outcomes.count('skipped')} skipped"] if "skipped" in outcomes else []
        notes += [f"FAILED {row['test']}" for row in found if row["outcome"] == "failed"]
        longest = max(row["seconds"] for row in found)
        lines.append(_line(kind, where, len(found), outcomes.count("passed"), f"{longest:.1f} s", "; ".join(notes)))
    held = all(row["outcome"] != "failed" for found in groups.values() for row in found)
    return lines, held and bool(groups) and tried == {kind for kind, _ in groups}


def _line(*cells: object) -> str:
    return f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |"


def main(paths: list[str]) -> int:
    """Print the table of these files. Returns the status to end with."""
    lines, well = table(row for path in paths for row in json.loads(Path(path).read_text()))
    print(*lines, "", sep="\n")
    print("Every try was held off." if well else "Not every kind was tried and held off.")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
