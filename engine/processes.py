"""A command in a process of its own, which ends with whoever waits for it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from tritonvision.errors import SetupError


@contextlib.asynccontextmanager
async def running(line: Sequence[str], stdout: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """The process of a command, whose error output is piped; it is killed when the block is cancelled.

    Raises SetupError when none can be started.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *line, stdin=asyncio.subprocess.DEVNULL, stdout=stdout, stderr=asyncio.subprocess.PIPE
        )
    except OSError as error:
        raise SetupError(f"No process can be started for it: {error.strerror}.") from error
    try:
        yield process
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):  # it may have ended in this moment
            process.kill()
        await process.wait()
        raise
