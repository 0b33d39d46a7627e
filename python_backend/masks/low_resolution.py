"""Masks of low resolution, enlarged to the picture that they are of: only where they are something."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tritonvision.python_backend.masks.decode import Axis, areas, decode

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels, the last two exclusive


@dataclass(frozen=True)
class Enlargement:
    """How the cells of a mask lie over a picture."""

    rows: Axis
    columns: Axis

    @classmethod
    def of(cls, cells: int, factor: int, content: tuple[int, int], size: tuple[int, int]) -> Enlargement:
        """Of a square mask.

        Args:
            cells: a side.
            factor: how many times as large the mask is made at first; 1 where it is enlarged at once.
            content: (height, width) of what the picture covers then.
            size: (height, width) of the picture.
        """
        rows, columns = (
            Axis(cells=cells, factor=factor, offset=0, content=inside, length=length)
            for length, inside in zip(size, content, strict=True)
        )
        return cls(rows, columns)

    def box(self, cells: np.ndarray) -> Box | None:
        """The picture's pixels whose interpolation reads ``cells``, bool ``[h,w]``; None without any."""
        if not cells.any():
            return None
        spans = []
        for number, axis in enumerate((self.rows, self.columns)):
            seen = np.flatnonzero(cells.any(axis=1 - number))
            # as far as the neighbours of the cells, and one pixel of the frame for a second enlargement
            edges = np.array([seen[0] - 1, seen[-1] + 2]) * axis.factor * axis.length / axis.content + (-2, 2)
            spans.append([int(edge) for edge in np.clip(np.rint(edges), 0, axis.length)])
        (top, bottom), (left, right) = spans
        return left, top, right, bottom

    def patch(self, logits: np.ndarray, level: float) -> tuple[np.ndarray, int, int]:
        """Where the mask is, bool, cut out of the picture, and the left and upper edge of the cut.

        Two small matrix products for the pixels of the cut.

        Args:
            logits: float32 ``[cells,cells]``; those over ``level`` belong to the mask.
        """
        box = self.box(logits > level)
        if box is None:
            return np.zeros((0, 0), dtype=bool), 0, 0
        return decode(np.ones(1, np.float32), logits[None], self.rows, self.columns, box, level), box[0], box[1]

    def stability(self, logits: np.ndarray, level: float, offset: float) -> np.float32:
        """The mask's area at ``level + offset`` over that at ``level - offset``; 0 where there is none."""
        box = self.box(logits > level - offset)
        if box is None:
            return np.float32(0)
        levels = level + offset, level - offset
        inner, outer = areas(np.ones(1, np.float32), logits[None], self.rows, self.columns, box, levels)
        return np.float32(inner / outer) if outer > 0 else np.float32(0)
