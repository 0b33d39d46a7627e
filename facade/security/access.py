"""Who may do what: the server's API keys, which models they are for, and who manages what is loaded."""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
import logging
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from starlette.requests import HTTPConnection

from tritonvision import api_keys
from tritonvision.api_keys import ASK, MANAGE, ApiKey
from tritonvision.errors import Forbidden, SetupError, TooManyRequests, Unauthorized
from tritonvision.facade.security.limits import Rate
from tritonvision.facade.security.origins import from_own_page
from tritonvision.facade.shared_store import SharedStore
from tritonvision.settings import Settings

log = logging.getLogger("tritonvision.access")

ALL, ALL_BUT_PRIVATE = "**", "*"
_LOOK_SECONDS = 1.0  # between two looks at the file of keys
_THE_KEY = "default"  # the name of the setting api_key, in logs
_NOBODY = "(none)"  # who has no key, as a holder of budgets: no key can be called so
_KEY_WANTED = "Send it in an Authorization: Bearer header, or as api_key in the query or early in the JSON."
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")


@dataclass(frozen=True, eq=False)
class Caller:
    """Who sent a request.

    Attributes:
        key: None for who has none.
        settings: of the server.
        closed: whether the server has keys, so that who has none may ask public models only.
        rate: the key's limit, or None.
    """

    key: ApiKey | None
    settings: Settings
    closed: bool
    rate: Rate | None = None

    @property
    def name(self) -> str:
        """The name of the key, for logs and metrics; empty without one."""
        return self.key.name if self.key else ""

    @property
    def holder(self) -> str:
        """Under which it shares the server with others; empty where the server does not tell callers apart."""
        return (self.name or _NOBODY) if self.closed else ""

    def may_ask(self, model_id: str) -> bool:
        """Whether it may ask the model with this id."""
        if _matches(model_id, self.settings.public_models):
            return True
        return self._has(ASK) and self.reaches(model_id)

    def check_ask(self, model_id: str) -> None:
        """Raises Unauthorized where a key would be needed, Forbidden where the key is not for this model."""
        if not self.may_ask(model_id):
            if self.key is None:
                raise Unauthorized(f"The model '{model_id[:80]}' needs an API key.", hint=_KEY_WANTED)
            raise Forbidden(f"This API key may not ask the model '{model_id[:80]}'.")

    def why_not_manage(self, connection: HTTPConnection) -> Unauthorized | Forbidden | None:
        """Why it may not load, unload and export models; None where it may."""
        manage = self.settings.manage
        if manage == "none":
            return Forbidden("Requests cannot load, unload or export models of this server.")
        if manage == "local" and not _local(connection):
            return Forbidden("Models of this server are loaded and unloaded from its own machine.")
        if self.closed and self.key is None:
            return Unauthorized("To load and unload models an API key is required.", hint=_KEY_WANTED)
        if not self._has(MANAGE):
            return Forbidden("This API key may ask models; it may not load, unload or export them.")
        if not self.closed and _of_a_foreign_page(connection, self.settings):
            return Forbidden(
                "Web pages of other origins may ask models; they may not load, unload or export them.",
                hint="Its operator can name the page in TRITONVISION_CORS_ORIGINS, or have keys.",
            )
        return None

    def may_manage(self, connection: HTTPConnection) -> bool:
        """Whether it may load, unload and export models."""
        return self.why_not_manage(connection) is None

    def check_manage(self, connection: HTTPConnection, model_id: str | None = None) -> None:
        """Raises Unauthorized or Forbidden where it may not load, unload and export models, or not this one."""
        why_not = self.why_not_manage(connection)
        if why_not is not None:
            raise why_not
        if model_id is not None and not self.reaches(model_id):
            raise Forbidden(f"This API key is not for the model '{model_id[:80]}'.")

    def reaches(self, model_id: str) -> bool:
        """Whether a model is among those that the key is for, whatever it may do with them."""
        patterns: Iterable[str] = (ALL_BUT_PRIVATE,)
        if self.closed:
            patterns = self.key.models if self.key else ()
        if _matches(model_id, self.settings.private_models):
            patterns = [pattern for pattern in patterns if pattern != ALL_BUT_PRIVATE]
        return _matches(model_id, patterns)

    def sees(self, model_id: str) -> bool:
        """Whether a list of models may name it to this caller."""
        return self.reaches(model_id) or self.may_ask(model_id)

    def sees_figures(self, model_id: str) -> bool:
        """Whether ``/metrics``, which needs no key, may name the model to it: private ones to those that see them."""
        return not _matches(model_id, self.settings.private_models) or self.sees(model_id)

    async def count(self, store: SharedStore) -> None:
        """Count one request, together with those at other facades where they share a Redis. Raises TooManyRequests."""
        if self.rate is not None:
            await self.rate.check_with(store, self.name)

    def count_pictures(self, pictures: int, others: int, further: int) -> None:
        """Count the pictures of a request. A request over the limit alone passes when no other of the caller runs.

        Args:
            others: pictures of its other requests that are being answered.
            further: pictures that the rate does not know of yet.

        Raises:
            TooManyRequests: over the key's concurrency.
        """
        most = self.key.concurrency if self.key else None
        if most is not None and others and others + pictures > most:
            raise TooManyRequests(f"This API key may have {most} pictures answered at once.", retry_after=1.0)
        if self.rate is not None:
            self.rate.charge(further)

    def _has(self, right: str) -> bool:
        return not self.closed if self.key is None else right in self.key.may


class Access:
    """The callers that a server knows by their keys.

    Keys come from the settings ``api_key`` and ``keys``, and from the file ``keys_file``, which is read again when it
    changed. A file that cannot be read then changes nothing: the keys of before count, and the log says why.

    Attributes:
        closed: whether there are keys.
        nobody: the caller without a key.

    Raises:
        SetupError: the file cannot be read at the start, or a name is there twice.
    """

    def __init__(self, settings: Settings):
        self._settings = settings
        self._fixed = [*settings.keys]
        if settings.api_key is not None:
            both = frozenset((ASK, MANAGE))
            self._fixed.append(
                ApiKey(name=_THE_KEY, sha256=api_keys.digest(settings.api_key), models=(ALL,), may=both)
            )
        self.closed = bool(self._fixed) or settings.keys_file is not None
        self.nobody = Caller(None, settings, self.closed)
        self._callers: Sequence[tuple[bytes, Caller]] = ()
        self._seen: tuple[int, ...] = ()
        self._looked = 0.0
        self._read()

    def caller(self, key: str | None) -> Caller:
        """Who has this key; None is who sent none.

        Raises:
            Unauthorized: nobody has it, or the server has keys and no models for those without one.
        """
        if not self.closed:
            return self.nobody
        self._look()
        if key is None:
            if not self._settings.public_models:
                raise Unauthorized("An API key is required.", hint=_KEY_WANTED)
            return self.nobody
        given = bytes.fromhex(api_keys.digest(key))
        found = None
        for digest, caller in self._callers:  # all of them, so that the time tells nothing
            if hmac.compare_digest(digest, given):
                found = caller
        if found is None:
            raise Unauthorized("Unauthorized api_key")
        return found

    def reload(self) -> None:
        """Read the file of keys again. What is wrong with it goes to the log."""
        try:
            self._read()
        except SetupError as error:
            log.error("The keys stay as they were: %s", error.message)
        else:
            log.info("%d API keys are known.", len(self._callers))

    def _look(self) -> None:
        """Read the file again if it changed."""
        now = time.monotonic()
        if self._settings.keys_file is not None and now - self._looked > _LOOK_SECONDS:
            self._looked = now
            seen = self._stamp()
            if seen != self._seen:
                self._seen = seen
                self.reload()

    def _read(self) -> None:
        file = self._settings.keys_file
        self._seen = self._stamp()
        keys = [*self._fixed, *(api_keys.read(file) if file is not None else ())]
        api_keys.check_distinct(keys, "the settings" if file is None else f"the settings and {file}")
        before = {caller.name: caller.rate for _, caller in self._callers}
        self._callers = [(bytes.fromhex(key.sha256), self._of(key, before.get(key.name))) for key in keys]

    def _of(self, key: ApiKey, rate: Rate | None) -> Caller:
        if rate is None or rate.per_second != key.rate:
            rate = None if key.rate is None else Rate(key.rate)
        return Caller(key, self._settings, True, rate)

    def _stamp(self) -> tuple[int, ...]:
        with contextlib.suppress(OSError):
            if self._settings.keys_file is not None:
                stat = os.stat(self._settings.keys_file)
                return stat.st_mtime_ns, stat.st_size, stat.st_ino
        return ()


def caller_of(connection: HTTPConnection) -> Caller:
    """Who sent a request whose key was checked."""
    return connection.state.caller


def _matches(model_id: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(model_id, pattern) for pattern in patterns)


def _local(connection: HTTPConnection) -> bool:
    """Whether a request comes from this machine itself, and not through a proxy on it."""
    if connection.client is None or any(name in connection.headers for name in _FORWARDED):
        return False
    try:
        return ipaddress.ip_address(connection.client.host).is_loopback
    except ValueError:
        return False


def _of_a_foreign_page(connection: HTTPConnection, settings: Settings) -> bool:
    """Whether it comes from a web page that is not the server's own and is not named; only ``*`` lets such ask."""
    headers = connection.headers
    return headers.get("origin") not in settings.cors_origins and not from_own_page(headers)
