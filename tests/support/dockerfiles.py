"""The Dockerfiles of docker/, read."""

from __future__ import annotations

import re
from pathlib import Path

TREE = Path(__file__).parents[2]
IMAGES = {path.name.split(".")[0]: path.read_text() for path in sorted((TREE / "docker").glob("*.Dockerfile"))}


def instructions(image: str) -> list[str]:
    """Without comments; lines that a backslash continues are one."""
    lines = "\n".join(line for line in IMAGES[image].splitlines() if not line.lstrip().startswith("#"))
    return [re.sub(r"\s+", " ", line) for line in lines.replace("\\\n", " ").splitlines() if line.strip()]


def arguments(image: str) -> dict[str, str]:
    """Those at the head, before the first stage."""
    head = IMAGES[image].split("\nFROM ")[0]
    return {name: value.strip('"') for name, value in re.findall(r"^ARG (\w+)=(.+)$", head, re.M)}
