"""KServe's v2 protocol over gRPC: each call becomes a request to the routes of the same protocol, in this process.

So keys, limits, logs, figures and errors are those of the HTTP routes. What Triton's service has besides (loading,
shared memory, traces, logs) is not served.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any
from urllib.parse import quote

import grpc
import grpc.aio
import orjson
from google.protobuf.message import DecodeError
from starlette.types import ASGIApp, Message
from tritonclient.grpc import service_pb2 as pb

from tritonvision.errors import SetupError
from tritonvision.facade.admission import Budget
from tritonvision.facade.dialects.kserve.routes import PROTOBUF, PROTOBUF_STREAM
from tritonvision.facade.run import listen
from tritonvision.facade.security.tls import for_grpc
from tritonvision.settings import Settings

log = logging.getLogger("tritonvision.facade")

_SERVICE = "inference.GRPCInferenceService"
_PASSED_ON = ("authorization", "x-request-id", "traceparent", "tracestate")  # metadata that become headers
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT, 401: grpc.StatusCode.UNAUTHENTICATED, 403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND, 408: grpc.StatusCode.DEADLINE_EXCEEDED, 413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    422: grpc.StatusCode.INVALID_ARGUMENT, 429: grpc.StatusCode.RESOURCE_EXHAUSTED, 499: grpc.StatusCode.CANCELLED,
    501: grpc.StatusCode.UNIMPLEMENTED, 502: grpc.StatusCode.UNAVAILABLE, 503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED, 507: grpc.StatusCode.RESOURCE_EXHAUSTED,
}  # fmt: skip
_SECONDS_TO_FINISH = 10.0


def _model(request: Any) -> str:
    version = request.version and f"/versions/{quote(request.version, safe='')}"
    return f"/v2/models/{quote(request.name, safe='')}{version}"


def _infer(request: Any) -> str:
    version = request.model_version and f"/versions/{quote(request.model_version, safe='')}"
    return f"/v2/models/{quote(request.model_name, safe='')}{version}/infer"


# Of each call that has one answer: the type of its request, the HTTP method and the path of its route.
_CALLS: dict[str, tuple[Any, str, Callable[[Any], str]]] = {
    "ServerLive": (pb.ServerLiveRequest, "GET", lambda _: "/v2/health/live"),
    "ServerReady": (pb.ServerReadyRequest, "GET", lambda _: "/v2/health/ready"),
    "ServerMetadata": (pb.ServerMetadataRequest, "GET", lambda _: "/v2"),
    "RepositoryIndex": (pb.RepositoryIndexRequest, "POST", lambda _: "/v2/repository/index"),
    "ModelReady": (pb.ModelReadyRequest, "GET", lambda request: f"{_model(request)}/ready"),
    "ModelMetadata": (pb.ModelMetadataRequest, "GET", _model),
    "ModelConfig": (pb.ModelConfigRequest, "GET", lambda request: f"{_model(request)}/config"),
    "ModelStatistics": (pb.ModelStatisticsRequest, "GET", lambda request: f"{_model(request)}/stats"),
    "ModelInfer": (pb.ModelInferRequest, "POST", _infer),
}


@asynccontextmanager
async def serving(app: ASGIApp, settings: Settings, successor: bool = False) -> AsyncIterator[None]:
    """Serve ``app``'s v2 routes over gRPC on ``settings.grpc_port`` for the time of the block; nothing without one.

    Args:
        successor: whether a process of ours has the port, and leaves it to this one: until then both answer.

    Raises:
        SetupError: the port is taken, or the certificate does not fit.
    """
    if settings.grpc_port is None:
        yield
        return
    if not successor:  # gRPC itself would share the port with any other process of this user
        listen(settings.host, settings.grpc_port, "--grpc-port").close()
    largest = min(settings.max_body_bytes, settings.max_grpc_message_bytes)
    server = grpc.aio.server(
        maximum_concurrent_rpcs=settings.max_connections,
        options=[
            ("grpc.max_receive_message_length", largest), ("grpc.max_send_message_length", -1),
            # of what nobody waits for yet, 64 KB a call are received, however quick the line
            ("grpc.http2.bdp_probe", 0), ("grpc.so_reuseport", 1),
        ],
    )  # fmt: skip
    places = max(settings.max_in_flight_bytes // largest // 2, 1)
    single, streams = _Receiving(places, settings.read_timeout), _Receiving(places, settings.stream_idle_timeout)
    handlers = {name: _unary(app, single, *call) for name, call in _CALLS.items()} | {
        "ModelStreamInfer": _streamed(app, streams)
    }  # fmt: skip
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    try:
        if settings.tls_cert is None or settings.tls_key is None:
            server.add_insecure_port(f"{host}:{settings.grpc_port}")
        else:
            server.add_secure_port(f"{host}:{settings.grpc_port}", for_grpc(settings.tls_cert, settings.tls_key))
    except RuntimeError as error:
        raise SetupError(f"Port {settings.grpc_port} is taken.", hint="Give another --grpc-port.") from error
    await server.start()
    try:
        yield
    finally:
        await server.stop(_SECONDS_TO_FINISH)


class _Receiving:
    """Room for the messages that are being received; whoever finds none waits for a turn.

    gRPC tells nothing of a message before it has all of it, so each counts as the largest that there may be. What has
    arrived is counted by the application.

    Args:
        places: messages at once; of one address as many as of a caller's bytes, see
            :class:`tritonvision.facade.admission.Budget`.
        seconds: that a message may take, and that a turn may.
    """

    def __init__(self, places: int, seconds: float):
        self._room, self._seconds, self._changed = Budget(places), seconds, asyncio.Condition()

    async def message(self, messages: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> bytes | None:
        """The next message; None after the last. Ends a call that takes too long."""
        peer = _client(context.peer())[0]
        await self._take(peer, context)
        try:
            async with asyncio.timeout(self._seconds):
                return await anext(messages, None)
        except TimeoutError:
            told = f"No message was sent within {self._seconds:g} seconds."
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, told)
            return None  # abort raises
        finally:
            self._room.give(1, peer)
            async with self._changed:
                self._changed.notify_all()

    async def _take(self, peer: str, context: grpc.aio.ServicerContext) -> None:
        try:
            async with asyncio.timeout(self._seconds), self._changed:
                await self._changed.wait_for(lambda: self._room.fits(1, peer))
                self._room.take(1, peer)
        except TimeoutError:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "The server receives as many messages as it can.")


def _unary(
    app: ASGIApp, receiving: _Receiving, kind: Any, method: str, path_of: Callable[[Any], str]
) -> grpc.RpcMethodHandler:
    """A call of one message. To gRPC it is one of many: only of those is it told when to receive the next."""

    async def answer(messages: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> bytes:
        data = await receiving.message(messages, context) or b""
        path = path_of(await _parsed(kind, data, context))
        exchange = _Exchange(method, path, data if method == "POST" else b"", context, PROTOBUF)
        await exchange.run(app)
        if exchange.status != 200:
            await exchange.abort()
        return bytes(exchange.body)

    return grpc.stream_unary_rpc_method_handler(answer)


def _streamed(app: ASGIApp, receiving: _Receiving) -> grpc.RpcMethodHandler:
    """``ModelStreamInfer``: requests one after another, each with any number of responses; errors are messages."""

    async def answers(
        requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext
    ) -> AsyncGenerator[bytes, None]:
        while (data := await receiving.message(requests, context)) is not None:
            path = _infer(await _parsed(pb.ModelInferRequest, data, context))
            exchange = _Exchange("POST", path, data, context, PROTOBUF_STREAM)
            async with aclosing(exchange.frames(app)) as frames:
                async for frame in frames:
                    yield frame

    return grpc.stream_stream_rpc_method_handler(answers)


async def _parsed(kind: Any, data: bytes, context: grpc.aio.ServicerContext) -> Any:
    try:
        return kind.FromString(data)
    except DecodeError:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "The message cannot be read.")


class _Exchange:
    """One request to the application and its answer.

    Attributes:
        status: of the answer, 0 before it began.
        body: what came of it.
    """

    def __init__(self, method: str, path: str, data: bytes, context: grpc.aio.ServicerContext, accept: str):
        self.status, self.body, self.headers = 0, bytearray(), dict[str, str]()
        self._context, self._data = context, data
        self._sent, self._news = False, asyncio.Event()
        given = {key: value for key, value in context.invocation_metadata() or () if key in _PASSED_ON}
        headers: Mapping[str, Any] = given | {
            "host": "localhost", "accept": accept, "content-type": PROTOBUF, "content-length": str(len(data)),
        }  # fmt: skip
        self._scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "2", "scheme": "http", "method": method,
            "path": path, "raw_path": path.encode(), "root_path": "", "query_string": b"",
            "headers": [(key.encode(), str(value).encode("latin-1", "replace")) for key, value in headers.items()],
            "client": _client(context.peer()), "server": ("localhost", 0),
        }  # fmt: skip

    async def run(self, app: ASGIApp) -> None:
        """Ask the application. Cancelling this cancels the request, as a client that hangs up does."""
        try:
            await app(self._scope, self._receive, self._send)
        except Exception as error:  # the boundary of the process: what failed in the middle of an answer, for the log
            log.error("%s failed", self._scope["path"], exc_info=error)
            self.status, self.body = 500, bytearray()
        finally:
            self._news.set()

    async def frames(self, app: ASGIApp) -> AsyncGenerator[bytes, None]:
        """The messages of a streamed answer as they come; an error before the first one is a message, too."""
        asking = asyncio.ensure_future(self.run(app))
        try:
            while True:
                await self._news.wait()
                self._news.clear()
                while self.status == 200 and len(self.body) >= 4:
                    (length,) = struct.unpack_from(">I", self.body)
                    if len(self.body) < 4 + length:
                        break
                    frame = bytes(self.body[4 : 4 + length])
                    del self.body[: 4 + length]
                    yield frame
                if asking.done():
                    break
            await asking
            if self.status != 200:
                yield pb.ModelStreamInferResponse(error_message=self._told()).SerializeToString()
        finally:
            asking.cancel()
            with suppress(asyncio.CancelledError):
                await asking

    async def abort(self) -> None:
        """End the call with the error of the answer."""
        told = [(key, self.headers[key]) for key in ("retry-after", "x-request-id") if key in self.headers]
        self._context.set_trailing_metadata(tuple(told))
        await self._context.abort(_CODES.get(self.status, grpc.StatusCode.INTERNAL), self._told())

    def _told(self) -> str:
        try:
            return str(orjson.loads(self.body)["error"])
        except (ValueError, KeyError, TypeError):
            return "The server could not answer."

    async def _receive(self) -> Message:
        if self._sent:
            await asyncio.get_running_loop().create_future()  # a call that is cancelled cancels the task instead
        self._sent = True
        return {"type": "http.request", "body": self._data, "more_body": False}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {key.decode().lower(): value.decode("latin-1") for key, value in message["headers"]}
        else:
            self.body += message.get("body", b"")
        self._news.set()


def _client(peer: str) -> tuple[str, int]:
    """Address and port of gRPC's ``ipv4:127.0.0.1:5555``."""
    host, _, port = peer.partition(":")[2].rpartition(":")
    return host.strip("[]").replace("%5B", "").replace("%5D", "") or "-", int(port) if port.isdigit() else 0
