"""A worker: answers shards with a tritonserver of its own, or a running server, and writes their parts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

from tritonvision import tasks
from tritonvision.batch import parts
from tritonvision.batch.answers import to_json
from tritonvision.batch.folder import Folder
from tritonvision.batch.job import Job
from tritonvision.batch.sources import read_pictures
from tritonvision.client.connections import Connection, EngineConnection
from tritonvision.engine.facts import Facts
from tritonvision.engine.own import own_engine
from tritonvision.errors import (
    DeadlineExceeded,
    InvalidPicture,
    ModelLoading,
    Overloaded,
    PictureTooLarge,
    ServerUnavailable,
    SetupError,
    TritonVisionError,
)
from tritonvision.results import Result
from tritonvision.settings import Settings

_OF_THE_PICTURE = (InvalidPicture, PictureTooLarge)
_OF_THE_SERVER = (ServerUnavailable, DeadlineExceeded)
_LATER = (ModelLoading, Overloaded)  # what passes by itself
_TRIES = 5  # of a picture that the server could not answer
_PATIENCE = 900.0  # seconds to wait for room or for a model
_MOST_IN_A_ROW = 20  # pictures that the server could not answer: then it is the server, not the pictures
_DEADLINE = 600.0  # nobody waits for a single answer

_sleep = asyncio.sleep

Ask = Callable[[bytes], Awaitable[Result]]


@dataclass(frozen=True)
class Server:
    """Who answers.

    Attributes:
        settings: of a tritonserver of the worker's own.
        url, api_key: of a server that runs already; None for one of the worker's own.
        at_once: pictures that a worker has under way.
    """

    settings: Settings
    url: str | None = None
    api_key: str | None = None
    at_once: int = 16


@asynccontextmanager
async def connected(server: Server, say: Callable[[str], None]) -> AsyncIterator[Connection]:
    """``async with`` a connection to ``server``, started where it is the worker's own.

    Raises:
        SetupError: none can be started here. ServerUnavailable: none answers.
    """
    if server.url is not None:
        from tritonvision.client.remote.connection import FacadeConnection

        connection = await FacadeConnection(server.url, server.api_key, say).open()
        try:
            yield connection
        finally:
            await connection.close()
        return
    deadline = max(server.settings.deadline, _DEADLINE)
    async with own_engine(server.settings.model_copy(update={"deadline": deadline})) as engine:
        yield EngineConnection(engine, say)


def ask_of(connection: Connection, facts: Facts, job: Job) -> Ask:
    """The question of ``job`` about one encoded picture."""
    if job.task != tasks.VLM.name:

        async def infer(picture: bytes) -> Result:
            (result,) = await connection.infer(facts, [picture], job.settings)
            return result

        return infer

    async def write(picture: bytes) -> Result:
        said = connection.chat(facts, tasks.about_picture(job.prompt), [picture], job.settings)
        async with aclosing(said):
            return "".join([delta.text async for delta in said])

    return write


class Worker:
    """Answers the shards of a job.

    Args:
        ask: the question about one picture.
        facts: of the model that answers.

    Raises:
        SetupError: the model is not the one that the job was begun with.
    """

    def __init__(self, job: Job, folder: Folder, server: Server, ask: Ask, facts: Facts):
        if facts.fingerprint != job.model_hash:
            raise SetupError(
                f"'{job.model}' is another one there than where the batch was begun.",
                hint="Let all workers read the same model repository.",
            )
        self._job, self._folder, self._server, self._ask, self._facts = job, folder, server, ask, facts
        named = job.settings.get("texts") if job.task == tasks.OPEN_VOCABULARY.name else None
        self._labels = tuple(named or facts.labels)
        self._in_a_row = 0
        self._gate = asyncio.Semaphore(server.at_once)  # of all shards together

    async def run(self, shard: int, names: list[str]) -> parts.Done:
        """Answer the pictures ``names`` and write their part.

        Raises:
            ServerUnavailable, DeadlineExceeded, Overloaded, ...: the server cannot go on; nothing was written.
            SetupError: the source cannot be read, or the folder not written.
        """
        rows = await self._rows(names)
        return await asyncio.to_thread(parts.write, self._folder, self._job, self._facts.precision, shard, rows)

    async def _rows(self, names: list[str]) -> list[parts.Row]:
        pictures = read_pictures(names, self._server.settings, self._job.column)
        under_way: list[asyncio.Task[parts.Row]] = []
        failed: list[TritonVisionError] = []

        async def row(name: str, read: Callable[[], bytes]) -> parts.Row:
            try:
                return await self._row(name, read)
            except TritonVisionError as error:
                failed.append(error)
                raise
            finally:
                self._gate.release()

        try:
            for name in names:
                await self._gate.acquire()
                if failed:
                    break
                read = await asyncio.to_thread(next, pictures, None)
                if read is None:
                    raise SetupError("The source has fewer pictures than when the batch was begun.")
                under_way.append(asyncio.create_task(row(name, read)))
            return list(await asyncio.gather(*under_way))
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def _row(self, name: str, read: Callable[[], bytes]) -> parts.Row:
        try:
            result = await self._answer(await asyncio.to_thread(read))
        except _OF_THE_PICTURE as error:
            return parts.Row(name, error.code, error=error.message)
        except _OF_THE_SERVER as error:
            self._in_a_row += 1
            if self._in_a_row >= _MOST_IN_A_ROW:
                raise ServerUnavailable(
                    f"{_MOST_IN_A_ROW} pictures after one another were not answered: {error.message}",
                    hint="The same command goes on where this one ended.",
                ) from error
            return parts.Row(name, error.code, error=error.message)
        self._in_a_row = 0
        return parts.Row(name, parts.OK, await asyncio.to_thread(to_json, result, self._labels))

    async def _answer(self, picture: bytes) -> Result:
        """The answer, after as many attempts as make sense."""
        waited, failures = 0.0, 0
        while True:
            try:
                return await self._ask(picture)
            except _LATER as error:
                if waited > _PATIENCE:
                    raise
                pause = error.retry_after or 1.0
                waited += pause
            except _OF_THE_SERVER:
                failures += 1
                if failures == _TRIES:
                    raise
                pause = float(2 ** (failures - 1))
            await _sleep(pause)
