"""TLS by certificate files, for servers without a proxy in front."""

from __future__ import annotations

import contextlib
import logging
import os
import ssl
from collections.abc import Iterable
from pathlib import Path

import grpc

from tritonvision.errors import SetupError

log = logging.getLogger("tritonvision.tls")


class Certificates:
    """A certificate and its key, from PEM files that may be replaced while the server runs.

    Attributes:
        context: for the listening socket. What is loaded into it later is what connections get from then on.

    Raises:
        SetupError: the files cannot be read, or do not belong together.
    """

    def __init__(self, certificate: Path, key: Path):
        self._files = certificate, key
        self.context = self._loaded()
        self._seen = _stamp(self._files)

    def look(self) -> None:
        """Load the files again if they changed."""
        if _stamp(self._files) != self._seen:
            self.reload()

    def reload(self) -> None:
        """Load the files again. If they do not fit, the certificate stays, and the log says why."""
        self._seen = _stamp(self._files)
        try:
            self._loaded()  # into another context first: half a pair would be left in this one
            self.context.load_cert_chain(*self._files, password=_no_password)
        except (SetupError, OSError) as error:  # ssl.SSLError is one
            told = error.message if isinstance(error, SetupError) else str(error)
            log.error("The certificate stays as it was: %s", told)
        else:
            log.info("The certificate was loaded again.")

    def _loaded(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)  # TLS 1.2 and later
        context.set_alpn_protocols(["http/1.1"])
        certificate, key = self._files
        try:
            context.load_cert_chain(certificate, key, password=_no_password)
        except ssl.SSLError as error:
            raise SetupError(
                f"{certificate} and {key} are no certificate with its key.",
                hint="Both are PEM files; the key has no password.",
            ) from error
        except OSError as error:
            raise SetupError(f"{certificate} or {key} cannot be read: {error.strerror}.") from error
        return context


def for_grpc(certificate: Path, key: Path) -> grpc.ServerCredentials:
    """The same for a gRPC server: each handshake looks whether the files were replaced. Raises SetupError."""
    files = certificate, key
    seen = _stamp(files)

    def loaded() -> grpc.ServerCertificateConfiguration:
        Certificates(certificate, key)  # gRPC would take what does not belong together, and fail at every handshake
        return grpc.ssl_server_certificate_configuration([(key.read_bytes(), certificate.read_bytes())])

    def changed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal seen
        before, seen = seen, _stamp(files)
        if before == seen:
            return None
        try:
            return loaded()
        except (SetupError, OSError) as error:
            log.error("The certificate of gRPC stays as it was: %s", error)
            return None

    return grpc.dynamic_ssl_server_credentials(loaded(), changed)


def _stamp(files: Iterable[Path]) -> tuple[int, ...]:
    """Changes when one of the files does."""
    found: list[int] = []
    for path in files:
        with contextlib.suppress(OSError):
            stat = os.stat(path)
            found += (stat.st_mtime_ns, stat.st_size, stat.st_ino)
    return tuple(found)


def _no_password() -> str:
    """The answer to a key with a password, for which OpenSSL would otherwise ask at the terminal."""
    return ""
