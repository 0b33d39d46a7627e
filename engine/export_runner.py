"""Exports that a request set off: each runs as a process of its own, and is not tried again at once when it failed."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time

from tritonvision.errors import ModelLoading, UnknownModel
from tritonvision.settings import Settings

_RETRY_AFTER = 10.0
_FAILED_FOR = 300.0


class Exports:
    """Runs ``tritonvision export`` for catalogue ids that are asked for but not published."""

    def __init__(self, settings: Settings):
        self._settings = settings
        self._running: dict[str, asyncio.Task[None]] = {}
        self._failed: dict[str, tuple[float, str]] = {}

    def begin(self, model_id: str) -> None:
        """Start the export of ``model_id`` unless it runs or has just failed.

        Raises:
            ModelLoading: it runs.
            UnknownModel: it failed, with its own sentence.
        """
        failed_at, why = self._failed.get(model_id, (-_FAILED_FOR, ""))
        if time.monotonic() - failed_at < _FAILED_FOR:
            raise UnknownModel(
                f"'{model_id}' is not published here, and its export failed: {why}",
                hint=f"Try: tritonvision export {model_id}",
            )
        if model_id not in self._running:
            task = self._running[model_id] = asyncio.create_task(self._export(model_id))
            task.add_done_callback(lambda _: self._running.pop(model_id, None))
        raise ModelLoading(f"'{model_id}' is being exported.", retry_after=_RETRY_AFTER)

    async def close(self) -> None:
        """End what still runs; an unfinished export publishes nothing."""
        for task in list(self._running.values()):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _export(self, model_id: str) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tritonvision", "export", model_id, "--repository", str(self._settings.repository),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            _, complaint = await process.communicate()
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        if process.returncode:
            lines = complaint.decode("utf-8", "replace").strip().splitlines()
            self._failed[model_id] = time.monotonic(), (lines[0] if lines else "no reason given")[:300]
