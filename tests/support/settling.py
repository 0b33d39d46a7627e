"""Waiting for what happens in other processes."""

from __future__ import annotations

import time
from collections.abc import Callable


def settles(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Whether ``condition`` comes to hold."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return False
