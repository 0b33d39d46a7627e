"""Threads for work on one request that would block the event loop."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from tritonvision.cgroups import cores

T = TypeVar("T")

# Larger bodies are parsed and checked in a thread, bytes.
LARGE = 256 * 1024
# A pool of its own, so that health checks and loads do not wait behind drawings; small, because each thread may hold
# several copies of a picture.
_POOL = ThreadPoolExecutor(min(4, cores()), thread_name_prefix="request-work")


async def in_thread(work: Callable[..., T], *arguments: Any, **options: Any) -> T:
    """The result of ``work``, run in a thread; not started if the request was cancelled while it waited."""
    call = functools.partial(work, *arguments, **options)
    return await asyncio.get_running_loop().run_in_executor(_POOL, call)
