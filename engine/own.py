"""An engine on a tritonserver of its own, for as long as a piece of work takes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tritonvision.engine.engine import Engine
    from tritonvision.settings import Settings


@asynccontextmanager
async def own_engine(settings: Settings) -> AsyncIterator[Engine]:
    """``async with`` an engine on a tritonserver of its own; models that are not published stay unpublished."""
    from tritonvision.engine.engine import Engine
    from tritonvision.server import Embedded

    settings = settings.model_copy(update={"export_missing": False})
    server = Embedded(settings)
    try:
        await asyncio.to_thread(server.start)
        engine = Engine(settings, server)
        await engine.start()
        try:
            yield engine
        finally:
            await engine.close()
    finally:  # also after Ctrl-C, so that no server is left running
        await asyncio.to_thread(server.stop)
