"""Keys and values of prompts that were read, kept by content: a prompt that begins as one before is not read again.

They are kept in blocks of tokens. The key of a block is a digest of its tokens, their positions and pictures and of all
blocks before it, so a block is found only behind the same beginning. Blocks that several prompts begin with are kept
once.
"""

from __future__ import annotations

import hashlib
import threading
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tritonvision.python_backend.generation.decoder import Cache, value_of

BLOCK = 32  # tokens
LIMIT = 512 * 2**20  # bytes


@dataclass(frozen=True)
class Content:
    """What decides the keys and values of a prompt.

    Attributes:
        input_ids: (S,) int64.
        pictures: the first token and the key of each picture, in order.
        known: how many tokens from the first on these decide: less than S where a picture is not known yet.
        position_ids: int64 (S,) or (A,S); None counts from 0.
        bidirectional: how many of the first tokens attend to each other in both directions.
    """

    input_ids: np.ndarray
    pictures: Sequence[tuple[int, str]] = ()
    known: int = 0
    position_ids: np.ndarray | None = None
    bidirectional: int = 0

    def keys(self, answer: Sequence[int] = ()) -> list[bytes]:
        """The key of each whole block of the prompt and of the ``answer`` (token ids) to it."""
        ids, positions = np.append(self.input_ids, np.array(answer, dtype=np.int64)), self._positions(len(answer))
        known = self.known + (len(answer) if self.known == len(self.input_ids) else 0)
        if known < self.bidirectional:
            return []
        # Tokens that attend to later ones are decided by all of them.
        key, found = self._digest(b"", ids, positions, 0, self.bidirectional), []
        for begin in range(0, known - BLOCK + 1, BLOCK):
            key = self._digest(key, ids, positions, begin, begin + BLOCK)
            found.append(key)
        return found

    def continues_at(self, tokens: int) -> int:
        """The position behind the first ``tokens`` of the prompt."""
        return tokens if self.position_ids is None else int(self.position_ids[..., :tokens].max()) + 1

    def _positions(self, more: int) -> np.ndarray | None:
        """Of the prompt and of ``more`` tokens behind it: these count on, on all axes."""
        if self.position_ids is None or not more:
            return self.position_ids
        following = self.continues_at(self.position_ids.shape[-1]) + np.arange(more)
        return np.concatenate(
            [self.position_ids, np.broadcast_to(following, (*self.position_ids.shape[:-1], more))], axis=-1
        )

    def _digest(self, before: bytes, ids: np.ndarray, positions: np.ndarray | None, begin: int, end: int) -> bytes:
        digest = hashlib.sha256(before)
        digest.update(ids[begin:end].tobytes())
        if positions is not None:
            digest.update(positions[..., begin:end].tobytes())
        for first, key in self.pictures:
            if begin <= first < end:
                digest.update(f"{first} {key} ".encode())
        return digest.digest()


class Block:
    """Keys and values of BLOCK tokens: one array ``[heads,BLOCK,D]`` for each ``past_key_values.*``."""

    def __init__(self, parts: Sequence[np.ndarray]):
        self.parts = parts
        self.nbytes = sum(part.nbytes for part in parts)


@dataclass(frozen=True)
class Kept:
    """What is kept of the beginning of a prompt. It holds the blocks themselves and copies none.

    Attributes:
        next_position: of the token behind it.
    """

    blocks: Sequence[Block]
    next_position: int

    @property
    def tokens(self) -> int:
        """How many it has."""
        return BLOCK * len(self.blocks)

    def cache(self) -> Cache:
        """A copy as one row that a decoder continues."""
        parts = zip(*(block.parts for block in self.blocks), strict=True)
        past = [value_of(np.concatenate(values, axis=1)[None]) for values in parts]
        return Cache(past, np.ones((1, self.tokens), dtype=np.int64), np.array([self.next_position]))


class Prefixes:
    """Blocks of keys and values by key, the least recently used removed first. Safe for several threads.

    Args:
        limit: bytes of all blocks together, of those too that are removed and that a :class:`Kept` still holds; 0 keeps
            none.
    """

    def __init__(self, limit: int = LIMIT):
        # a block may end wherever its last holder does, also in here
        self._limit, self._size, self._lock = limit, 0, threading.RLock()
        self._blocks: OrderedDict[bytes, Block] = OrderedDict()

    @property
    def size(self) -> int:
        """Bytes of the blocks that are in memory."""
        return self._size

    def find(self, content: Content) -> Kept | None:
        """The longest beginning of a prompt that is kept, at least its last token left out; or None."""
        most = (len(content.input_ids) - 1) // BLOCK
        found = []
        with self._lock:
            for key in content.keys()[:most]:
                if key not in self._blocks:
                    break
                found.append(key)
            blocks = [self._blocks[key] for key in found]
            self._use(found)
        tokens = BLOCK * len(blocks)
        if not blocks or tokens < content.bidirectional:
            return None
        return Kept(blocks, content.continues_at(tokens))

    def put(self, keys: Sequence[bytes], cache: Cache, row: int = 0) -> None:
        """Keep the blocks ``keys`` of the first tokens of a row; those that are kept already are used again."""
        if not self._limit:
            return
        with self._lock:
            missing = [n for n, key in enumerate(keys) if key not in self._blocks]
        if missing:
            begin = cache.mask.shape[1] - int(cache.lengths[row])
            values = [value.numpy()[row] for value in cache.past]
            places = {n: slice(begin + BLOCK * n, begin + BLOCK * (n + 1)) for n in missing}
            cut = {n: Block([value[:, place].copy() for value in values]) for n, place in places.items()}
        with self._lock:
            for n in missing:
                if keys[n] not in self._blocks:
                    self._add(keys[n], cut.pop(n))
            self._use([key for key in keys if key in self._blocks])
            while self._size > self._limit and self._blocks:
                self._blocks.popitem(last=False)

    def _add(self, key: bytes, block: Block) -> None:
        self._blocks[key] = block
        self._size += block.nbytes
        weakref.finalize(block, self._ended, block.nbytes).atexit = False

    def _ended(self, size: int) -> None:
        with self._lock:
            self._size -= size

    def _use(self, keys: Sequence[bytes]) -> None:
        """Mark blocks of one prompt as used, the first one last: without it, those behind it are never found."""
        for key in reversed(keys):
            self._blocks.move_to_end(key)
