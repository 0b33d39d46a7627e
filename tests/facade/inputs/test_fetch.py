"""URLs are fetched without giving callers access to the server's network; with real servers on this machine and TLS."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest

from tritonvision.errors import InvalidPicture, PictureTooLarge
from tritonvision.facade.inputs.fetch import Fetcher, is_public

CAMERA = "camera.test"


@dataclass
class Server:
    """An HTTP server that answers every path as the test defines, and records the requests."""

    answers: dict[str, bytes]
    port: int = 0
    asked: list[str] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    names: list[str | None] = field(default_factory=list)
    hang: bool = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            path = head.split()[1]
            self.asked.append(path)
            self.heads.append(head)
            self.hosts += [line[6:] for line in head.split("\r\n") if line.lower().startswith("host: ")]
            if self.hang:
                await asyncio.sleep(60)
            writer.write(self.answers.get(path, b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"))
            await writer.drain()
        writer.close()


def ok(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s" % (len(body), body)


def to(location: str, status: int = 302) -> bytes:
    return f"HTTP/1.1 {status} Go\r\nlocation: {location}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode()


@contextlib.asynccontextmanager
async def listening(answers: dict[str, bytes], tls: ssl.SSLContext | None = None, hang: bool = False) -> AsyncIterator:
    server = Server(answers, hang=hang)
    if tls is not None:
        tls.sni_callback = lambda _, name, __: server.names.append(name)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()


def resolver(**names: list[str]) -> Callable:
    """A resolver of the test, which counts the lookups."""
    calls: list[str] = []

    async def resolve(host: str, port: int) -> list[str]:
        calls.append(host)
        return names.get(host.replace(".", "_"), [host])

    resolve.calls = calls
    return resolve


def fetch(url: str, fetcher: Fetcher, most: int = 10**6) -> bytes:
    return asyncio.run(fetch_async(url, fetcher, most))


async def fetch_async(url: str, fetcher: Fetcher, most: int = 10**6) -> bytes:
    left = most

    def take(n: int) -> None:
        nonlocal left
        left -= n
        if left < 0:
            raise PictureTooLarge()

    try:
        return await fetcher.fetch(url, take)
    finally:
        await fetcher.close()


@pytest.fixture(scope="module")
def tls(tmp_path_factory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's certificate for camera.test, and a client context that trusts it."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", f"/CN={CAMERA}", "-addext", f"subjectAltName=DNS:{CAMERA}", "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return server, ssl.create_default_context(cafile=folder / "cert.pem")


# ---- addresses -------------------------------------------------------------------------------------------------------


@pytest.mark.attack("requests to the inside (SSRF)")
@pytest.mark.parametrize("address", [
    "127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254",
    "100.64.0.1", "100.127.255.254", "192.0.2.1", "198.18.0.1", "203.0.113.5", "224.0.0.1", "240.0.0.1",
    "255.255.255.255", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "ff02::1", "2001:db8::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "fec0::1",
    "no address", "",
])  # fmt: skip
def test_private_addresses_are_refused(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", [
    "8.8.8.8", "93.184.216.34", "2606:2800:220:1::1", "::ffff:8.8.8.8", "64:ff9b::808:808", "100.63.255.255",
])  # fmt: skip
def test_public_addresses_are_allowed(address):
    assert is_public(address)


@pytest.mark.attack("requests to the inside (SSRF)")
@pytest.mark.parametrize("url", [
    "http://example.com/x.jpg", "ftp://example.com/x", "file:///etc/passwd", "https://", "x.jpg", "", "https:///x",
    "gopher://127.0.0.1/", "data:image/png;base64,AAAA", "https://user:pw@example.com/", "https://exa mple.com/",
    "https://127.0.0.1/x", "https://localhost/x", "https://10.0.0.1/x", "https://[::1]/x", "https://2130706433/x",
    "https://0x7f.1/x", "https://[::ffff:127.0.0.1]/x", "https://169.254.169.254/latest/meta-data", "https://0/",
    "https://127.1/", "https://%31%32%37.0.0.1/", "//127.0.0.1/x", "https://a..b/", "https://" + "a" * 300 + "/",
])  # fmt: skip
def test_urls_that_are_refused_before_anything_is_asked(url):
    began = time.perf_counter()
    with pytest.raises(InvalidPicture):
        fetch(url, Fetcher(60))
    assert time.perf_counter() - began < 20


@pytest.mark.parametrize(("url", "why"), [("file:///etc/passwd", "Only https"), ("https:///x", "has no host")])
def test_a_url_is_refused_for_what_is_wrong_about_it(url, why):
    with pytest.raises(InvalidPicture, match=why):
        fetch(url, Fetcher(60))


@pytest.mark.attack("requests to the inside (SSRF)")
def test_one_private_address_among_public_ones_is_enough_to_refuse():
    resolve = resolver(mixed_test=["8.8.8.8", "10.0.0.1"])
    with pytest.raises(InvalidPicture, match="public"):
        fetch("https://mixed.test/x", Fetcher(5, resolve=resolve))


# ---- over the wire ---------------------------------------------------------------------------------------------------


def test_a_named_host_may_be_plain_http_on_this_machine():
    async def main():
        async with listening({"/a.jpg": ok(b"picture")}) as server:
            fetcher = Fetcher(5, frozenset({"localhost", "127.0.0.1"}))
            assert await fetch_async(f"http://127.0.0.1:{server.port}/a.jpg", fetcher) == b"picture"
            assert server.hosts == [f"127.0.0.1:{server.port}"]
            with pytest.raises(InvalidPicture):
                await fetch_async(f"http://127.0.0.1:{server.port}/a.jpg", Fetcher(5, frozenset({"other.test"})))
            assert server.asked == ["/a.jpg"]

    asyncio.run(main())


@pytest.mark.attack("DNS rebinding")
def test_the_connection_goes_to_the_checked_address_under_the_name(tls):
    async def main():
        async with listening({"/a.jpg?x=1": ok(b"picture")}, tls[0]) as server:
            resolve = resolver(camera_test=["127.0.0.1"])
            fetcher = Fetcher(5, frozenset({CAMERA}), verify=tls[1], resolve=resolve)
            assert await fetch_async(f"https://{CAMERA}:{server.port}/a.jpg?x=1", fetcher) == b"picture"
            assert resolve.calls == [CAMERA]
            assert server.names == [CAMERA] and server.hosts == [f"{CAMERA}:{server.port}"]

    asyncio.run(main())


def test_a_certificate_for_another_name_is_refused(tls):
    async def main():
        async with listening({"/": ok(b"picture")}, tls[0]) as server:
            resolve = resolver(other_test=["127.0.0.1"])
            fetcher = Fetcher(5, frozenset({"other.test"}), verify=tls[1], resolve=resolve)
            with pytest.raises(InvalidPicture):
                await fetch_async(f"https://other.test:{server.port}/", fetcher)
            assert server.asked == []

    asyncio.run(main())


def test_the_next_address_is_tried_when_one_does_not_answer():
    async def main():
        async with listening({"/": ok(b"picture")}) as server:
            resolve = resolver(camera_test=["127.0.0.2", "127.0.0.1"])
            fetcher = Fetcher(5, frozenset({CAMERA}), resolve=resolve)
            assert await fetch_async(f"http://{CAMERA}:{server.port}/", fetcher) == b"picture"

    asyncio.run(main())


@pytest.mark.attack("redirects to the inside (SSRF)")
def test_redirects_are_followed_and_each_is_checked():
    async def main():
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            elsewhere = probe.getsockname()[1]
        answers = {
            "/1": to("/2"), "/2": to("/3", 308), "/3": to("/end", 301), "/end": ok(b"picture"),
            "/inside": to("https://10.0.0.1/x"), "/down": to("http://example.com/x"), "/0": to("/1"),
            "/loop": to("/loop"), "/alias": to(f"http://localhost:{elsewhere}/"), "/file": to("file:///etc/passwd"),
        }  # fmt: skip
        async with listening(answers) as server:
            base = f"http://127.0.0.1:{server.port}"

            async def get(path: str) -> bytes:
                return await fetch_async(base + path, Fetcher(5, frozenset({"127.0.0.1"})))

            assert await get("/1") == b"picture"
            for path in ("/0", "/inside", "/down", "/loop", "/alias", "/file"):
                with pytest.raises(InvalidPicture):
                    await get(path)
            assert server.asked.count("/loop") == 4  # the first hop and three redirects

    asyncio.run(main())


def test_another_status_is_no_picture():
    async def main():
        async with listening({"/": b"HTTP/1.1 403 No\r\ncontent-length: 2\r\n\r\nno"}) as server:
            with pytest.raises(InvalidPicture, match="403"):
                await fetch_async(f"http://127.0.0.1:{server.port}/", Fetcher(5, frozenset({"127.0.0.1"})))

    asyncio.run(main())


@pytest.mark.attack("answers of a URL that cost more than they bring")
def test_too_many_bytes_stop_the_fetch():
    endless = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + bytes(3_000_000)

    async def main():
        async with listening({"/": endless}) as server:
            with pytest.raises(PictureTooLarge):
                await fetch_async(f"http://127.0.0.1:{server.port}/", Fetcher(5, frozenset({"127.0.0.1"})), most=10**5)

    asyncio.run(main())


@pytest.mark.attack("answers of a URL that cost more than they bring")
def test_a_host_that_hangs_is_given_up_after_the_timeout():
    async def main():
        async with listening({}, hang=True) as server:
            began = time.perf_counter()
            with pytest.raises(InvalidPicture, match="0.3 s"):
                await fetch_async(f"http://127.0.0.1:{server.port}/", Fetcher(0.3, frozenset({"127.0.0.1"})))
            assert time.perf_counter() - began < 20  # the host hangs for ever

    asyncio.run(main())


@pytest.mark.attack("requests to the inside (SSRF)")
def test_proxies_and_keys_of_the_environment_are_not_used(monkeypatch, tmp_path):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))

    async def main():
        async with listening({"/": ok(b"picture")}) as server:
            fetcher = Fetcher(5, frozenset({"127.0.0.1"}))
            assert await fetch_async(f"http://127.0.0.1:{server.port}/", fetcher) == b"picture"
            assert "authorization" not in server.heads[0].lower() and "cookie" not in server.heads[0].lower()

    asyncio.run(main())
