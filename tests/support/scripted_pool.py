"""A pool over scripted tritonservers, and who of them answers."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager

from manifests import manifest_of
from scripted_triton import ScriptedTriton

from tritonvision.endpoint import Endpoint
from tritonvision.engine import codec
from tritonvision.engine.endpoints import Members
from tritonvision.engine.pool import Pool, PoolControl

MODEL = "eyes"


def question(model: str = MODEL, sequence: codec.SequenceStep | None = None):
    return codec.encode_tensors(model, {}, sequence=sequence)


async def until(condition, seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def pool_of(*servers: ScriptedTriton | str, resolve=None):
    """A started pool of servers; their looks find the model of the tests."""
    targets = [Endpoint(server if isinstance(server, str) else server.address) for server in servers]
    members = Members(targets, resolve) if resolve else Members(targets)
    pool, control = Pool(members), PoolControl(members)
    members.wanted[MODEL], members.published[MODEL] = None, manifest_of(MODEL, "classification")
    await pool.start()
    pool.control = control
    try:
        yield pool
    finally:
        control.close()
        await pool.close()


def member_of(pool: Pool, server: ScriptedTriton):
    return next(member for member in pool._members if member.endpoint.target == server.address)


async def answerers(pool: Pool, count: int, **options) -> Counter:
    """Who answered so many questions, one after another."""
    return Counter([(await pool.forward(question(), 5.0, **options)).id for _ in range(count)])
