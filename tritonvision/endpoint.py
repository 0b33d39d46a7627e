"""Where a tritonserver is reached over gRPC, and what is shown to it: a token with each call, certificates."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio

from tritonvision.errors import InvalidParameter, ServerUnavailable, SetupError

# Largest message either way: a big picture in, a big mask out.
MESSAGE_BYTES = 256 * 1024 * 1024
# Of every channel to a tritonserver.
CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    # The tritonserver is connected to directly: a proxy in the environment is for the web.
    ("grpc.enable_http_proxy", 0),
    # With keepalive gRPC sets TCP_USER_TIMEOUT, so a connection that drops packets is reopened after it. Servers,
    # Triton included, close connections that ping more often than every five minutes.
    ("grpc.keepalive_time_ms", 330_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # A server that comes back is found again within two seconds; gRPC would let two minutes pass.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)
_AUTHORIZATION = "authorization"


@dataclass(frozen=True)
class TlsFiles:
    """PEM files of a connection with TLS.

    Attributes:
        authorities: whose signature the server's certificate must have; None for those that gRPC brings along.
        certificate: ours, for a server that asks for one.
        key: of that certificate.
    """

    authorities: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """What gRPC makes of the files. Raises SetupError where one cannot be read."""
        return grpc.ssl_channel_credentials(_content(self.authorities), _content(self.key), _content(self.certificate))


@dataclass(frozen=True)
class Endpoint:
    """One tritonserver.

    Attributes:
        target: what gRPC connects to: ``host:port``, ``dns:///host:port``, or ``unix:`` and the path of a socket.
        token: shown with each call; None where the server asks for none. It is not part of the ``repr``.
        tls: the files of a connection with TLS; None for one without.
        token_header: the metadata key that carries the token: ``authorization`` as ``Bearer TOKEN``, any other one as
            it is. Triton's own ``--grpc-restricted-protocol=...:NAME=TOKEN`` reads ``triton-grpc-protocol-NAME``.
        host: the name that the server's certificate must have, where the target is an address of it.

    Raises:
        InvalidParameter: the token has characters that no header can carry.
    """

    target: str
    token: str | None = field(default=None, repr=False)
    tls: TlsFiles | None = None
    token_header: str = _AUTHORIZATION
    host: str = ""

    def __post_init__(self) -> None:
        if self.token is not None and not (self.token.isascii() and self.token.isprintable() and self.token.strip()):
            raise InvalidParameter("The token of the inference server must be printable ASCII, and not empty.")

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The metadata of each call."""
        if self.token is None:
            return ()
        header = self.token_header.lower()
        return ((header, f"Bearer {self.token}" if header == _AUTHORIZATION else self.token),)

    def channel(self) -> grpc.Channel:
        """A new connection for threads. Raises SetupError where a file of TLS cannot be read."""
        if self.tls is None:
            return grpc.insecure_channel(self.target, options=CHANNEL_OPTIONS)
        return grpc.secure_channel(self.target, self.tls.credentials(), options=self._options())

    def aio_channel(self) -> grpc.aio.Channel:
        """A new connection for asyncio. Raises SetupError where a file of TLS cannot be read."""
        if self.tls is None:
            return grpc.aio.insecure_channel(self.target, options=CHANNEL_OPTIONS)
        return grpc.aio.secure_channel(self.target, self.tls.credentials(), options=self._options())

    def _options(self) -> tuple[tuple[str, str | int], ...]:
        named = (("grpc.ssl_target_name_override", self.host),) if self.host else ()
        return (*CHANNEL_OPTIONS, *named)


def as_endpoint(address: str | Endpoint) -> Endpoint:
    """``address`` itself, or the endpoint without token and TLS that a target alone means."""
    return address if isinstance(address, Endpoint) else Endpoint(address)


def refusal(error: grpc.RpcError) -> ServerUnavailable | None:
    """The error of a call that the server, or what stands before it, did not let in; None for any other failure."""
    refused = error.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
    if refused or "protocol is restricted" in (error.details() or ""):  # Triton's own word, with UNAVAILABLE
        return ServerUnavailable(
            "The inference server lets nobody in without its token, and was shown none or another one.",
            hint="Whoever runs it knows the token.",
        )
    return None


def _content(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise SetupError(
            f"The file {path} of the connection to the inference server cannot be read: {error.strerror}.",
            hint="Name PEM files that this user may read.",
        ) from error
