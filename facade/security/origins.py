"""Protects against cross-site requests and DNS rebinding: checks ``Origin``, ``Sec-Fetch-Site`` and ``Host``."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from tritonvision.errors import Forbidden
from tritonvision.settings import Settings

_OWN_PAGES = ("same-origin", "none")  # "none": the address bar, a bookmark
_ANY = "*"


class OriginGuard:
    """Refuses requests that a web page of another origin makes a browser send.

    Browsers send ``Sec-Fetch-Site`` or ``Origin``; requests without both come from programs and pass. GET is checked
    too, since routes of vendors' contracts load and unload models by GET; only the open paths, which have no side
    effects, can be linked to. A server that listens on loopback only also refuses another name in ``Host``, since a
    page can resolve its own name to 127.0.0.1 (DNS rebinding).

    Args:
        trusted: allowed origins (``https://app.example.com``), or ``*``.
        hosts: allowed names in ``Host``, or ``*``.
        open_paths: reachable by links from other origins.
    """

    def __init__(self, app: ASGIApp, trusted: Collection[str], hosts: Collection[str], open_paths: Collection[str]):
        self._app, self._trusted, self._open_paths = app, trusted, open_paths
        self._hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI's hook. Raises Forbidden."""
        if scope["type"] in ("http", "websocket"):  # browsers open sockets to other origins, too
            headers = Headers(scope=scope)
            self._check_host(headers.get("host", ""))
            if scope["path"] not in self._open_paths and not self._may_act(headers):
                raise Forbidden(
                    "Web pages of other origins may not use this server.",
                    hint="Its operator can name them in TRITONVISION_CORS_ORIGINS.",
                )
        await self._app(scope, receive, send)

    def _check_host(self, host: str) -> None:
        name = _name_in(host)
        if name and _ANY not in self._hosts and name not in self._hosts and not _is_address(name):
            raise Forbidden(
                f"This server is not called '{name[:60]}'.",
                hint="Its operator can name it in TRITONVISION_ALLOWED_HOSTS.",
            )

    def _may_act(self, headers: Headers) -> bool:
        return _ANY in self._trusted or headers.get("origin") in self._trusted or from_own_page(headers)


def from_own_page(headers: Headers) -> bool:
    """Whether a request comes from a page of this server, from the address bar or from a program."""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if site is not None:
        return site in _OWN_PAGES
    return origin is None or urlsplit(origin).netloc.lower() == headers.get("host", "").lower()


def hosts_of(settings: Settings) -> frozenset[str]:
    """The allowed names in ``Host``.

    A server on loopback has the names of this machine. Any other accepts all names, unless some are set.
    """
    if settings.allowed_hosts or settings.loopback:
        return settings.allowed_hosts | {"localhost", settings.host.lower()}
    return frozenset((_ANY,))


def _name_in(host: str) -> str:
    """The name or the address in a ``Host`` header, without the port; lower case."""
    try:
        return (urlsplit(f"//{host}").hostname or host).rstrip(".")
    except ValueError:  # an unclosed bracket
        return host


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
