"""URLs of pictures that lead to this machine, in every field of every dialect: nobody is asked."""

from __future__ import annotations

import asyncio
import base64
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tritonvision.errors import InvalidPicture
from tritonvision.facade.inputs import fetch
from tritonvision.facade.inputs.fetch import Fetcher

GIF = base64.b64encode(b"GIF89a\1\0\1\0\0\0\0,\0\0\0\0\1\0\1\0\0\2\2D\1\0;").decode()


class Canary(threading.Thread):
    """Listens on this machine and counts who comes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.listener = socket.create_server(("", 0))
        self.port, self.came = self.listener.getsockname()[1], 0

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.came += 1
            connection.sendall(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")
            connection.close()


@pytest.fixture(scope="module")
def canary() -> Iterator[Canary]:
    thread = Canary()
    thread.start()
    yield thread
    thread.listener.close()


HOSTS = {
    "an address": "127.0.0.1", "another one of loopback": "127.255.255.254", "a name": "localhost",
    "its dot": "localhost.", "letters of any case": "LocalHost", "decimal": "2130706433", "octal": "0177.0.0.1",
    "octal in full": "017700000001",
    "hexadecimal": "0x7f.0.0.1", "hexadecimal in full": "0x7f000001", "short": "127.1", "shorter": "0",
    "everywhere": "0.0.0.0", "IPv6": "[::1]", "IPv6 of everywhere": "[::]", "mapped": "[::ffff:127.0.0.1]",
    "mapped in hexadecimal": "[::ffff:7f00:1]", "compatible": "[::127.0.0.1]", "translated": "[64:ff9b::127.0.0.1]",
    "a zone": "[fe80::1%25lo]", "a zone of loopback": "[::1%25lo]", "a zone unquoted": "[fe80::1%lo]",
    "fullwidth digits": "\uff11\uff12\uff17.0.0.1", "circled digits": "\u2460\u2461\u2466.0.0.1",
    "an ideographic stop": "127\u30020.0.1", "encoded": "%31%32%37.0.0.1", "credentials": "example.com@127.0.0.1",
    "a password": "a:b@127.0.0.1", "credentials of nothing": "@127.0.0.1", "a backslash": "example.com\\@127.0.0.1",
    "a tab": "127.0.\t0.1", "a line feed": "127.0.\n0.1", "soft hyphens": "local\u00adhost",
    "metadata": "169.254.169.254", "private": "10.0.0.1", "private by name": "[fd00:ec2::254]",
    "own addresses": socket.gethostname(),
}  # fmt: skip
SCHEMES = ("http", "https", "HTTPS", "ftp", "file", "gopher", "dict", "unix", "data:;x", "jar:https", "http+unix")


def in_object(url: str) -> dict[str, str]:
    return {"type": "url", "value": url}


FIELDS: dict[str, Callable[[str], tuple[str, dict[str, Any]]]] = {
    "Roboflow's image": lambda url: ("/infer/object_detection", {"model_id": "yolov8n-640", "image": in_object(url)}),
    "of an array": lambda url: ("/infer/object_detection", {
        "model_id": "yolov8n-640", "image": [{"type": "base64", "value": GIF}, in_object(url)],
    }),
    "of an embedding": lambda url: ("/clip/embed_image", {"image": in_object(url)}),
    "of a comparison": lambda url: ("/clip/compare", {"subject": in_object(url), "prompt": "a"}),
    "of a comparison's prompt": lambda url: (
        "/clip/compare", {"subject": "a", "subject_type": "text", "prompt": [in_object(url)], "prompt_type": "image"}
    ),
    "of SAM": lambda url: ("/sam/embed_image", {"image": in_object(url)}),
    "of SAM2": lambda url: ("/sam2/segment_image", {"image": in_object(url), "prompts": []}),
    "of an example": lambda url: ("/owlv2/infer", {
        "image": {"type": "base64", "value": GIF}, "owlv2_version_id": "owlv2-large-patch14",
        "training_data": [{"image": in_object(url), "boxes": [{"x": 1, "y": 1, "w": 1, "h": 1, "cls": "a"}]}],
    }),
    "Hugging Face's inputs": lambda url: ("/models/yolov8n-640", {"inputs": url}),
    "Hugging Face's image": lambda url: ("/models/smolvlm-256m", {"inputs": {"image": url, "question": "what"}}),
    "OpenAI's image_url": lambda url: ("/v1/chat/completions", {"model": "smolvlm-256m", "messages": [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]},
    ]}),
    "OpenAI's input": lambda url: ("/v1/embeddings", {"model": "clip/RN50", "input": [
        {"type": "image_url", "image_url": {"url": url}},
    ]}),
    "Vi's source": lambda url: ("/vi/v1/predict", {
        "run_id": "smolvlm-256m", "source": in_object(url), "user_prompt": "a",
    }),
    "Vi's local server": lambda url: ("/v1/chat/completions", {
        "model": "smolvlm-256m", "source": url, "user_prompt": "a",
    }),
}  # fmt: skip


def ask(house, field: str, url: str) -> httpx.Response:
    path, body = FIELDS[field](url)
    return house.client.post(path, json=body, headers={"x-wait-for-model": "true", "x-use-cache": "false"})


def assert_refused(answer: httpx.Response, url: str) -> None:
    vi = answer.status_code == 200 and answer.request.url.path.startswith("/vi/")  # each picture has its own error
    assert answer.status_code in (400, 422) or vi and answer.json()["results"][0]["result"] is None, answer.text[:300]
    assert "Internal" not in answer.text and "Traceback" not in answer.text, url


@pytest.mark.attack("requests to the inside (SSRF)")
@pytest.mark.parametrize("field", FIELDS)
def test_no_field_of_any_dialect_reaches_this_machine(shared_house, canary, field):
    for scheme in ("http", "https"):
        for host in ("127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]"):
            url = f"{scheme}://{host}:{canary.port}/a.jpg"
            assert_refused(ask(shared_house, field, url), url)
    assert canary.came == 0


@pytest.mark.attack("requests to the inside (SSRF)")
@pytest.mark.parametrize("name", HOSTS)
def test_no_spelling_of_a_host_reaches_this_machine(shared_house, canary, name):
    for slashes in ("//", "", "\\\\", "///"):
        url = f"https:{slashes}{HOSTS[name]}:{canary.port}/a.jpg"
        assert_refused(ask(shared_house, "Roboflow's image", url), url)
    assert canary.came == 0


@pytest.mark.attack("requests to the inside (SSRF)")
@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_other_scheme_is_followed(shared_house, canary, scheme):
    for rest in (f"//127.0.0.1:{canary.port}/a", "///etc/passwd", f"//127.0.0.1:{canary.port}/_SLAVEOF%20x%201"):
        url = f"{scheme}:{rest}"
        for field in ("Roboflow's image", "Hugging Face's inputs", "OpenAI's image_url"):
            answer = ask(shared_house, field, url)
            assert_refused(answer, url)
            assert "root:" not in answer.text
    assert canary.came == 0


@pytest.mark.attack("DNS rebinding")
def test_a_name_that_changes_its_address_is_asked_where_it_was_checked(monkeypatch):
    """127.0.0.2 stands for a public address here; a second lookup would give 127.0.0.1."""
    asked: list[str] = []

    async def listening(address: str) -> tuple[asyncio.Server, int]:
        async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.append(address)
            writer.close()

        server = await asyncio.start_server(note, address, 0)
        return server, server.sockets[0].getsockname()[1]

    addresses = iter(["127.0.0.2", "127.0.0.1", "127.0.0.1"])

    async def resolve(host: str, port: int) -> list[str]:
        return [next(addresses)]

    async def main() -> None:
        public, port = await listening("127.0.0.2")
        private = await asyncio.start_server(lambda r, w: asked.append("127.0.0.1"), "127.0.0.1", port)
        fetcher = Fetcher(5, resolve=resolve)
        with pytest.raises(InvalidPicture):  # neither speaks TLS
            await fetcher.fetch(f"https://changes.test:{port}/a.jpg", lambda n: None)
        await fetcher.close()
        for server in (public, private):
            server.close()

    monkeypatch.setattr(fetch, "is_public", lambda address: address == "127.0.0.2")
    asyncio.run(main())
    assert asked == ["127.0.0.2"]


@pytest.mark.attack("answers of a URL that cost more than they bring")
def test_a_picture_in_pieces_of_a_byte_is_given_up(picture):
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 200_000)
        writer.close()

    counted = 0

    def take(n: int) -> None:
        nonlocal counted
        counted += n

    async def main() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        fetcher = Fetcher(5, frozenset({"127.0.0.1"}))
        with pytest.raises(InvalidPicture, match="small pieces"):
            await fetcher.fetch(f"http://127.0.0.1:{port}/", take)
        await fetcher.close()
        server.close()

    asyncio.run(main())
    assert counted < 2000


@pytest.mark.attack("answers of a URL that cost more than they bring")
def test_a_compressed_picture_of_a_url_is_not_decompressed():
    import gzip

    bomb = gzip.compress(bytes(50 * 2**20))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"accept-encoding: identity" in head.lower()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\nconnection: close\r\n\r\n" + bomb)
        writer.close()

    async def main() -> bytes:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        fetcher = Fetcher(5, frozenset({"127.0.0.1"}))
        try:
            return await fetcher.fetch(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", lambda n: None)
        finally:
            await fetcher.close()
            server.close()

    assert asyncio.run(main()) == bomb
