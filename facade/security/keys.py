"""The API key of a request: in the query, the Authorization header, or a JSON field, in this order.

The field is looked for in the first 64 KB of a body, where clients put it.
"""

from __future__ import annotations

import re

import orjson
from starlette.requests import HTTPConnection, Request

from tritonvision.engine.model_queue import CALLER
from tritonvision.facade.context import context_of, service_of
from tritonvision.facade.inputs.json_body import starts_an_object
from tritonvision.facade.security.access import Caller

_BEARER = re.compile(r"bearer:?\s+(\S+)\s*", re.IGNORECASE)
_FIELD = re.compile(rb'"api_key"\s*:\s*"([^"\\]*)"')
_BEGINNING = 64 * 1024  # of a body, in which the key of a longer one must stand
_NO_KEYS = ("", "None", "null")


async def authorize(request: HTTPConnection) -> None:
    """:func:`tell_caller`, except on the open paths; every route depends on this."""
    # The path as received: in a URL rebuilt from the Host header the caller could choose it.
    if request.scope["path"] not in request.app.state.open_paths:
        await tell_caller(request)


async def tell_caller(request: HTTPConnection) -> None:
    """Tell by its key who sends a request, or a WebSocket's message, and count it.

    From then on :func:`tritonvision.facade.security.access.caller_of` says it.

    Raises:
        Unauthorized: a key is required, and the request has none or a wrong one.
        TooManyRequests: the key's rate.
    """
    access = request.app.state.service.access
    given = key_beside_the_body(request) if access.closed else None
    if access.closed and given is None and isinstance(request, Request):
        given = await _body_key(request)
    caller = access.caller(given)
    await caller.count(request.app.state.service.store)
    request.state.caller = caller
    CALLER.set(caller.holder)
    if isinstance(request, Request):
        context = context_of(request)
        context.caller = caller.name
        context.reservation.belongs_to(caller.holder)


def reader_of(request: Request) -> Caller:
    """Who reads an open path, by the key beside the body if there is one. Raises Unauthorized of a wrong one."""
    access, key = service_of(request).access, key_beside_the_body(request)
    return access.nobody if key is None else access.caller(key)


def key_beside_the_body(request: HTTPConnection) -> str | None:
    """The key in the query or in the header of a request, whether one is required or not."""
    return _query_key(request) or _header_key(request)


def _query_key(request: HTTPConnection) -> str | None:
    return _key(request.query_params.get("api_key"))


def _header_key(request: HTTPConnection) -> str | None:
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
