"""Streams of a facade: a WebSocket each, asked frame by frame."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tritonvision.errors import (
    BY_CODE,
    DeadlineExceeded,
    InvalidParameter,
    ServerUnavailable,
    TritonVisionError,
    Unauthorized,
)
from tritonvision.results import InstancesRLEMasks, TrackedMasks

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

_SECONDS = 60.0  # for the opening of a connection


class RemoteStreams:
    """The open streams of one facade, by a number of our own: there a connection is a stream.

    Args:
        url: ``http(s)://HOST:PORT``.
        api_key: or None.
    """

    def __init__(self, url: str, api_key: str | None):
        self._url = "ws" + url.rstrip("/").removeprefix("http")
        self._headers = {} if api_key is None else {"authorization": f"Bearer {api_key}"}
        self._sockets: dict[int, ClientConnection] = {}
        self._turns: dict[int, asyncio.Lock] = {}
        self._numbers = itertools.count(1)

    async def step(
        self, model: str, frame: bytes | None, settings: Mapping[str, Any], stream: int | None
    ) -> tuple[int, TrackedMasks]:
        """See :meth:`tritonvision.client.connections.Connection.step`; ``settings`` ask for run lengths.

        Requests of one stream go one after the other: its answers have no numbers.
        """
        from websockets.exceptions import ConnectionClosed

        message = {name: value for name, value in settings.items() if value is not None}
        if frame is not None:
            message["image"] = base64.b64encode(frame).decode()
        number = await self._open(model) if stream is None else stream
        async with self._turns.get(number, asyncio.Lock()):
            socket = self._sockets.get(number)
            if socket is None:
                raise InvalidParameter("The stream is not known any more.", hint="Begin another one with a prompt.")
            try:
                await socket.send(json.dumps(message))
                told = json.loads(await socket.recv())
            except (ConnectionClosed, OSError) as error:
                await self.end(number)
                raise _closed(error) from error
            except asyncio.CancelledError:  # the answer still comes, and must not be taken for that of the next frame
                self._forget(number)
                socket.transport.abort()
                raise
        if "error" in told:
            if stream is None:
                await self.end(number)
            raise BY_CODE.get(told["code"], TritonVisionError)(told["error"], hint=told["hint"])
        return number, _found(told)

    async def end(self, stream: int) -> None:
        """Close a stream."""
        socket = self._forget(stream)
        if socket is not None:
            await socket.close()

    async def close(self) -> None:
        """Close all."""
        for stream in list(self._sockets):
            await self.end(stream)

    async def _open(self, model: str) -> int:
        from websockets.asyncio.client import connect  # slow, and only streams need it
        from websockets.exceptions import InvalidStatus, WebSocketException

        try:
            socket = await connect(
                f"{self._url}/streams/{model}", additional_headers=self._headers, max_size=None, open_timeout=_SECONDS,
                proxy=None,
            )  # fmt: skip
        except TimeoutError as error:
            raise DeadlineExceeded("The server did not answer in time.") from error
        except InvalidStatus as error:
            raise Unauthorized("The server does not let this client open a stream.") from error
        except (OSError, WebSocketException) as error:
            raise ServerUnavailable(
                f"No server answers at {self._url}.", hint="Start one with: tritonvision serve"
            ) from error
        number = next(self._numbers)
        self._sockets[number], self._turns[number] = socket, asyncio.Lock()
        return number

    def _forget(self, stream: int) -> ClientConnection | None:
        self._turns.pop(stream, None)
        return self._sockets.pop(stream, None)


def _closed(error: Exception) -> TritonVisionError:
    received = getattr(error, "rcvd", None)  # of a close that the server explains
    if received is not None and received.reason:
        return InvalidParameter(received.reason, hint="Begin another stream with a prompt.")
    return ServerUnavailable("The server broke off the stream.", hint="Begin another one with a prompt.")


def _found(told: Mapping[str, Any]) -> TrackedMasks:
    objects = told["objects"]
    masks = [one["mask"] for one in objects]
    height, width = masks[0]["size"] if masks else (0, 0)
    return TrackedMasks(
        told["frame"], np.array([one["object_id"] for one in objects], np.int64),
        np.array([one["confidence"] for one in objects], np.float32),
        InstancesRLEMasks((height, width), [mask["counts"].encode() for mask in masks]), None,
        {"height": height, "width": width}, told["state_bytes"],
    )  # fmt: skip
