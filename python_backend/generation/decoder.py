"""A decoder graph and the past_key_values of the running answers: rows of one batch, left-padded to one length.

The graph attends only to what ``attention_mask`` shows, so a padded row computes exactly what it would alone. Keys and
values stay in onnxruntime from step to step; they are copied only when a row joins or leaves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime import OrtValue

from tritonvision.errors import TritonVisionError

COPIES = 2  # of keys and values: those of the step before, and those that are being written
_BIDIRECTIONAL = "bidirectional"
_KNOWN = ("inputs_embeds", "attention_mask", "position_ids", _BIDIRECTIONAL)


class Cache:
    """Keys and values of some rows.

    Attributes:
        past: one value for each ``past_key_values.*`` input, ``[B,heads,P,D]``.
        mask: int64 ``[B,P]``, 0 where a row is padded.
        next_positions: int64 ``[B]``, the position of each row's next token.
    """

    def __init__(self, past: Sequence[OrtValue], mask: np.ndarray, next_positions: np.ndarray):
        self.past, self.mask, self.next_positions = past, mask, next_positions

    @property
    def rows(self) -> int:
        """B."""
        return len(self.mask)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row, int64 ``[B]``."""
        return self.mask.sum(1)

    def joined(self, other: Cache) -> Cache:
        """The rows of both, left-padded to the longer one."""
        length = max(self.mask.shape[1], other.mask.shape[1])
        mask = np.concatenate([_padded(cache.mask, 1, length) for cache in (self, other)])
        past = [
            value_of(np.concatenate([_padded(value.numpy(), 2, length) for value in pair]))
            for pair in zip(self.past, other.past, strict=True)
        ]
        return Cache(past, mask, np.concatenate([self.next_positions, other.next_positions]))

    def only(self, kept: Sequence[int]) -> Cache:
        """Some rows, without the padding that they have in common."""
        rows = list(kept)
        mask = self.mask[rows]
        begin = int(mask.argmax(1).min())
        past = [value_of(value.numpy()[rows, :, begin:]) for value in self.past]
        return Cache(past, mask[:, begin:], self.next_positions[rows])


@dataclass(frozen=True)
class Piece:
    """The next tokens of each row, as inputs of the decoder.

    Attributes:
        embeds: float32 ``[B,S,H]``.
        position_ids: int64 ``[B,S]``, or ``[A,B,S]`` of A axes; None continues from the token before, on all axes.
        extra: float32 ``[B,S,H]`` of further inputs of the graph, by name; those that are missing are zero.
        bidirectional: how many of these tokens, from the first on, attend to each other in both directions.
    """

    embeds: np.ndarray
    position_ids: np.ndarray | None = None
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)
    bidirectional: int = 0

    @property
    def nbytes(self) -> int:
        """Of all of it."""
        positions = 0 if self.position_ids is None else self.position_ids.nbytes
        return self.embeds.nbytes + positions + sum(rows.nbytes for rows in self.extra.values())


class Decoder:
    """Runs the graph: ``inputs_embeds``, ``attention_mask``, ``position_ids`` and past in, logits and past out.

    ``position_ids`` of a graph may have several axes, ``[A,B,S]``. A graph may read ``bidirectional`` int64 ``[B]``
    and more inputs of the shape of ``inputs_embeds``; see :class:`Piece`.

    Attributes:
        vocabulary: number of logits.
        token_bytes: of the keys and values of one token.
    """

    def __init__(self, session: onnxruntime.InferenceSession):
        self._session = session
        inputs = {value.name: value for value in session.get_inputs()}
        self._past = [name for name in inputs if name.startswith("past_key_values.")]
        self._present = [name.replace("past_key_values.", "present.") for name in self._past]
        self._shapes = [(inputs[name].shape[1], inputs[name].shape[3]) for name in self._past]
        self._extra = [name for name in inputs if name not in (*_KNOWN, *self._past)]
        self._marks_prefix = _BIDIRECTIONAL in inputs
        positions: Sequence[Any] = inputs["position_ids"].shape if "position_ids" in inputs else ("B", "S")
        self._axes: int | None = positions[0] if len(positions) == 3 else None
        logits = next(value for value in session.get_outputs() if value.name == "logits")
        self.vocabulary = int(logits.shape[-1])
        self.token_bytes = sum(4 * heads * width for heads, width in self._shapes)

    def empty(self) -> Cache:
        """One row with an empty cache."""
        past = [value_of(np.zeros((1, heads, 0, width), dtype=np.float32)) for heads, width in self._shapes]
        return Cache(past, np.zeros((1, 0), dtype=np.int64), np.zeros(1, dtype=np.int64))

    def __call__(self, cache: Cache, piece: Piece) -> tuple[np.ndarray, Cache]:
        """Read one more piece of each row.

        Returns:
            Logits float32 ``[B,V]`` after the last of it, and the longer cache.

        Raises:
            TritonVisionError: the piece has what the graph does not read.
        """
        rows, count = piece.embeds.shape[:2]
        mask = np.concatenate([cache.mask, np.ones((rows, count), dtype=np.int64)], 1)
        positions = self._positions(cache, piece)
        given = {"inputs_embeds": piece.embeds, "attention_mask": mask, "position_ids": positions}
        given |= {name: piece.extra.get(name, np.zeros_like(piece.embeds)) for name in self._extra}
        if self._marks_prefix:
            given[_BIDIRECTIONAL] = np.full(rows, piece.bidirectional, dtype=np.int64)
        if not piece.extra.keys() <= given.keys() or (piece.bidirectional and not self._marks_prefix):
            raise TritonVisionError("The decoder does not read what the prompt has.")
        feeds = {name: value_of(value) for name, value in given.items()}
        feeds |= dict(zip(self._past, cache.past, strict=True))
        logits, *past = self._session.run_with_ort_values(["logits", *self._present], feeds)
        following = positions.reshape(-1, rows, count).max(axis=(0, 2)) + 1
        return logits.numpy(), Cache(past, mask, np.maximum(following, cache.next_positions))

    def _positions(self, cache: Cache, piece: Piece) -> np.ndarray:
        """int64 ``[B,S]`` or ``[A,B,S]``, as the graph reads them."""
        positions = piece.position_ids
        if positions is None:
            positions = cache.next_positions[:, None] + np.arange(piece.embeds.shape[1])
        if self._axes is None or positions.ndim == 3:
            return positions
        return np.repeat(positions[None], self._axes, axis=0)


def _padded(values: np.ndarray, axis: int, length: int) -> np.ndarray:
    """Zeros before ``values`` on ``axis``, up to ``length``."""
    missing = [(0, 0)] * values.ndim
    missing[axis] = (length - values.shape[axis], 0)
    return np.pad(values, missing)


def value_of(array: np.ndarray) -> OrtValue:
    """An array as a tensor of onnxruntime."""
    return OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
