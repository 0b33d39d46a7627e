"""Threads for work on one request that would keep the event loop from all others."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")

# Bytes above which reading them is such work.
LARGE = 256 * 1024
# Their own, so that health checks and whoever loads a model do not wait behind drawings; few, because each may hold
# several copies of a picture.
_POOL = ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="request-work")


async def in_thread(work: Callable[..., T], *arguments: Any, **options: Any) -> T:
    """What ``work`` returns, done in a thread. It is not begun for a request that was cancelled while it waited."""
    call = functools.partial(work, *arguments, **options)
    return await asyncio.get_running_loop().run_in_executor(_POOL, call)
