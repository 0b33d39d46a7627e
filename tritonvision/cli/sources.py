"""Where ``predict`` gets its answers: a running facade over HTTP, or a tritonserver of its own."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from tritonvision import tasks
from tritonvision.cli.answers import Answer
from tritonvision.cli.models import loaded_ids
from tritonvision.cli.question import Question
from tritonvision.cli.told import Told
from tritonvision.engine.own import own_engine
from tritonvision.errors import InvalidParameter, NotSupported
from tritonvision.grounding.detections import detections
from tritonvision.pictures import shown_size
from tritonvision.publication import TOLD_RANDOM, Manifest, Repository
from tritonvision.results import ClassificationPrediction
from tritonvision.settings import Settings
from tritonvision.vectors import cosines

if TYPE_CHECKING:
    from tritonvision.client.connections import Connection
    from tritonvision.engine.facts import Facts

_ADDRESS = re.compile(r"https?://(?:\[[0-9A-Fa-f:.]+\]|[^\s/:?#\[\]]+)(?::\d{1,5})?(?:/[^\s?#]*)?", re.IGNORECASE)


class Source(AbstractAsyncContextManager, ABC):
    """Runs inference on pictures within its ``async with`` block.

    Args:
        say: called with a sentence for the user: a note on the answers, or what is waited for.
    """

    def __init__(self, model_id: str, question: Question, say: Callable[[str], None]):
        self._model_id = model_id
        self._question = question
        self._say = say

    async def __aenter__(self) -> Source:
        self._connection, self._facts = await self._connect()
        return self

    @abstractmethod
    async def _connect(self) -> tuple[Connection, Facts]:
        """The connection and the model's facts, with the question checked. Nothing stays open if this raises."""

    async def ask(self, picture: bytes, hear: Callable[[str], None] = lambda _: None) -> Answer:
        """The answer about one encoded picture.

        Args:
            hear: told each piece of an answer that is written, as it comes.

        Raises:
            The errors of :mod:`tritonvision.errors`.
        """
        facts, texts = self._facts, self._question.texts
        if facts.task == tasks.TRACKING.name:
            raise NotSupported(
                f"'{self._model_id}' follows through a video what it is shown, and is asked about no picture alone.",
                hint="Give a video, a camera or the address of a stream.",
            )
        settings = tasks.resolve(tasks.TASKS[facts.task].parameters, self._question.parameters(facts.task))
        if facts.task == tasks.VLM.name:
            return await self._told(picture, texts[0], settings, hear)
        (result,) = await self._connection.infer(facts, [picture], settings)
        if facts.task == tasks.OPEN_VOCABULARY.name:
            return Answer(result, texts)
        if not texts:
            return Answer(result, facts.labels, facts.keypoint_labels)
        vectors = await self._connection.embed_texts(facts, texts)
        return _comparison(cosines(np.asarray(result)[0], vectors).astype(np.float32), texts, picture)

    @asynccontextmanager
    async def watching(self) -> AsyncGenerator[tuple[Callable[[bytes], Awaitable[Answer]], int | None], None]:
        """What to ask about the frames of one video, and how many of them at once; None for as many as are read."""
        if self._facts.task != tasks.TRACKING.name:
            yield self.ask, None
            return
        from tritonvision.cli.following import Follower

        follower = Follower(self._connection, self._facts, self._question.parameters(self._facts.task))
        try:
            yield follower.ask, 1
        finally:
            await follower.end()

    async def _told(
        self, picture: bytes, text: str, settings: Mapping[str, Any], hear: Callable[[str], None]
    ) -> Answer:
        """What is written about the picture, and the places that it names."""
        messages = tasks.about_picture(text)
        told = Told(self._facts.grounding if settings["schema"] is None else "", messages, hear)
        async with aclosing(self._connection.chat(self._facts, messages, [picture], settings)) as deltas:
            async for delta in deltas:
                told.add(delta)
        if not told.of_places:
            return Answer(told.said, ())
        size = shown_size(picture, settings[tasks.AUTO_ORIENT.name])
        return Answer(*detections(told.places or (), *size), text=told.said)

    def _check(self, task: str) -> None:
        if task not in tasks.TASKS:
            raise NotSupported(f"'predict' cannot show the answers of {self._model_id} yet.")
        self._question.check(self._model_id, task)


class EmbeddedSource(Source):
    """A tritonserver started for the duration, without any HTTP.

    Args:
        settings: its own.
        more: as for :class:`Source`.
    """

    def __init__(self, settings: Settings, *more):
        super().__init__(*more)
        self._settings = settings

    async def _connect(self) -> tuple[Connection, Facts]:
        from tritonvision.client.connections import EngineConnection
        from tritonvision.engine.facts import Facts

        facts = Facts.of(published(self._settings, self._model_id, self._say))
        self._check(facts.task)
        self._own = own_engine(self._settings)
        return EngineConnection(await self._own.__aenter__(), self._say), facts

    async def __aexit__(self, *_: object) -> None:
        await self._own.__aexit__(None, None, None)


class FacadeSource(Source):
    """A tritonvision server that already runs, asked through the routes that it has.

    Args:
        url, api_key: of the server.
        more: as for :class:`Source`.
    """

    def __init__(self, url: str, api_key: str | None, *more):
        super().__init__(*more)
        self._url, self._api_key = url, api_key

    async def _connect(self) -> tuple[Connection, Facts]:
        connection = await facade(self._url, self._api_key, self._say)
        try:
            facts = await connection.facts(self._model_id)
            tell_random(facts, self._model_id, self._say)
            self._check(facts.task)
        except BaseException:  # Ctrl-C too
            await connection.close()
            raise
        return connection, facts

    async def __aexit__(self, *_: object) -> None:
        await self._connection.close()


def server_to_ask(url: str | None, port: int) -> str | None:
    """The address of the server at ``url``, without one of the server that answers on this machine's ``port``, if any.

    Without a scheme http:// is meant. Raises InvalidParameter for what is no address.
    """
    if url is None:
        return None if loaded_ids(port) is None else f"http://127.0.0.1:{port}"
    address = url if "://" in url else f"http://{url}"
    if not _ADDRESS.fullmatch(address):
        raise InvalidParameter(
            f"'{url[:80]}' is no address of a tritonvision server.", hint="Give HOST:PORT, or http(s)://HOST:PORT."
        )
    return address


async def facade(url: str, api_key: str | None, say: Callable[[str], None]) -> Connection:
    """A connection to the server at ``url``, which the caller closes."""
    from tritonvision.client.remote.connection import FacadeConnection

    return await FacadeConnection(url, api_key, say).open()


def published(settings: Settings, model_id: str, say: Callable[[str], None]) -> Manifest:
    """The model in the repository; of random weights a person is told. Raises UnknownModel."""
    manifest = Repository(settings.repository).resolve(model_id)
    tell_random(manifest, manifest.id, say)
    return manifest


def tell_random(model: Manifest | Facts, model_id: str, say: Callable[[str], None]) -> None:
    """Tell a person of random weights."""
    if model.weights == "random":
        say(TOLD_RANDOM.format(model_id))


def _comparison(scores: np.ndarray, texts: tuple[str, ...], picture: bytes) -> Answer:
    width, height = shown_size(picture)
    metadata = {"height": height, "width": width}
    best = np.array([scores.argmax()], dtype=np.int64)
    return Answer(ClassificationPrediction(best, scores[None], [metadata]), texts)
