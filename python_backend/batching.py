"""The answers of one request stacked: lists are padded to one length; maps must have one shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tritonvision.errors import InvalidParameter

# Never padded: a map has the size of its picture, and padding zeros could not be told from values.
_NEVER_PADDED = {"map", "embeddings"}
_PADDING = {"class_ids": -1}


def stack_padded(answers: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The answers of one request, batch axis first.

    A list output (boxes, masks, texts, ...) is padded on its first axis to the longest: numbers with zeros,
    ``class_ids`` with -1, bytes with ``b""``. All other axes must agree, and so must maps and embeddings.

    Args:
        answers: outputs of each sample by name, without a batch axis; all have the same names and dtypes.

    Raises:
        InvalidParameter: they do not agree.
    """
    return {name: _stack(name, [answer[name] for answer in answers]) for name in answers[0]}


def _stack(name: str, rows: Sequence[np.ndarray]) -> np.ndarray:
    if len(rows) == 1:  # the usual case, not copied
        return rows[0][None]
    shapes = {row.shape for row in rows}
    if len(shapes) == 1:
        return np.stack(rows)
    if name in _NEVER_PADDED or len({shape[1:] for shape in shapes}) > 1:
        raise InvalidParameter("The answers of this batch differ in shape.", hint="Send the pictures one by one.")
    longest = max(len(row) for row in rows)
    padded = np.full((len(rows), longest, *rows[0].shape[1:]), _fill(name, rows[0].dtype), dtype=rows[0].dtype)
    for target, row in zip(padded, rows, strict=True):
        target[: len(row)] = row
    return padded


def _fill(name: str, dtype: np.dtype) -> Any:
    return b"" if dtype.kind == "O" else _PADDING.get(name, 0)
