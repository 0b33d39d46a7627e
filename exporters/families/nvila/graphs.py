"""NVILA's vision graph. Torch is imported here: only functions of the family import this module."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from tritonvision.exporters.families.nvila.network import NVILAModel

_CORNERS = 4  # patches of each scale whose mean is merged into one


def vision(model: NVILAModel, mean: Sequence[float], std: Sequence[float]) -> nn.Module:
    """``pixels`` and, at several scales, ``places`` and ``order`` to ``image_embeds``; see the prompt's ``Reader``."""
    return _Vision(model, mean, std) if model.scales == 1 else _Merging(model, mean, std)


class _Vision(nn.Module):
    """uint8 ``[n,side,side,3]`` RGB to float32 ``[n,tokens,H]``."""

    def __init__(self, model: NVILAModel, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.embeddings = model.vision_tower.embeddings
        self.layers = nn.ModuleList(model.vision_tower.encoder.layers[:-1])  # what the last one adds is not read
        self.projector = model.mm_projector.layers
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))

    def forward(self, pixels):
        return self.projector(self.features(pixels))

    def features(self, pixels):
        images = (pixels.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std
        hidden = self.embeddings(images)
        for layer in self.layers:
            hidden = layer(hidden, None)
        return hidden


class _Merging(_Vision):
    """uint8 ``[B,n,side,side,3]``, int64 ``[B,m,patches^2,4 x scales]``, ``[B,t]`` to float32 ``[B,t,H]``."""

    def __init__(self, model: NVILAModel, mean: Sequence[float], std: Sequence[float]):
        super().__init__(model, mean, std)
        self.scales, self.patches = model.scales, model.side**2
        self.tile = model.config.vision_config.image_size
        self.hidden = model.config.text_config.hidden_size

    def forward(self, pixels, places, order):
        batch = torch.arange(pixels.shape[0])
        tiles = pixels.float().reshape(-1, self.tile, self.tile, 3)  # TensorRT arranges no bytes
        patches = self.features(tiles).flatten(0, 1)
        places = places + (batch * (pixels.shape[1] * self.patches))[:, None, None, None]
        levels = []
        for first in range(0, self.scales * _CORNERS, _CORNERS):
            corners = [patches[places[..., first + corner]] for corner in range(_CORNERS)]
            levels.append(sum(corners[1:], corners[0]) / _CORNERS)
        rows = self.projector(torch.cat(levels, -1).flatten(0, 1)).reshape(-1, self.hidden)
        return rows[order + (batch * order.shape[1])[:, None]]
