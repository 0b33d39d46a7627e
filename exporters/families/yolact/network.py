"""YOLACT's network, rebuilt from the facts of its authors' code, with the names of their tensors.

A ResNet, a feature pyramid of five levels, a head that all levels share, and a network of prototypes. There is no
package of it. ``tests/exporters/yolact.json`` holds what the authors' own code answers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch

SIDE = 550  # pixels of a picture, to which the sizes of the anchors belong
ANCHORS = 3  # of a cell
PROTOTYPES = 32
_WIDTH = 256  # channels of the pyramid
_SCALES = (24, 48, 96, 192, 384)  # pixels of the anchors of each level
_RATIOS = (1, 1 / 2, 2)


class Predictions(NamedTuple):
    """What the network says of pictures: A anchors, C classes and the background, which is column 0.

    Attributes:
        loc: ``[B,A,4]``, offsets of the anchors' centres and sizes.
        conf: ``[B,A,C+1]``, logits.
        mask: ``[B,A,32]``, coefficients from -1 to 1.
        proto: ``[B,32,h,w]``, not negative.
    """

    loc: torch.Tensor
    conf: torch.Tensor
    mask: torch.Tensor
    proto: torch.Tensor


def network(blocks: Sequence[int], classes: int) -> torch.nn.Module:
    """The module: ``[B,3,H,W]``, normalised, to :class:`Predictions`. ``blocks`` are those of the ResNet's stages."""
    from torch import nn
    from torch.nn import functional
    from torchvision.models.resnet import Bottleneck

    def stage(before: int, width: int, count: int, stride: int) -> nn.Module:
        after = 4 * width
        skip = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
        return nn.Sequential(
            Bottleneck(before, width, stride, skip), *(Bottleneck(after, width) for _ in range(count - 1))
        )

    class Backbone(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
            widths, before = (64, 128, 256, 512), (64, 256, 512, 1024)
            self.layers = nn.ModuleList(map(stage, before, widths, blocks, (1, 2, 2, 2)))

        def forward(self, images):
            found = functional.max_pool2d(self.bn1(self.conv1(images)).relu(), 3, 2, 1)
            levels = []
            for layer in self.layers:
                found = layer(found)
                levels.append(found)
            return levels[1:]

    class Pyramid(nn.Module):
        """Layers are numbered from the coarsest level on."""

        def __init__(self):
            super().__init__()
            self.lat_layers = nn.ModuleList(nn.Conv2d(width, _WIDTH, 1) for width in (2048, 1024, 512))
            self.pred_layers = nn.ModuleList(nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1) for _ in range(3))
            self.downsample_layers = nn.ModuleList(nn.Conv2d(_WIDTH, _WIDTH, 3, 2, 1) for _ in range(2))

        def forward(self, levels):
            above, merged = None, []
            for level, lateral in zip(reversed(levels), self.lat_layers, strict=True):
                found = lateral(level)
                if above is not None:
                    size = tuple(int(length) for length in level.shape[2:])
                    found = functional.interpolate(above, size, mode="bilinear", align_corners=False) + found
                above = found
                merged.append(found)
            levels = [layer(found).relu() for layer, found in zip(self.pred_layers, merged, strict=True)][::-1]
            for layer in self.downsample_layers:
                levels.append(layer(levels[-1]))
            return levels

    class Head(nn.Module):
        def __init__(self):
            super().__init__()
            self.upfeature = nn.Sequential(nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1), nn.ReLU())
            self.bbox_layer, self.conf_layer, self.mask_layer = (
                nn.Conv2d(_WIDTH, ANCHORS * count, 3, padding=1) for count in (4, classes + 1, PROTOTYPES)
            )

        def forward(self, level):
            found = self.upfeature(level)
            layers = ((self.bbox_layer, 4), (self.conf_layer, classes + 1), (self.mask_layer, PROTOTYPES))
            return [layer(found).permute(0, 2, 3, 1).reshape(found.shape[0], -1, count) for layer, count in layers]

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone, self.fpn = Backbone(), Pyramid()
            self.prediction_layers = nn.ModuleList([Head()])
            enlarge = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
            convolutions = [nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1) for _ in range(4)]
            first = [part for layer in convolutions[:3] for part in (layer, nn.ReLU())]
            self.proto_net = nn.Sequential(
                *first, enlarge, nn.ReLU(), convolutions[3], nn.ReLU(), nn.Conv2d(_WIDTH, PROTOTYPES, 1)
            )

        def forward(self, images):
            import torch

            levels = self.fpn(self.backbone(images))
            (head,) = self.prediction_layers
            loc, conf, mask = (torch.cat(parts, 1) for parts in zip(*map(head, levels), strict=True))
            return Predictions(loc, conf, mask.tanh(), self.proto_net(levels[0]).relu())

    return Network().eval()


def priors(height: int, width: int) -> torch.Tensor:
    """The anchors of pictures of that size, float32 ``[A,4]``: centre x, y, width, height, fractions of the picture.

    Level by level, finest first, row by row, the ratios of a cell together. All are square: the authors' code gives the
    width to the height as well, and the released weights were trained so.
    """
    import torch

    sizes = [(_halved(height, 3), _halved(width, 3))]
    for _ in _SCALES[1:]:
        down, across = sizes[-1]
        sizes.append((_halved(down, 1), _halved(across, 1)))
    rows = []
    for (down, across), scale in zip(sizes, _SCALES, strict=True):
        sides = [scale * math.sqrt(ratio) / SIDE for ratio in _RATIOS]
        for j in range(down):
            for i in range(across):
                rows += [((i + 0.5) / across, (j + 0.5) / down, side, side) for side in sides]
    return torch.tensor(rows)


def _halved(length: int, times: int) -> int:
    """What ``times`` layers of stride 2 leave of a side; that of the first level is a fourth of the picture's."""
    for _ in range(times):
        length = math.ceil(length / 2)
    return length
