"""Where ``chat`` gets its answers: a running facade through its OpenAI route, or a tritonserver of its own."""

from __future__ import annotations

from abc import ABC
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

from tritonvision import tasks
from tritonvision.cli.sources import facade, published, tell_random
from tritonvision.engine.own import own_engine
from tritonvision.errors import InvalidParameter
from tritonvision.pictures import shown_size
from tritonvision.results import Delta
from tritonvision.settings import Settings

if TYPE_CHECKING:
    from tritonvision.client.connections import Connection
    from tritonvision.engine.facts import Facts

Messages = Sequence[Mapping[str, Any]]


class ChatSource(AbstractAsyncContextManager, ABC):
    """Answers a conversation about ``pictures`` within its ``async with`` block, with the model loaded.

    Args:
        pictures: encoded, in the order of the conversation's image parts.
        settings: every one of :data:`tritonvision.tasks.VLM`.
        say: called with a sentence for the user: a note on the answers, or what is waited for.
    """

    _connection: Connection
    _facts: Facts

    def __init__(
        self, model_id: str, pictures: Sequence[bytes], settings: Mapping[str, Any], say: Callable[[str], None]
    ):
        self._model_id = model_id
        self._pictures = pictures
        self._settings = settings
        self._say = say

    def answer(self, messages: Messages) -> AsyncGenerator[Delta, None]:
        """The pieces of the next answer; closing the iterator cancels it.

        Args:
            messages: ``{"role", "content"}``, the content a list of ``{"type": "text", "text"}`` and
                ``{"type": "image"}``.

        Raises:
            The errors of :mod:`tritonvision.errors`.
        """
        return self._connection.chat(self._facts, messages, self._pictures, self._settings)

    @property
    def grounding(self) -> str:
        """The convention in which answers name places that are told; empty where none are: places are in one picture,
        and JSON of a schema is told as it is.
        """
        alone = len(self._pictures) == 1 and self._settings["schema"] is None
        return self._facts.grounding if alone else ""

    def size(self) -> tuple[int, int]:
        """(width, height) of the one picture as it is shown, pixels."""
        return shown_size(self._pictures[0], self._settings[tasks.AUTO_ORIENT.name])

    def _check(self, task: str) -> None:
        if task != tasks.VLM.name:
            raise InvalidParameter(
                f"'{self._model_id}' does {task or 'something else'}, it does not talk.",
                hint=f"Ask it with: tritonvision predict {self._model_id} IMAGE",
            )


class EmbeddedChat(ChatSource):
    """A tritonserver started for the duration, without any HTTP.

    Args:
        server: its settings.
        conversation: as for :class:`ChatSource`.
    """

    def __init__(self, server: Settings, *conversation: Any):
        super().__init__(*conversation)
        self._server = server

    async def __aenter__(self) -> EmbeddedChat:
        from tritonvision.client.connections import EngineConnection

        self._check(published(self._server, self._model_id, self._say).task)
        self._own = own_engine(self._server)
        self._connection = EngineConnection(await self._own.__aenter__(), self._say)
        try:
            self._facts = await self._connection.facts(self._model_id)
        except BaseException:  # Ctrl-C too
            await self._own.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._own.__aexit__(None, None, None)


class FacadeChat(ChatSource):
    """A tritonvision server that already runs, asked through ``/v1/chat/completions``.

    Args:
        url, api_key: of the server.
        conversation: as for :class:`ChatSource`.
    """

    def __init__(self, url: str, api_key: str | None, *conversation: Any):
        super().__init__(*conversation)
        self._url, self._api_key = url, api_key

    async def __aenter__(self) -> FacadeChat:
        self._connection = await facade(self._url, self._api_key, self._say)
        try:
            self._facts = await self._connection.facts(self._model_id)
            tell_random(self._facts, self._model_id, self._say)
            self._check(self._facts.task)
        except BaseException:
            await self._connection.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._connection.close()
