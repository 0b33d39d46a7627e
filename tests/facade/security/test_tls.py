"""HTTPS by certificate files: what is served, what is replaced while it serves, and what does not fit."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import ssl
import subprocess
from pathlib import Path

import grpc
import grpc.aio
import pytest
from houses import free_port
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tritonvision.errors import InvalidParameter, SetupError
from tritonvision.facade import grpc_bridge, run
from tritonvision.facade.app import create_app
from tritonvision.facade.security.tls import Certificates
from tritonvision.settings import Settings, read_settings

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="The program openssl makes the certificates.")


def certificate(folder: Path, name: str, *more: str) -> tuple[Path, Path]:
    """A certificate for localhost whose issuer is ``name``, and its key."""
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-subj", f"/CN={name}",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-days", "2", "-out", cert, "-keyout", key,
         *(more or ["-nodes"])],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


async def issuer(port: int, trusted: Path) -> str:
    """Who issued the certificate that the server shows; raises ssl.SSLError where it is not ``trusted``."""
    context = ssl.create_default_context(cafile=str(trusted))
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    try:
        ((name,),) = writer.get_extra_info("peercert")["issuer"]
        return name[1]
    finally:
        writer.close()


def test_requests_are_encrypted_and_plain_ones_get_no_answer(house, tmp_path, served):
    cert, key = certificate(tmp_path, "first")

    async def main():
        async with served(house, tls_cert=cert, tls_key=key) as client:
            port = client.base_url.port
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=ssl.create_default_context(cafile=str(cert)), server_hostname="localhost"
            )  # fmt: skip
            writer.write(b"GET /info HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 200 OK")
            assert writer.get_extra_info("cipher")[1] in ("TLSv1.2", "TLSv1.3")
            writer.close()
            plain, other = await asyncio.open_connection("127.0.0.1", port)
            other.write(b"GET /info HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert b"HTTP" not in await plain.read()
            other.close()

    asyncio.run(main())


def test_a_hangup_loads_the_new_certificate_and_a_broken_one_changes_nothing(house, tmp_path, served, until, caplog):
    first, first_key = certificate(tmp_path, "first")
    second, second_key = certificate(tmp_path, "second")
    cert, key = tmp_path / "served.pem", tmp_path / "served.key"

    def put(a: Path, b: Path) -> None:
        shutil.copy(a, cert), shutil.copy(b, key)

    async def main():
        put(first, first_key)
        async with served(house, tls_cert=cert, tls_key=key) as client:
            port = client.base_url.port
            assert await issuer(port, first) == "first"
            put(first, second_key)
            os.kill(os.getpid(), signal.SIGHUP)
            await until(lambda: "stays as it was" in caplog.text)
            assert await issuer(port, first) == "first"
            put(second, second_key)
            os.kill(os.getpid(), signal.SIGHUP)
            await until(lambda: "loaded again" in caplog.text)
            assert await issuer(port, second) == "second"

    with caplog.at_level("INFO"):
        asyncio.run(main())


def test_files_that_changed_are_loaded_without_a_signal(house, tmp_path, served, until, monkeypatch, caplog):
    first, second = certificate(tmp_path, "first"), certificate(tmp_path, "second")
    monkeypatch.setattr(run, "_TICKS_TO_LOOK", 1)

    async def main():
        async with served(house, tls_cert=first[0], tls_key=first[1]) as client:
            for new, old in zip(second, first, strict=True):
                os.replace(new, old)
            await until(lambda: "loaded again" in caplog.text)
            assert await issuer(client.base_url.port, first[0]) == "second"

    with caplog.at_level("INFO"):
        asyncio.run(main())


def test_grpc_shows_the_new_certificate_once_its_files_are_replaced(house, tmp_path):
    first, second = certificate(tmp_path, "first"), certificate(tmp_path, "second")
    trusted = [first[0].read_bytes(), second[0].read_bytes()]
    settings = Settings(
        repository=house.settings.repository, grpc_port=free_port(), tls_cert=first[0], tls_key=first[1]
    )  # fmt: skip

    async def live(root: bytes) -> bool:
        credentials, options = grpc.ssl_channel_credentials(root), [("grpc.ssl_target_name_override", "localhost")]
        async with grpc.aio.secure_channel(f"127.0.0.1:{settings.grpc_port}", credentials, options) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            try:
                return (await stub.ServerLive(service_pb2.ServerLiveRequest(), timeout=5)).live
            except grpc.RpcError:
                return False

    async def main():
        async with grpc_bridge.serving(create_app(house.engine, settings), settings):
            assert await live(trusted[0]) and not await live(trusted[1])
            os.replace(second[1], first[1])
            assert await live(trusted[0]), "half of a pair was taken"
            os.replace(second[0], first[0])
            assert await live(trusted[1]) and not await live(trusted[0])

    asyncio.run(main())


def test_files_that_do_not_fit_are_one_sentence(tmp_path):
    cert, key = certificate(tmp_path, "first")
    other, other_key = certificate(tmp_path, "other")
    locked, locked_key = certificate(tmp_path, "locked", "-passout", "pass:secret")
    for pair in ((cert, other_key), (key, key), (locked, locked_key)):
        with pytest.raises(SetupError, match="no certificate with its key"):
            Certificates(*pair)
    with pytest.raises(SetupError, match="cannot be read"):
        Certificates(cert, tmp_path / "nowhere")


@pytest.mark.parametrize("options", [{"tls_cert": Path("a")}, {"tls_key": Path("a")}])
def test_a_certificate_without_its_key_is_refused(options):
    with pytest.raises(InvalidParameter, match="go together"):
        read_settings(**options)
