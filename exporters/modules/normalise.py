"""Normalising pixels, twice: as the author's library does, for the reference, and as a part of the graph.

The reference divides by 255 first, as every library does. The graph uses 255 times the mean and the standard deviation
instead, which takes one subtraction and one division for each value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

Scale = tuple[tuple[float, ...], tuple[float, ...]]  # mean and standard deviation by channel, for values in 0..1
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
IMAGENET: Scale = (MEAN, STD)


def normalised(pixels: np.ndarray, scale: Scale, double: bool = False) -> torch.Tensor:
    """uint8 ``[B,H,W,3]`` to ``[B,3,H,W]``, float32, or float64 when ``double``; the reference's arithmetic."""
    import torch

    dtype = torch.float64 if double else torch.float32
    mean, std = (torch.tensor(values, dtype=dtype).view(3, 1, 1) for values in scale)
    return (torch.from_numpy(pixels).permute(0, 3, 1, 2).to(dtype) / 255 - mean) / std


def normalising(scale: Scale) -> torch.nn.Module:
    """The part of a graph that takes uint8 ``[B,H,W,3]`` and gives float32 ``[B,3,H,W]``."""
    import torch
    from torch import nn

    class Normalising(nn.Module):
        def __init__(self):
            super().__init__()
            for name, values in zip(("mean", "std"), scale, strict=True):
                self.register_buffer(name, 255 * torch.tensor(values).view(3, 1, 1))

        def forward(self, pixels):
            return (pixels.permute(0, 3, 1, 2).float() - self.mean) / self.std

    return Normalising()


def unit_normalised(pixels: np.ndarray, scale: Scale, double: bool = False) -> torch.Tensor:
    """As :func:`normalised`, of float32 ``[B,H,W,3]`` in 0..1."""
    import torch

    dtype = torch.float64 if double else torch.float32
    mean, std = (torch.tensor(values, dtype=dtype).view(3, 1, 1) for values in scale)
    return (torch.from_numpy(pixels).permute(0, 3, 1, 2).to(dtype) - mean) / std


def unit_normalising(scale: Scale) -> torch.nn.Module:
    """As :func:`normalising`, of float32 ``[B,H,W,3]`` in 0..1."""
    import torch
    from torch import nn

    class Normalising(nn.Module):
        def __init__(self):
            super().__init__()
            for name, values in zip(("mean", "std"), scale, strict=True):
                self.register_buffer(name, torch.tensor(values).view(3, 1, 1))

        def forward(self, pixels):
            return (pixels.permute(0, 3, 1, 2) - self.mean) / self.std

    return Normalising()


def without_padding(images: torch.Tensor, valid_size: np.ndarray) -> torch.Tensor:
    """Set pixels outside the valid size of each picture to zero, in place, as processors pad after normalising.

    Args:
        images: ``[B,3,H,W]``.
        valid_size: integers ``[B,2]``, height and width.

    Returns:
        int64 ``[B,H,W]``, 1 within the valid size.
    """
    import torch

    mask = torch.zeros(len(images), *images.shape[2:], dtype=torch.int64)
    for row, (height, width) in enumerate(valid_size.tolist()):
        images[row, :, height:], images[row, :, :, width:] = 0, 0
        mask[row, :height, :width] = 1
    return mask
