"""The machine of a measurement, printed above every table."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path


def describe(*packages: str) -> str:
    """One line: processor, cores, Python and package versions."""
    info = Path("/proc/cpuinfo").read_text()
    model = next((line.split(":", 1)[1].strip() for line in info.splitlines() if "model name" in line), "unknown CPU")
    names = ("numpy", "opencv-python-headless", "onnxruntime", "nvidia-pytriton", *packages)
    versions = ", ".join(f"{name} {_version(name)}" for name in names if _version(name))
    return f"{model}, {os.cpu_count()} cores, no GPU; Python {platform.python_version()}, {versions}"


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
