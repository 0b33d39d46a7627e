"""The API key, where one is required: in the query, the Authorization header, or a JSON field, in this order."""

from __future__ import annotations

import hmac
import re

from starlette.requests import Request

from tritonvision.errors import Unauthorized
from tritonvision.facade.context import read_json, service_of

_BEARER = re.compile(r"bearer:?\s+(\S+)\s*", re.IGNORECASE)
_NO_KEYS = ("", "None", "null")


async def authorize(request: Request) -> None:
    """Let a request with the right key pass; every route depends on this.

    Raises:
        Unauthorized: a key is required, and the request has none or another one.
    """
    wanted = service_of(request).settings.api_key
    # The path as the server received it: a URL rebuilt from the Host header is the caller's to choose.
    if not wanted or request.scope["path"] in request.app.state.open_paths:
        return
    given = await given_key(request)
    if given is None:
        raise Unauthorized("An API key is required.", hint="Send it as api_key, or in an Authorization: Bearer header.")
    if not hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode("utf-8", "replace")):
        raise Unauthorized("Unauthorized api_key")


async def given_key(request: Request) -> str | None:
    """The key a request brought, whether one is required or not."""
    return _query_key(request) or _header_key(request) or await _body_key(request)


def _query_key(request: Request) -> str | None:
    return _key(request.query_params.get("api_key"))


def _header_key(request: Request) -> str | None:
    found = _BEARER.fullmatch(request.headers.get("authorization", ""))
    return _key(found[1]) if found else None


async def _body_key(request: Request) -> str | None:
    if request.method != "POST" or not (await request.body()).lstrip()[:1] == b"{":
        return None
    try:
        body = await read_json(request)
    except ValueError:
        return None
    return _key(body.get("api_key"))


def _key(value: object) -> str | None:
    """Clients without a key send null, nothing, or the word None."""
    return value if isinstance(value, str) and value not in _NO_KEYS else None
