"""Squares of patches that become one token each: what lies side by side in the picture, side by side in a vector."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def shuffled(patches: torch.Tensor, side: int, width: int, ratio: int) -> torch.Tensor:
    """``[n,side,side,width]`` to ``[n,ceil(side/ratio)^2,ratio^2*width]``; zeros pad what is no whole square.

    Args:
        side, width: of ``patches``, as constants, so that a trace of it has a dynamic batch axis alone.
    """
    import torch

    if missing := -side % ratio:
        patches = torch.nn.functional.pad(patches, (0, 0, 0, missing, 0, missing))
        side += missing
    rows = patches.reshape(-1, side, side // ratio, ratio * width).permute(0, 2, 1, 3)
    squares = rows.reshape(-1, side // ratio, side // ratio, ratio * ratio * width).permute(0, 2, 1, 3)
    return squares.reshape(-1, (side // ratio) ** 2, ratio * ratio * width)
