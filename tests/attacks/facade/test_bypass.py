"""Ways around the key: other spellings of a path, other channels, headers of proxies. Without a key nothing answers."""

from __future__ import annotations

import asyncio
import base64
import os

import pytest
from posted_routes import Route, paths
from raw_http import answered, request, statuses

from tritonvision.facade.dialects.registry import OPEN_PATHS

CLOSED = [
    (method.upper(), Route(path, operation).path) for path in sorted(set(paths()) - OPEN_PATHS)
    for method, operation in paths()[path].items()
]  # fmt: skip
SPELLINGS = {
    "a slash more": lambda path: f"{path}/", "slashes before": lambda path: f"//{path[1:]}",
    "slashes within": lambda path: path.replace("/", "//"),
    "an encoded letter": lambda path: f"/%{ord(path[1]):02x}{path[2:]}",
    "encoded slashes": lambda path: "/" + path[1:].replace("/", "%2f"), "capitals": str.upper,
    "an open page before": lambda path: f"/healthz/..{path}", "an encoded way up": lambda path: f"/docs/%2e%2e{path}",
    "the folder itself": lambda path: f"/.{path}", "a parameter": lambda path: f"{path};a=/healthz",
    "an ending": lambda path: f"{path}.json", "NUL": lambda path: f"{path}%00/healthz",
    "a query": lambda path: f"{path}?/healthz",
    "a fragment": lambda path: f"{path}#/healthz", "a whole URL": lambda path: f"http://localhost{path}",
    "a URL with a name in it": lambda path: f"http://healthz@localhost{path}", "a space": lambda path: f"{path}%20",
    "backslashes": lambda path: "/" + path[1:].replace("/", "\\"),
}  # fmt: skip
HEADERS = {
    "another method": ["x-http-method-override: GET"], "an original URL": ["x-original-url: /healthz"],
    "a rewritten URL": ["x-rewrite-url: /healthz"], "a prefix": ["x-forwarded-prefix: /healthz"],
    "a caller of this machine": ["x-forwarded-for: 127.0.0.1", "x-real-ip: 127.0.0.1", "forwarded: for=127.0.0.1"],
    "two keys": ["authorization: Bearer wrong", "authorization: Bearer None"],
    "an empty key": ["authorization: Bearer "],
    "a key with NUL": ["authorization: Bearer right%00"], "a key in a cookie": ["cookie: api_key=right"],
    "another scheme": ["authorization: Basic cmlnaHQ6cmlnaHQ="],
    "a user": ["x-user: admin", "x-authenticated-user: admin"],
}  # fmt: skip
HOSTS = [
    "", "localhost:9001/healthz", "localhost/healthz?", "[::1]/healthz", "healthz", "localhost@healthz",
    "localhost#/healthz",
]  # fmt: skip
REFUSED = {400, 401, 403, 404, 405, 422, 501}


def attack(house, served, *requests: bytes) -> list[int]:
    """The statuses of these requests to a server that wants a key; it must have asked and loaded nothing."""

    async def main() -> list[int]:
        async with served(house, api_key="right", allowed_hosts=frozenset("*")) as client:
            found = []
            for data in requests:
                found += await statuses(client.base_url.port, data)
            return found

    found = asyncio.run(main())
    assert house.engine.asked == [] and house.engine.loaded() == [] and house.engine.chats == []
    return found


@pytest.mark.attack("ways past the key")
@pytest.mark.parametrize("name", SPELLINGS)
def test_no_other_spelling_of_a_path_needs_no_key(house, served, name):
    found = attack(house, served, *(
        request("content-length: 2", method=method, path=SPELLINGS[name](path), body=b"{}") for method, path in CLOSED
    ))  # fmt: skip
    assert set(found) <= REFUSED and len(found) >= len(CLOSED)


@pytest.mark.attack("ways past the key")
@pytest.mark.parametrize("name", HEADERS)
def test_no_header_stands_for_a_key(house, served, name):
    found = attack(house, served, *(
        request("content-length: 2", *HEADERS[name], method=method, path=path, body=b"{}") for method, path in CLOSED
    ))  # fmt: skip
    assert set(found) <= {401, 403, 405} and len(found) == len(CLOSED)


@pytest.mark.attack("ways past the key")
def test_no_host_makes_a_path_another(house, served):
    found = attack(house, served, *(
        f"{method} {path} HTTP/{version}\r\nhost: {host}\r\ncontent-length: 0\r\n\r\n".encode()
        for host in HOSTS for version in ("1.1", "1.0") for method, path in CLOSED[::5]
    ))  # fmt: skip
    assert set(found) <= REFUSED


@pytest.mark.attack("ways past the key")
@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND", "get"])
def test_no_other_method_needs_no_key(house, served, method):
    found = attack(house, served, *(request(method=method, path=path) for path in sorted({path for _, path in CLOSED})))
    assert set(found) <= REFUSED


@pytest.mark.attack("ways past the key")
def test_a_socket_needs_the_key_on_every_path(house, served):
    upgrade = ("connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13",
               f"sec-websocket-key: {base64.b64encode(os.urandom(16)).decode()}")  # fmt: skip

    async def main() -> None:
        async with served(house, api_key="right") as client:
            for path in ("/streams/sam2-rt-tiny", "/streams/sam2-rt-tiny?api_key=wrong", "/model/registry", "/healthz",
                         "/infer/object_detection"):  # fmt: skip
                found = await answered(client.base_url.port, request(*upgrade, method="GET", path=path))
                assert found.startswith((b"HTTP/1.1 403", b"HTTP/1.1 401", b"HTTP/1.1 404")), (path, found[:200])

    asyncio.run(main())
