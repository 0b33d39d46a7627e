"""An HTTP client of the facade: JSON, event streams, and errors of this package."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from typing import Any

import httpx

from tritonvision.errors import (
    BY_CODE,
    DeadlineExceeded,
    Forbidden,
    InvalidParameter,
    InvalidPicture,
    ModelLoading,
    NoRoom,
    NotSupported,
    PictureTooLarge,
    ServerUnavailable,
    TooManyRequests,
    TritonVisionError,
    Unauthorized,
    UnknownModel,
)

_ERRORS: dict[int, type[TritonVisionError]] = {
    400: InvalidParameter, 401: Unauthorized, 403: Forbidden, 404: UnknownModel, 413: PictureTooLarge,
    422: InvalidParameter, 429: TooManyRequests, 501: NotSupported, 502: ServerUnavailable, 503: ModelLoading,
    504: DeadlineExceeded, 507: NoRoom,
}  # fmt: skip
# How the Roboflow routes begin errors about a picture.
_UNREADABLE = "Could not load input image. Cause: "
_WAIT_SECONDS = 600.0  # the first request may start an export, which takes minutes
_MINUTE = 60.0
_BYTES, _EVENTS = "application/octet-stream", "text/event-stream"
_END = b"[DONE]"  # of a stream of events


class RunningFacade(AbstractAsyncContextManager):
    """A client of a running tritonvision server, open within its ``async with`` block.

    Every method waits while the server loads or exports a model, and raises the errors of :mod:`tritonvision.errors`.

    Args:
        say: told in one sentence what a person waits for.
        organization: sent as ``Organization-Id`` unless it is empty.
    """

    def __init__(self, url: str, api_key: str | None, say: Callable[[str], None], organization: str = ""):
        self._url = url.rstrip("/")
        # In the header, since a key in a long body must be near its beginning.
        self._key = {} if api_key is None else {"authorization": f"Bearer {api_key}"}
        if organization:
            self._key["organization-id"] = organization
        self._say = say
        self._said = ""

    async def __aenter__(self) -> RunningFacade:
        with _in_our_words(self._url):
            self._http = httpx.AsyncClient(base_url=self._url, timeout=_MINUTE, trust_env=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def get(self, path: str) -> Any:
        """The JSON of a GET of ``path``."""
        return (await self._ask("GET", path, {"headers": self._key}, _MINUTE)).json()

    async def json(self, path: str, body: Mapping[str, Any], seconds: float = _MINUTE) -> Any:
        """The JSON of a POST to ``path``."""
        return (await self._post(path, body, seconds)).json()

    async def ready(self, name: str) -> None:
        """Wait while the server exports or loads the model ``name``.

        For a key that may only ask, the server does neither now: such a model loads when it is asked.
        """
        with suppress(Forbidden):
            await self.json("/model/add", {"model_id": name})

    async def bytes(self, path: str, body: Mapping[str, Any], seconds: float = _MINUTE) -> bytes:
        """The bytes of a POST to ``path``. Gives up on a server that sends nothing for ``seconds``."""
        return (await self._post(path, body, seconds)).content

    async def events(self, path: str, body: Mapping[str, Any], seconds: float = _MINUTE) -> AsyncGenerator[Any, None]:
        """The JSON of each event of the stream of ``path``; closing this generator disconnects."""
        reply = await self._post(path, body, seconds, stream=True)
        try:
            async for data in _data_of(reply, self._url):
                event = json.loads(data)
                if event.get("error"):
                    raise _error(event, 500)
                yield event
        finally:
            await reply.aclose()

    async def _post(
        self, path: str, body: Mapping[str, Any], seconds: float, stream: bool = False
    ) -> httpx.Response:  # fmt: skip
        content = {"json": body, "headers": {**self._key, "accept": _EVENTS} if stream else self._key}
        return await self._ask("POST", path, content, seconds, stream)

    async def _ask(
        self, method: str, path: str, content: Mapping[str, Any], seconds: float, stream: bool = False
    ) -> httpx.Response:
        """The response of ``path``, once the model is exported and loaded. The caller closes a stream."""
        wait_timeout = httpx.Timeout(_MINUTE, read=seconds)
        waited = 0.0
        while True:
            try:
                with _in_our_words(self._url):
                    request = self._http.build_request(method, path, timeout=wait_timeout, **content)
                    reply = await self._http.send(request, stream=stream)
                    if stream and not _is(reply, _EVENTS):
                        await reply.aread()
                return _checked(reply)
            except ModelLoading as error:
                if error.message != self._said:
                    self._said = error.message
                    self._say(error.message)
                pause = min(max(error.retry_after or 2.0, 1.0), 10.0)
                if waited > _WAIT_SECONDS:
                    raise
            await asyncio.sleep(pause)
            waited += pause


@contextmanager
def _in_our_words(url: str) -> Iterator[None]:
    """Raises network errors of the server at ``url`` as errors of this package."""
    try:
        yield
    except httpx.TimeoutException as error:
        raise DeadlineExceeded("The server did not answer in time.") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ServerUnavailable(f"No server answers at {url}.", hint="Start one with: tritonvision serve") from error


async def _data_of(reply: httpx.Response, url: str) -> AsyncIterator[bytes]:
    """The ``data:`` of each event of a stream, up to its end."""
    rest = b""
    with _in_our_words(url):
        async for part in reply.aiter_bytes():
            # split at line feeds only: the JSON may contain other line separators of Unicode
            *whole, rest = (rest + part).split(b"\n")
            for line in whole:
                if line.startswith(b"data:"):
                    data = line[5:].strip()
                    if data == _END:
                        return
                    yield data
    raise ServerUnavailable("The server broke off in the middle of the answer.")


def _is(reply: httpx.Response, kind: str) -> bool:
    return reply.is_success and reply.headers.get("content-type", "").startswith(kind)


def _checked(reply: httpx.Response) -> httpx.Response:
    if _is(reply, _BYTES) or _is(reply, _EVENTS):
        return reply
    try:
        body = reply.json()
    except ValueError as error:
        raise ServerUnavailable("What answers there is not a tritonvision server.") from error
    if reply.is_success:
        return reply
    wait = reply.headers.get("retry-after", "")
    raise _error(body, reply.status_code, float(wait) if wait.isdigit() else None)


def _error(body: Any, status: int, retry_after: float | None = None) -> TritonVisionError:
    """The error of a refusal.

    ``{"message"}`` of the Roboflow routes, ``{"error": {...}}`` of the OpenAI ones, ``{"error": sentence}`` of Hugging
    Face's, where everything but the picture is checked before it is sent.
    """
    told = body.get("error", body) if isinstance(body, dict) else {}
    kind = _ERRORS.get(status, TritonVisionError)
    if isinstance(told, dict):
        message = str(told.get("message") or "The server refused.")
        kind = BY_CODE.get(str(told.get("code")), kind)
    else:
        message = str(told)
        kind = InvalidPicture if status == 400 else kind
    if message.startswith(_UNREADABLE):
        kind, message = InvalidPicture, message.removeprefix(_UNREADABLE)
    return kind(message, retry_after=retry_after)
