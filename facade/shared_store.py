"""What one facade knows and the others must: values and counts in Redis, where one is named.

Nothing here is ever waited for long, and nothing fails: a Redis that does not answer is left alone for some seconds,
and says nothing meanwhile. Whoever asks has to be right without it, if slower.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from importlib.util import find_spec
from typing import Any, TypeVar

from tritonvision.errors import SetupError

log = logging.getLogger(__name__)

T = TypeVar("T")
_PREFIX = "tritonvision:1:"  # of all keys; the number changes with the form of what is kept
_LEFT_ALONE_SECONDS = 5.0
_BYTES_A_SECOND = 20_000_000  # a large value may take longer than the timeout
KEPT_SECONDS = 3600
# Redis runs it as one step, by its own clock, so that facades need not agree about the time.
_TAKE = """
local rate, most, amount = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
local known = redis.call('HMGET', KEYS[1], 'left', 'seen')
local left, seen = tonumber(known[1]) or most, tonumber(known[2]) or now
left = math.min(left + (now - seen) * rate, most)
if left < 1 then return tostring((1 - left) / rate) end
redis.call('HSET', KEYS[1], 'left', string.format('%.17g', left - amount), 'seen', string.format('%.17g', now))
redis.call('PEXPIRE', KEYS[1], math.ceil(1000 * (most - left + amount) / rate) + 1000) -- by then it is full again
return '0'
"""


class SharedStore:
    """Values by key, for all facades with the same Redis.

    Args:
        url: ``redis://HOST:PORT/0``, ``rediss://`` for TLS, or ``unix://``; None for nothing that is shared.
        timeout: seconds until an answer is not waited for any more.

    Attributes:
        shared: whether there is a Redis.

    Raises:
        SetupError: the package redis is missing, or the URL is none.
    """

    def __init__(self, url: str | None, timeout: float):
        self.shared, self._timeout = url is not None, timeout
        self._left_alone_until = 0.0
        self._writes: set[asyncio.Task[None]] = set()
        if url is None:
            return
        if find_spec("redis") is None:
            raise SetupError(
                "A Redis is named, and the package for it is missing.", hint="pip install 'tritonvision[redis]'"
            )
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        try:
            self._redis = Redis.from_url(
                url, socket_timeout=None, socket_connect_timeout=timeout, retry=Retry(NoBackoff(), 0),
                health_check_interval=0,
            )  # fmt: skip
        except ValueError as error:
            raise SetupError("The URL of Redis cannot be read.", hint="redis://HOST:PORT/0 is one.") from error

    @property
    def well(self) -> bool:
        """Whether there is a Redis that answered, as far as is known."""
        return self.shared and time.monotonic() >= self._left_alone_until

    async def get(self, key: str, *, large: bool = False) -> bytes | None:
        """The value under ``key``; None where there is none, and where Redis does not answer.

        Args:
            large: whether it may be megabytes, which may take a second longer.
        """
        value = await self._ask(lambda: self._redis.get(_PREFIX + key), self._timeout + large)
        return value.encode() if isinstance(value, str) else value  # bytes, of a client that decodes nothing

    async def put(self, key: str, value: bytes, seconds: int = KEPT_SECONDS) -> bool:
        """Keep ``value`` for ``seconds``; whether it is kept."""
        longest = self._timeout + len(value) / _BYTES_A_SECOND
        return bool(await self._ask(lambda: self._redis.set(_PREFIX + key, value, ex=seconds), longest))

    async def has(self, key: str) -> bool:
        """Whether there is a value; its time begins anew."""
        return bool(await self._ask(lambda: self._redis.expire(_PREFIX + key, KEPT_SECONDS), self._timeout))

    async def take(self, key: str, per_second: float, most: float, amount: float = 1.0) -> float | None:
        """Take ``amount`` tokens, if there is one, out of a bucket that holds ``most`` and refills evenly.

        Returns:
            0 where it was there, however much is then owed; else the seconds until it is, and nothing is taken;
            None where Redis does not answer, so that the caller counts in its own process.
        """
        told = await self._ask(
            lambda: self._redis.eval(_TAKE, 1, _PREFIX + key, per_second, most, amount), self._timeout
        )
        return None if told is None else float(told)

    def later(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do ``work`` beside the answer that is being given."""
        task = asyncio.ensure_future(work)
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    async def close(self) -> None:
        """Drop the connections, after what is being written."""
        if self._writes:
            await asyncio.wait(self._writes, timeout=1.0)
        if self.shared:
            await self._redis.aclose()

    async def _ask(self, call: Callable[[], Awaitable[T]], longest: float) -> T | None:
        if not self.well:
            return None
        from redis.exceptions import RedisError

        try:
            async with asyncio.timeout(longest):
                return await call()
        except (RedisError, OSError, TimeoutError) as error:
            self._left_alone_until = time.monotonic() + _LEFT_ALONE_SECONDS
            log.warning("Redis does not answer (%s); what is shared waits for it.", type(error).__name__)
            return None


def name_of(kind: str, *parts: bytes | str) -> str:
    """A key of one length for any parts: callers' ids and keys are not to be read in Redis."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8) + data)
    return f"{kind}:{digest.hexdigest()}"
