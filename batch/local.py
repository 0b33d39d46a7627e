"""The driver of a batch on this machine: one worker, with a tritonserver that uses all of the machine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from tritonvision.batch.folder import Folder
from tritonvision.batch.job import Job, Plan
from tritonvision.batch.parts import Done
from tritonvision.batch.worker import Server, Worker, ask_of, connected

SHARDS = 2  # that a worker has under way: one begins while the last pictures of another are being answered


async def run(
    job: Job, folder: Folder, plan: Plan, todo: Sequence[int], server: Server, report: Callable[[Done], None],
    say: Callable[[str], None],
) -> None:  # fmt: skip
    """Answer the shards ``todo``.

    Args:
        report: told each shard that is written.
        say: told in a sentence what is waited for.

    Raises:
        As :meth:`Worker.run`, and what loading the model raises.
    """
    shards = iter(todo)
    async with connected(server, say) as connection:
        facts = await connection.facts(job.model)
        worker = Worker(job, folder, server, ask_of(connection, facts, job), facts)

        async def answer() -> None:
            for shard in shards:
                report(await worker.run(shard, plan.names(shard)))

        answering = [asyncio.create_task(answer()) for _ in range(SHARDS)]
        try:
            await asyncio.gather(*answering)
        finally:
            for task in answering:
                task.cancel()
            await asyncio.gather(*answering, return_exceptions=True)
