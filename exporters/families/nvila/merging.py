"""How patches of several scales are merged, as VILA's ``merge_features_for_dynamic_s2`` does: the graph's reference.

Torch is imported here: only functions of the family import this module.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch


def merged(features: torch.Tensor, shapes: Sequence[tuple[int, int]], side: int) -> torch.Tensor:
    """Patches of all tiles ``[n,side^2,C]`` to blocks of those of all scales ``[m,side^2,scales x C]``.

    Args:
        shapes: rows and columns of the tiles of each scale; the blocks are the tiles of the last.
    """
    levels, first = [], 0
    for rows, columns in shapes:
        levels.append(joined(features[first : first + rows * columns], rows, columns))
        first += rows * columns
    size = levels[-1].shape[-2:]
    levels = [torch.nn.functional.interpolate(level, size=size, mode="area") for level in levels]
    whole = torch.cat(levels, 1)[0]
    blocks = [block for line in whole.split(side, -2) for block in line.split(side, -1)]
    return torch.stack([block.flatten(1).T for block in blocks])


def joined(tiles: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """``[rows x columns, side^2, C]`` to ``[1, C, rows x side, columns x side]``."""
    side = round(tiles.shape[1] ** 0.5)
    maps = tiles.transpose(1, 2).unflatten(2, (side, side))
    lines = [torch.cat([*maps[row * columns : (row + 1) * columns]], -1) for row in range(rows)]
    return torch.cat(lines, -2)[None]
