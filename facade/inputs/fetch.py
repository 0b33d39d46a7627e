"""Fetches pictures from a caller's URL, without access to the server's own network (no SSRF).

https only; the name is resolved once, every address it has must be a public one, and the connection goes to the very
address that was checked, with the name in TLS and in the Host header. Each redirect is a new address to check.
Hosts in ``allow_http_url_hosts`` are the operator's own: plain http and private addresses are fine there.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable

import httpx

from tritonvision.errors import InvalidPicture

_HTTPS = "Only https URLs are fetched."
_MAX_REDIRECTS = 3
_MAX_ADDRESSES = 4
_REDIRECTS = (301, 302, 303, 307, 308)
# After so many pieces of an answer they must have had so many bytes on average: each costs the event loop the same.
_PIECES, _SMALLEST = 1000, 64
_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address
_NAT64_LOCAL = ipaddress.ip_network("64:ff9b:1::/48")  # RFC 8215

Resolve = Callable[[str, int], Awaitable[list[str]]]


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of ``host``, in the system's order. Raises OSError, UnicodeError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in found))


def is_public(address: str) -> bool:
    """Whether ``address`` is public, and so is the IPv4 address that it embeds."""
    try:
        ip = ipaddress.ip_address(address.split("%", 1)[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in _NAT64:
            return is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
        if ip.ipv4_mapped is not None:
            return is_public(str(ip.ipv4_mapped))
        if ip.sixtofour or ip.teredo or ip in _NAT64_LOCAL or ip.is_site_local:
            return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified or ip.is_link_local)


class Fetcher:
    """Fetches pictures for callers.

    Args:
        seconds: the most one picture may take, redirects included.
        open_hosts: hosts (lower case) that need neither https nor a public address.
        verify: certificates to trust; the default is the usual public ones.
        resolve: name to addresses, called once for each hop.
    """

    def __init__(
        self, seconds: float, open_hosts: frozenset[str] = frozenset(), *, verify: ssl.SSLContext | bool = True,
        resolve: Resolve = resolve,
    ):  # fmt: skip
        self._seconds = seconds
        self._open_hosts = frozenset(host.lower() for host in open_hosts)
        self._verify = verify
        self._resolve = resolve
        self._made: httpx.AsyncClient | None = None

    async def close(self) -> None:
        """Drop connections."""
        if self._made is not None:
            await self._made.aclose()

    async def fetch(self, url: str, take: Callable[[int], None]) -> bytes:
        """The body behind ``url``.

        Args:
            take: called with the size of every piece before it is kept; raises to stop.

        Raises:
            InvalidPicture: the URL is not allowed, or did not answer in time.
        """
        try:
            async with asyncio.timeout(self._seconds):
                return await self._follow(_parse(url), take)
        except TimeoutError as error:
            raise InvalidPicture(f"The URL did not answer within {self._seconds:g} s.") from error
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, UnicodeError) as error:
            raise InvalidPicture("Nothing could be fetched from the URL.") from error

    async def _follow(self, url: httpx.URL, take: Callable[[int], None]) -> bytes:
        for _ in range(_MAX_REDIRECTS + 1):
            answer = await self._get(url, take)
            if isinstance(answer, bytes):
                return answer
            url = answer
        raise InvalidPicture(f"The URL redirects more than {_MAX_REDIRECTS} times.")

    async def _get(self, url: httpx.URL, take: Callable[[int], None]) -> bytes | httpx.URL:
        """One request: the body, or the URL it redirects to."""
        addresses = await self._checked_addresses(url)
        for n, address in enumerate(addresses, 1):
            try:
                return await self._get_from(url, address, take)
            except httpx.ConnectError:
                if n == len(addresses):
                    raise
        raise InvalidPicture("The URL's host has no address.")

    async def _checked_addresses(self, url: httpx.URL) -> list[str]:
        if url.userinfo:
            raise InvalidPicture("URLs with a user name or password are not fetched.")
        is_open = url.host.lower() in self._open_hosts
        if url.scheme != "https" and not (is_open and url.scheme == "http"):
            raise InvalidPicture(_HTTPS)
        port = url.port or (443 if url.scheme == "https" else 80)
        addresses = await self._resolve(url.raw_host.decode("ascii"), port)
        if not is_open and not all(map(is_public, addresses)):
            raise InvalidPicture("The URL does not lead to a public address.")
        return addresses[:_MAX_ADDRESSES]

    async def _get_from(self, url: httpx.URL, address: str, take: Callable[[int], None]) -> bytes | httpx.URL:
        request = self._client.build_request(
            "GET", url.copy_with(host=address),
            headers={"Host": url.netloc.decode("ascii"), "Accept": "image/*", "Accept-Encoding": "identity"},
            extensions={"sni_hostname": url.raw_host.decode("ascii")},
        )  # fmt: skip
        response = await self._client.send(request, stream=True)
        try:
            if response.status_code in _REDIRECTS and "location" in response.headers:
                return url.join(response.headers["location"])
            if response.status_code != 200:
                raise InvalidPicture(f"The URL answered with status {response.status_code}.")
            body, count = bytearray(), 0
            async for piece in response.aiter_raw():  # raw: a compressed answer is not decompressed
                take(len(piece))
                body += piece
                count += 1
                if count > _PIECES and len(body) < count * _SMALLEST:
                    raise InvalidPicture("The URL's answer comes in too small pieces.")
            return bytes(body)
        finally:
            await response.aclose()

    @property
    def _client(self) -> httpx.AsyncClient:
        # No connection is reused: its certificate was verified for one name, and another may have the same address.
        if self._made is None:
            self._made = httpx.AsyncClient(
                verify=self._verify, trust_env=False, follow_redirects=False, timeout=self._seconds,
                limits=httpx.Limits(max_keepalive_connections=0),
            )  # fmt: skip
        return self._made


def _parse(url: str) -> httpx.URL:
    parsed = httpx.URL(url.strip())
    if parsed.scheme not in ("http", "https"):
        raise InvalidPicture(_HTTPS)
    if not parsed.host:
        raise InvalidPicture("The URL has no host.")
    return parsed
