"""Texts encoded by a network of their own, and kept: detectors are asked for the same names again and again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from tritonvision.python_backend.runtime.networks import Call

NETWORK, EMBEDS = "text", "query_embeds"
_KEPT = 4096  # embeddings of a process: 8 MB at 512 numbers each
_AT_ONCE = 8  # the largest batch of a network


class TextEncodings:
    """The embeddings of tokenized texts, of which the last 4096 are kept.

    Args:
        call: runs the network ``text``: ``input_ids`` int64 ``[B,T]`` to ``query_embeds`` float32 ``[B,D]``.
    """

    def __init__(self, call: Call):
        self._call = call
        self._known: OrderedDict[bytes, np.ndarray] = OrderedDict()  # by token ids, the most recently used last

    def __call__(self, rows: Sequence[np.ndarray]) -> np.ndarray:
        """float32 ``[C,D]`` of ``rows``, int64 ``[T]`` each; the network is asked about those that are not known."""
        new = list({row.tobytes(): row for row in rows if row.tobytes() not in self._known}.values())
        for first in range(0, len(new), _AT_ONCE):
            batch = new[first : first + _AT_ONCE]
            found = self._call(NETWORK, {"input_ids": np.stack(batch)}, [EMBEDS])[EMBEDS]
            self._known.update((row.tobytes(), embeds.copy()) for row, embeds in zip(batch, found, strict=True))
        embeds = np.stack([self._known[row.tobytes()] for row in rows])
        for row in rows:
            self._known.move_to_end(row.tobytes())
        while len(self._known) > _KEPT:
            self._known.popitem(last=False)
        return embeds
