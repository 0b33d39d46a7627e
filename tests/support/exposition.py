"""Prometheus' text format read line by line, with the names that stand there.

The parser of prometheus_client renames counters without ``_total``, as Triton's are; Prometheus does not.
"""

from __future__ import annotations

import re

_SAMPLE = re.compile(r"(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def samples(text: str) -> list[tuple[str, dict[str, str], float]]:
    """Every sample: its name, its labels, its value."""
    found = []
    for line in text.splitlines():
        if line and not line.startswith("#"):
            told = _SAMPLE.fullmatch(line)
            assert told, line
            found.append((told["name"], dict(_LABEL.findall(told["labels"] or "")), float(told["value"])))
    return found
