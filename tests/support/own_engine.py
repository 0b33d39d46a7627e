"""An engine of its own for one piece of work, in an event loop of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tritonvision.engine.engine import Engine
from tritonvision.server import Embedded
from tritonvision.settings import Settings

T = TypeVar("T")


def with_engine(settings: Settings, server: Embedded, work: Callable[[Engine], Awaitable[T]]) -> T:
    """What ``work(engine)`` gives; the engine asks ``server``."""

    async def main() -> T:
        engine = Engine(settings, server)
        await engine.start()
        try:
            return await work(engine)
        finally:
            await engine.close()

    return asyncio.run(main())
