"""Pictures that callers of ``/sam/*`` and ``/sam2/*`` keep under an id, so that later requests need not send them.

Their encodings are cached in the inference server, by the picture's content. Where facades share a Redis, what an id
means is there alone: a picture of another facade is found, and one that was replaced there is never taken for it.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
import orjson
from starlette.requests import Request

from tritonvision.errors import InvalidPicture
from tritonvision.facade.context import service_of
from tritonvision.facade.dialects.roboflow.schemas import Picture
from tritonvision.facade.security.keys import key_beside_the_body
from tritonvision.facade.service import Read
from tritonvision.facade.shared_store import SharedStore, name_of

_LOGITS = (256, 256)


@dataclass
class Kept:
    """A picture, encoded, and the logits float32 ``[256,256]`` of the last mask that each model selected in it."""

    picture: bytes
    logits: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Its bytes."""
        return len(self.picture) + sum(logits.nbytes for logits in self.logits.values())


class EncodingCache:
    """Pictures by the caller's key and id, so that callers cannot read each other's; an LRU cache of one process.

    Args:
        most_bytes, most: of all of them together.
    """

    def __init__(self, most_bytes: int, most: int = 64):
        self._most, self._most_bytes = most, most_bytes
        self._kept: OrderedDict[tuple[str | None, str], Kept] = OrderedDict()

    @property
    def size(self) -> int:
        """Bytes of all entries."""
        return sum(kept.size for kept in self._kept.values())

    def get(self, key: str | None, image_id: str) -> Kept:
        """The entry. Raises InvalidPicture if there is none, or it was dropped."""
        kept = self._kept.get((key, image_id))
        if kept is None:
            raise InvalidPicture("No picture is kept under this 'image_id'.", hint="Send the picture with it.")
        self._kept.move_to_end((key, image_id))
        return kept

    def put(self, key: str | None, image_id: str, picture: bytes) -> Kept:
        """Keep ``picture``, replacing another one of that id with its masks."""
        kept = self._kept.get((key, image_id))
        if kept is None or kept.picture != picture:
            kept = Kept(picture)
        self._kept[key, image_id] = kept
        self._kept.move_to_end((key, image_id))
        while len(self._kept) > self._most or self.size > self._most_bytes:
            self._kept.popitem(last=False)
        return kept


class KeptPictures:
    """The pictures of an application: in its process, or, where facades share a Redis, there.

    In Redis an id leads to the digests of its picture and logits, and each digest to the bytes, so that a facade that
    has the bytes does not fetch them again. While Redis does not answer nothing is kept: the callers are told to send
    the picture, because what an id means may have changed elsewhere.
    """

    def __init__(self, cache: EncodingCache, store: SharedStore):
        self._cache, self._store = cache, store

    @property
    def size(self) -> int:
        """Bytes in this process."""
        return self._cache.size

    async def get(self, key: str | None, image_id: str) -> Kept:
        """What is kept. Raises InvalidPicture if there is nothing, or it was dropped."""
        if not self._store.shared:
            return self._cache.get(key, image_id)
        told = await self._store.get(_name(key, image_id))
        if told is None:
            raise InvalidPicture("No picture is kept under this 'image_id'.", hint="Send the picture with it.")
        digests = orjson.loads(told)
        picture = await self._bytes_of(digests["picture"])
        logits = {}
        for name, digest in digests["logits"].items():
            logits[name] = np.frombuffer(await self._bytes_of(digest), np.float32).reshape(_LOGITS)
        return Kept(picture, logits)

    async def put(
        self, key: str | None, image_id: str, picture: bytes, logits: Mapping[str, np.ndarray] | None = None
    ) -> None:
        """Keep ``picture``, and the logits of masks by name beside those that it has; another one of that id goes."""
        if not self._store.shared:
            self._cache.put(key, image_id, picture).logits |= logits or {}
            return
        told = await self._store.get(_name(key, image_id))
        digests: dict[str, Any] = {"picture": await self._keep_bytes(picture), "logits": {}}
        if told is not None and (before := orjson.loads(told))["picture"] == digests["picture"]:
            digests["logits"] = before["logits"]
        for name, array in (logits or {}).items():
            digests["logits"][name] = await self._keep_bytes(np.ascontiguousarray(array, np.float32).tobytes())
        await self._store.put(_name(key, image_id), orjson.dumps(digests))

    async def _keep_bytes(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        self._cache.put(None, digest, data)
        if not await self._store.has(f"bytes:{digest}"):
            await self._store.put(f"bytes:{digest}", data)
        return digest

    async def _bytes_of(self, digest: str) -> bytes:
        try:
            return self._cache.get(None, digest).picture
        except InvalidPicture:
            data = await self._store.get(f"bytes:{digest}", large=True)
            if data is None or hashlib.sha256(data).hexdigest() != digest:
                raise
            self._cache.put(None, digest, data)
            return data


def _name(key: str | None, image_id: str) -> str:
    return name_of("picture", "" if key is None else f"key {key}", image_id)


class About(Protocol):
    """The body of a request about a picture that may be kept."""

    api_key: Any
    image: Picture | None
    image_id: str | None


def of(request: Request) -> KeptPictures:
    """The pictures of this application."""
    state = request.app.state
    if not hasattr(state, "kept_pictures"):
        service = service_of(request)
        kept = state.kept_pictures = KeptPictures(EncodingCache(service.settings.kept_pictures), service.store)
        service.metrics.gauge("tritonvision_kept_picture_bytes", "Pictures kept by image_id", lambda: kept.size)
    return state.kept_pictures


def caller(request: Request, ask: About) -> str | None:
    """The caller's identity: the key of the request, whether one is required or not."""
    return key_beside_the_body(request) or (ask.api_key if isinstance(ask.api_key, str) else None)


def reading(request: Request, ask: About) -> Read:
    """How to read the picture of a request: its own, or the one kept under its id.

    Raises:
        InvalidPicture: it has neither; where nothing is kept under the id, reading raises it.
    """
    if ask.image is not None:
        return partial(service_of(request).pictures.read, ask.image.type, ask.image.value)
    if not ask.image_id:
        raise InvalidPicture("There is no picture in the request.", hint="Send 'image', or the 'image_id' of one.")
    return partial(_kept, of(request), caller(request, ask), ask.image_id)


async def _kept(pictures: KeptPictures, key: str | None, image_id: str, _: Any) -> bytes:
    return (await pictures.get(key, image_id)).picture


def ready(picture: bytes) -> Read:
    """How to read a picture that is here already."""

    async def read(_: Any) -> bytes:
        return picture

    return read
