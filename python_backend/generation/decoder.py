"""A decoder graph and the caches of the answers under way: rows of one batch, left-padded to one length.

The graph attends only to what ``attention_mask`` shows, so a padded row computes exactly what it would alone. Keys and
values stay in onnxruntime from step to step; they are copied only when a row joins or leaves.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnxruntime
from onnxruntime import OrtValue


class Cache:
    """Keys and values of some rows.

    Attributes:
        past: one value for each ``past_key_values.*`` input, ``[B,heads,P,D]``.
        mask: int64 ``[B,P]``, 0 where a row is padded.
    """

    def __init__(self, past: Sequence[OrtValue], mask: np.ndarray):
        self.past, self.mask = past, mask

    @property
    def rows(self) -> int:
        """B."""
        return len(self.mask)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row, int64 ``[B]``: also the position of its next one."""
        return self.mask.sum(1)

    def joined(self, other: Cache) -> Cache:
        """The rows of both, padded on the left to the longer one."""
        length = max(self.mask.shape[1], other.mask.shape[1])
        mask = np.concatenate([_padded(cache.mask, 1, length) for cache in (self, other)])
        past = [
            _value(np.concatenate([_padded(value.numpy(), 2, length) for value in pair]))
            for pair in zip(self.past, other.past, strict=True)
        ]
        return Cache(past, mask)

    def only(self, kept: Sequence[int]) -> Cache:
        """Some rows, without the padding that all of them have."""
        mask = self.mask[list(kept)]
        begin = int(mask.argmax(1).min())
        return Cache([_value(value.numpy()[list(kept), :, begin:]) for value in self.past], mask[:, begin:])


class Decoder:
    """Runs the graph: ``inputs_embeds``, ``attention_mask``, ``position_ids`` and past in, logits and past out."""

    def __init__(self, session: onnxruntime.InferenceSession):
        self._session = session
        inputs = {value.name: value for value in session.get_inputs()}
        self._past = [name for name in inputs if name.startswith("past_key_values.")]
        self._present = [name.replace("past_key_values.", "present.") for name in self._past]
        self._shapes = [(inputs[name].shape[1], inputs[name].shape[3]) for name in self._past]
        logits = next(value for value in session.get_outputs() if value.name == "logits")
        self.vocabulary = int(logits.shape[-1])

    def empty(self) -> Cache:
        """One row that has read nothing."""
        past = [_value(np.zeros((1, heads, 0, width), dtype=np.float32)) for heads, width in self._shapes]
        return Cache(past, np.zeros((1, 0), dtype=np.int64))

    def __call__(self, cache: Cache, embeds: np.ndarray) -> tuple[np.ndarray, Cache]:
        """Read one more piece of each row.

        Args:
            embeds: float32 ``[B,S,H]``.

        Returns:
            Logits float32 ``[B,V]`` after the last of it, and the longer cache.
        """
        rows, count = embeds.shape[:2]
        mask = np.concatenate([cache.mask, np.ones((rows, count), dtype=np.int64)], 1)
        positions = cache.lengths[:, None] + np.arange(count)
        given = {"inputs_embeds": embeds, "attention_mask": mask, "position_ids": positions}
        feeds = {name: _value(value) for name, value in given.items()}
        feeds |= dict(zip(self._past, cache.past, strict=True))
        logits, *past = self._session.run_with_ort_values(["logits", *self._present], feeds)
        return logits.numpy(), Cache(past, mask)


def _padded(values: np.ndarray, axis: int, length: int) -> np.ndarray:
    """Zeros before ``values`` on ``axis``, up to ``length``."""
    missing = [(0, 0)] * values.ndim
    missing[axis] = (length - values.shape[axis], 0)
    return np.pad(values, missing)


def _value(array: np.ndarray) -> OrtValue:
    return OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
