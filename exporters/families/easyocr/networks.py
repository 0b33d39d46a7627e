"""easyocr's networks, built without any download, and the graphs of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tritonvision.exporters.modules.normalise import MEAN, STD

if TYPE_CHECKING:
    import torch

    from tritonvision.exporters.families.easyocr.packs import Pack

_CHANNELS = {1: 512, 2: 256}  # of the features and of the recurrent layers, by generation


def craft() -> torch.nn.Module:
    """The detector, without weights."""
    from easyocr.craft import CRAFT

    return CRAFT(pretrained=False, freeze=False).eval()


def reader(pack: Pack) -> torch.nn.Module:
    """The recogniser of a pack, without weights: a ResNet in generation 1, a VGG in generation 2."""
    from easyocr.model import model, vgg_model

    channels = _CHANNELS[pack.generation]
    return (model if pack.generation == 1 else vgg_model).Model(1, channels, channels, len(pack.characters) + 1).eval()


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    """RGB 0 to 255 ``[B,H,W,3]`` to what CRAFT reads, ``[B,3,H,W]``, by easyocr's arithmetic."""
    import torch

    mean, std = (torch.tensor([255 * value for value in values], dtype=pixels.dtype) for values in (MEAN, STD))
    return ((pixels - mean) / std).permute(0, 3, 1, 2)


def detector(network: torch.nn.Module) -> torch.nn.Module:
    """uint8 ``[B,H,W,3]`` RGB, sides multiples of 32, to the maps of text and links, ``[B,H/2,W/2,2]``."""
    import torch

    class Graph(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network
            self.register_buffer("mean", torch.tensor([255 * value for value in MEAN]).view(3, 1, 1))
            self.register_buffer("std", torch.tensor([255 * value for value in STD]).view(3, 1, 1))

        def forward(self, pixels):
            return self.network((pixels.permute(0, 3, 1, 2).float() - self.mean) / self.std)[0]

    return Graph()


def recogniser(network: torch.nn.Module) -> torch.nn.Module:
    """uint8 ``[B,64,W]`` grey to logits ``[B,steps,characters + 1]``.

    Where easyocr has an adaptive pooling over the height, which cannot be traced at any width, is the mean.
    """
    import torch

    class Graph(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, pixels):
            values = (pixels.float() / 255 - 0.5) / 0.5
            columns = self.network.FeatureExtraction(values[:, None]).permute(0, 3, 1, 2).mean(-1)
            return self.network.Prediction(self.network.SequenceModeling(columns))

    return Graph()
