"""Which tritonserver has the security fixes that were published up to this version of ours."""

from __future__ import annotations

import re

SAFE_LINE = "r26.07"  # as NVIDIA names its releases and containers
_SAFE_VERSION = (2, 71)  # what Triton says of itself there


def has_fixes(version: str | None) -> bool | None:
    """Whether a tritonserver of this version has them; None where it does not tell its version."""
    numbers = re.match(r"(\d+)\.(\d+)", version or "")
    return None if numbers is None else (int(numbers[1]), int(numbers[2])) >= _SAFE_VERSION


def described(version: str) -> str:
    """What doctor and ``serve`` say of the version, without a judgement of what it is exposed to."""
    fixes = f"the security fixes published up to {SAFE_LINE} ({'.'.join(map(str, _SAFE_VERSION))})"
    return f"{version} has {fixes}" if has_fixes(version) else f"{version} is older than {fixes}"
