"""The API key, where one is required: in the query, the Authorization header, or a JSON field, in this order.

The field is looked for in the first 64 KB of a body, where clients put it.
"""

from __future__ import annotations

import hmac
import re

import orjson
from starlette.requests import Request

from tritonvision.errors import Unauthorized
from tritonvision.facade.context import context_of, service_of
from tritonvision.facade.inputs.json_body import starts_an_object

_BEARER = re.compile(r"bearer:?\s+(\S+)\s*", re.IGNORECASE)
_FIELD = re.compile(rb'"api_key"\s*:\s*"([^"\\]*)"')
_BEGINNING = 64 * 1024  # of a body, in which the key of a longer one must stand
_NO_KEYS = ("", "None", "null")


async def authorize(request: Request) -> None:
    """Check the key of a request; every route depends on this.

    Raises:
        Unauthorized: a key is required, and the request has none or a wrong one.
    """
    wanted = service_of(request).settings.api_key
    # The path as received: in a URL rebuilt from the Host header the caller could choose it.
    if not wanted or request.scope["path"] in request.app.state.open_paths:
        return
    given = key_beside_the_body(request) or await _body_key(request)
    if given is None:
        raise Unauthorized(
            "An API key is required.",
            hint="Send it in an Authorization: Bearer header, or as api_key in the query or early in the JSON.",
        )
    if not hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode("utf-8", "replace")):
        raise Unauthorized("Unauthorized api_key")


def key_beside_the_body(request: Request) -> str | None:
    """The key in the query or in the header of a request, whether one is required or not."""
    return _query_key(request) or _header_key(request)


def _query_key(request: Request) -> str | None:
    return _key(request.query_params.get("api_key"))


def _header_key(request: Request) -> str | None:
    found = _BEARER.fullmatch(request.headers.get("authorization", ""))
    return _key(found[1]) if found else None


async def _body_key(request: Request) -> str | None:
    """The key in a JSON body. Before the key is checked only the beginning of the body is read."""
    body = context_of(request).body
    if request.method != "POST" or body is None:
        return None
    beginning = await body.peek(_BEGINNING)
    if not starts_an_object(beginning):
        return None
    if not body.empty or len(beginning) > _BEGINNING:
        found = _FIELD.search(beginning, 0, _BEGINNING)
        return _key(found[1].decode("utf-8", "replace")) if found else None
    try:
        return _key(orjson.loads(beginning).get("api_key"))
    except ValueError:
        return None


def _key(value: object) -> str | None:
    """Clients without a key send null, nothing, or the word None."""
    return value if isinstance(value, str) and value not in _NO_KEYS else None
