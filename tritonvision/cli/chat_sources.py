"""Who ``chat`` talks with: a running facade through its OpenAI route, or a tritonserver of its own for the duration."""

from __future__ import annotations

import base64
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any

import numpy as np

from tritonvision import tasks
from tritonvision.cli.running import RunningFacade
from tritonvision.cli.sources import WRITING_SECONDS, own_engine, published
from tritonvision.errors import InvalidParameter
from tritonvision.pictures import read_header
from tritonvision.results import Delta
from tritonvision.settings import Settings

Messages = Sequence[Mapping[str, Any]]
_NO_TOKENS = np.empty(0, dtype=np.int64)  # the OpenAI route does not tell them


class ChatSource(AbstractAsyncContextManager, ABC):
    """Something that answers conversations about ``pictures``, the model loaded, while its ``async with`` block runs.

    Args:
        pictures: encoded, in the order of the conversation's image parts.
        settings: every one of :data:`tritonvision.tasks.VLM`.
        say: told in one sentence what a person should know before reading the answers, or waits for.
    """

    def __init__(
        self, model_id: str, pictures: Sequence[bytes], settings: Mapping[str, Any], say: Callable[[str], None]
    ):
        self._model_id = model_id
        self._pictures = pictures
        self._settings = settings
        self._say = say

    @abstractmethod
    def answer(self, messages: Messages) -> AsyncIterator[Delta]:
        """The pieces of the next answer; closing the iterator ends the work on it.

        Args:
            messages: ``{"role", "content"}``, the content a list of ``{"type": "text", "text"}`` and
                ``{"type": "image"}``.

        Raises:
            The errors of :mod:`tritonvision.errors`.
        """

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
        self._check(published(self._server, self._model_id, self._say).task)
        self._own = own_engine(self._server)
        self._engine = await self._own.__aenter__()
        try:
            await self._engine.load(self._model_id)
        except BaseException:  # Ctrl-C too
            await self._own.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._own.__aexit__(*error)

    def answer(self, messages: Messages) -> AsyncIterator[Delta]:
        return self._engine.chat(self._model_id, messages, self._pictures, self._settings)


class FacadeChat(ChatSource):
    """A tritonvision server that already runs, asked through ``/v1/chat/completions``.

    Args:
        conversation: as for :class:`ChatSource`.
    """

    def __init__(self, url: str, api_key: str | None, *conversation: Any):
        super().__init__(*conversation)
        self._facade = RunningFacade(url, api_key, self._say)

    async def __aenter__(self) -> FacadeChat:
        await self._facade.__aenter__()
        try:
            self._check(await self._facade.load(self._model_id))
        except BaseException:
            await self._facade.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._facade.__aexit__()

    async def answer(self, messages: Messages) -> AsyncIterator[Delta]:
        # every setting is said: the route's defaults are OpenAI's, not the model's
        asked = {
            "model": self._model_id, "messages": list(_with_pictures(messages, self._pictures)), "stream": True,
            "max_tokens": self._settings["max_new_tokens"], "temperature": self._settings["temperature"],
            "top_p": self._settings["top_p"],
        }  # fmt: skip
        if self._settings["seed"] is not None:
            asked["seed"] = self._settings["seed"]
        async with aclosing(self._facade.events("/v1/chat/completions", asked, WRITING_SECONDS)) as events:
            async for event in events:
                for choice in event.get("choices", ()):
                    yield Delta(choice["delta"].get("content") or "", _NO_TOKENS, choice.get("finish_reason") or "")


def _with_pictures(messages: Messages, pictures: Sequence[bytes]) -> Iterator[dict[str, Any]]:
    """``messages`` as OpenAI writes them: every picture in its place, as a data URL."""
    urls = (_data_url(picture) for picture in pictures)
    for message in messages:
        parts = [
            {"type": "image_url", "image_url": {"url": next(urls)}} if part["type"] == "image" else part
            for part in message["content"]
        ]
        alone = len(parts) == 1 and parts[0]["type"] == "text"
        yield {"role": message["role"], "content": parts[0]["text"] if alone else parts}


def _data_url(picture: bytes) -> str:
    kind = read_header(picture).format.lower()
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"
