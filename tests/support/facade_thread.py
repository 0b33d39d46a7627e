"""A facade on a port, in a thread, over an engine that answers from memory."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from memory_engine import MemoryEngine

from tritonvision.facade import run as serve
from tritonvision.facade.app import create_app
from tritonvision.settings import Settings


@contextmanager
def facade(root: Path, key: str, **more: Any) -> Iterator[tuple[MemoryEngine, str, asyncio.AbstractEventLoop]]:
    """The engine over the repository ``root``, the facade's address, and its event loop; ``key`` is its API key.

    Args:
        more: further settings.
    """
    with serve.listen("127.0.0.1", 0) as probe:
        port = probe.getsockname()[1]
    settings = Settings(repository=root, port=port, api_key=key, **more)
    engine = MemoryEngine(root)
    started, running = threading.Event(), []

    async def main() -> None:
        running.extend((asyncio.get_running_loop(), asyncio.current_task()))
        await serve.run(create_app(engine, settings), settings, ready=started.set)

    def run() -> None:
        try:
            asyncio.run(main())
        except asyncio.CancelledError:
            pass

    thread = threading.Thread(target=run)
    thread.start()
    assert started.wait(20)
    loop, task = running
    try:
        yield engine, f"http://127.0.0.1:{port}", loop
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(20)
