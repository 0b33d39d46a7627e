"""Exports started by requests: one at a time, each a process of its own, not retried at once after a failure."""

from __future__ import annotations

import asyncio
import time

from tritonvision.commands import command, failure
from tritonvision.engine.processes import end, running
from tritonvision.errors import ModelLoading, Overloaded, SetupError, TritonVisionError, UnknownModel
from tritonvision.settings import Settings

_RETRY_AFTER = 10.0
_FAILED_FOR = 300.0
# Exports that may wait while one runs: each takes gigabytes and minutes, and any client may start one.
_MOST_WAITING = 8


class Exports:
    """Runs ``tritonvision export`` for catalogue ids that are asked for but not published."""

    def __init__(self, settings: Settings):
        self._settings = settings
        self._turn = asyncio.Semaphore(1)
        self._wanted: dict[str, asyncio.Task[None]] = {}
        self._failed: dict[str, tuple[float, TritonVisionError]] = {}

    def begin(self, model_id: str) -> None:
        """Queue the export of ``model_id``, unless it waits already or has just failed.

        Raises:
            ModelLoading: it runs, or waits for its turn.
            Overloaded: too many wait.
            UnknownModel: it failed, with its own sentence.
        """
        failed_at, why = self._failed.get(model_id, (-_FAILED_FOR, TritonVisionError()))
        if time.monotonic() - failed_at < _FAILED_FOR:
            raise UnknownModel(
                f"'{model_id}' is not published here, and its export failed: {why.message}",
                hint=why.hint or f"Try: tritonvision export {model_id}",
            )
        if model_id not in self._wanted:
            if len(self._wanted) > _MOST_WAITING:
                raise Overloaded(
                    f"'{model_id}' is not published here, and {_MOST_WAITING} exports wait already.",
                    hint=f"Try: tritonvision export {model_id}", retry_after=6 * _RETRY_AFTER,
                )  # fmt: skip
            task = self._wanted[model_id] = asyncio.create_task(self._export(model_id))
            task.add_done_callback(lambda _: self._wanted.pop(model_id, None))
        state = "is being exported" if next(iter(self._wanted)) == model_id else "waits to be exported"
        raise ModelLoading(f"'{model_id}' {state}.", retry_after=_RETRY_AFTER)

    async def close(self) -> None:
        """Stop running exports; an unfinished export publishes nothing."""
        await end(self._wanted.values())

    async def _export(self, model_id: str) -> None:
        async with self._turn:
            # somebody waits for the answer: other engines are tried by 'tritonvision variants', not here
            how = "--engine", "onnxruntime", "--repository", str(self._settings.repository)
            try:
                async with running(command("export", model_id, *how), asyncio.subprocess.DEVNULL) as process:
                    _, said = await process.communicate()
            except SetupError as why:
                self._failed[model_id] = time.monotonic(), why
                return
        if process.returncode:
            self._failed[model_id] = time.monotonic(), failure(process.returncode, said.decode("utf-8", "replace"))
