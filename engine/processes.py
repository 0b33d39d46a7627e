"""Commands in processes of their own, which end with whoever waits for them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence

from tritonvision.errors import SetupError


@contextlib.asynccontextmanager
async def running(line: Sequence[str], stdout: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """The process of a command, whose error output is piped; it is killed when the block is cancelled or fails.

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
    except BaseException:
        with contextlib.suppress(ProcessLookupError):  # it may have ended in this moment
            process.kill()
        await process.wait()
        raise


async def end(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks, all of them before any is waited for: one of a queue would begin when the one before it ends."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
