"""YOLO-NAS in torch, with the parameter names of super-gradients 3.7.1: its checkpoints load.

Facts from super-gradients (Apache-2.0): ``yolo_nas_{s,m,l}_arch_params.yaml``, ``yolo_stages.py``, ``panneck.py``,
``dfl_heads.py``, ``qarepvgg_block.py``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_EPS = 1e-3  # of every batch norm
_WIDTHS = (48, 96, 192, 384, 768)  # channels of the stem and of the four stages
_POOLS = (5, 9, 13)
BINS = 17  # of a side's distance, in strides
STRIDES = (8, 16, 32)


@dataclass(frozen=True)
class Blocks:
    """One row of bottlenecks: how many, their channels, and whether each one's output goes on."""

    count: int
    hidden: int
    every: bool = False


@dataclass(frozen=True)
class Architecture:
    """One size.

    Attributes:
        stages: of the backbone.
        neck: two stages upwards, two downwards.
        heads: channels of the three heads.
    """

    stages: tuple[Blocks, ...]
    neck: tuple[Blocks, ...]
    heads: tuple[int, int, int]


ARCHITECTURES = {
    "s": Architecture(
        (Blocks(2, 32), Blocks(3, 64), Blocks(5, 96), Blocks(2, 192)),
        (Blocks(2, 64), Blocks(2, 48), Blocks(2, 64), Blocks(2, 64)), (64, 128, 256),
    ),
    "m": Architecture(
        (Blocks(2, 64, True), Blocks(3, 128, True), Blocks(5, 256, True), Blocks(2, 384)),
        (Blocks(2, 192), Blocks(3, 64), Blocks(2, 192), Blocks(3, 256)), (96, 192, 384),
    ),
    "l": Architecture(
        (Blocks(2, 96, True), Blocks(3, 128, True), Blocks(5, 256, True), Blocks(2, 512, True)),
        (Blocks(4, 128), Blocks(4, 128), Blocks(4, 128), Blocks(4, 256)), (128, 256, 512),
    ),
}  # fmt: skip


def build(architecture: Architecture, classes: int) -> torch.nn.Module:
    """The network in eval mode, with torch's initial weights.

    It takes pixels in 0..1, ``[B,3,H,W]``, and gives for each of its three levels, the finest first, the bins of the
    distances ``[B,68,h,w]`` and the class logits ``[B,classes,h,w]``.
    """
    import torch
    from torch import nn

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone, self.neck = _backbone(architecture), _neck(architecture)
            self.heads = nn.Module()
            channels = (_WIDTHS[1], _WIDTHS[2], _WIDTHS[3])
            for level, (given, inner) in enumerate(zip(channels, architecture.heads, strict=True), start=1):
                setattr(self.heads, f"head{level}", _head(given, inner, classes))

        def forward(self, images):
            features = self.neck(*self.backbone(images))
            heads = (self.heads.head1, self.heads.head2, self.heads.head3)
            return tuple(head(x) for head, x in zip(heads, features, strict=True))

    network = Network()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = _EPS
    return network.eval()


def _conv(given: int, out: int, side: int = 1, stride: int = 1) -> torch.nn.Module:
    """Convolution, batch norm, ReLU: ``conv`` and ``bn``."""
    from torch import nn

    class Conv(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(given, out, side, stride, side // 2, bias=False)
            self.bn = nn.BatchNorm2d(out)

        def forward(self, x):
            return self.bn(self.conv(x)).relu()

    return Conv()


def _rep(given: int, out: int, stride: int = 1, residual: bool = False) -> torch.nn.Module:
    """QARepVGG (Chu et al. 2022, S4): a 3x3 and a 1x1 branch, and the input where ``residual``, batch norm over their
    sum, ReLU.
    """
    from torch import nn

    class QARepVGG(nn.Module):
        def __init__(self):
            super().__init__()
            conv = nn.Conv2d(given, out, 3, stride, 1, bias=False)
            self.branch_3x3 = nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(out)))
            self.branch_1x1 = nn.Conv2d(given, out, 1, stride)
            self.post_bn = nn.BatchNorm2d(out)
            self.residual = residual

        def forward(self, x):
            sides = self.branch_3x3(x) + self.branch_1x1(x)
            return self.post_bn(sides + x if self.residual else sides).relu()

        def fused(self):
            return nn.Sequential(_fused(self), nn.ReLU())

    return QARepVGG()


def _fused(block: torch.nn.Module) -> torch.nn.Conv2d:
    """The one convolution that computes what the branches of a QARepVGG block and its batch norms do together."""
    import torch
    from torch import nn

    wide, small = block.branch_3x3.conv, block.branch_1x1
    with torch.no_grad():
        kernel, shift = _scaled(block.branch_3x3.bn, wide.weight.double(), torch.zeros(1, dtype=torch.float64))
        kernel = kernel + nn.functional.pad(small.weight.double(), [1, 1, 1, 1])
        if block.residual:
            kernel[range(len(kernel)), range(len(kernel)), 1, 1] += 1
        kernel, shift = _scaled(block.post_bn, kernel, shift + small.bias.double())
        whole = nn.Conv2d(wide.in_channels, wide.out_channels, 3, wide.stride, 1)
        whole.weight.copy_(kernel)
        whole.bias.copy_(shift)
    return whole


def _scaled(norm: torch.nn.BatchNorm2d, kernel: torch.Tensor, shift: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Kernel and bias, float64, of a convolution and the batch norm behind it."""
    factor = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    return kernel * factor[:, None, None, None], (shift - norm.running_mean.double()) * factor + norm.bias.double()


def fuse(network: torch.nn.Module) -> torch.nn.Module:
    """``network``, changed in place: every QARepVGG block is one convolution."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if hasattr(child, "fused"):
                setattr(module, name, child.fused())
    return network


def _csp(given: int, out: int, blocks: Blocks, plain: bool = False) -> torch.nn.Module:
    """A cross-stage row of bottlenecks; of plain convolutions, or of QARepVGG blocks."""
    import torch
    from torch import nn

    class Bottleneck(nn.Module):
        def __init__(self):
            super().__init__()
            width = blocks.hidden
            self.cv1, self.cv2 = (
                _conv(width, width, 3) if plain else _rep(width, width, residual=True) for _ in range(2)
            )
            self.alpha = nn.Parameter(torch.ones(1))

        def forward(self, x):
            return self.alpha * x + self.cv2(self.cv1(x))

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2 = _conv(given, blocks.hidden), _conv(given, blocks.hidden)
            self.conv3 = _conv(blocks.hidden * (2 + blocks.count * blocks.every), out)
            self.bottlenecks = nn.Sequential(*(Bottleneck() for _ in range(blocks.count)))

        def forward(self, x):
            rows = [self.conv1(x)]
            for bottleneck in self.bottlenecks:
                rows.append(bottleneck(rows[-1]))
            return self.conv3(torch.cat([*(rows if blocks.every else rows[-1:]), self.conv2(x)], 1))

    return Layer()


def _backbone(architecture: Architecture) -> torch.nn.Module:
    """Gives the outputs of its first three stages and of the pooling behind the fourth, at strides 4, 8, 16, 32."""
    import torch
    from torch import nn

    class Pools(nn.Module):
        def __init__(self, width: int):
            super().__init__()
            self.cv1 = _conv(width, width // 2)
            self.cv2 = _conv(width // 2 * (len(_POOLS) + 1), width)
            self.m = nn.ModuleList(nn.MaxPool2d(side, 1, side // 2) for side in _POOLS)

        def forward(self, x):
            x = self.cv1(x)
            return self.cv2(torch.cat([x, *(pool(x) for pool in self.m)], 1))

    class Backbone(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Module()
            self.stem.conv = _rep(3, _WIDTHS[0], 2)
            for number, blocks in enumerate(architecture.stages, start=1):
                downsample = _rep(_WIDTHS[number - 1], _WIDTHS[number], 2)
                inside = _csp(_WIDTHS[number], _WIDTHS[number], blocks)
                setattr(self, f"stage{number}", nn.Sequential(OrderedDict(downsample=downsample, blocks=inside)))
            self.context_module = Pools(_WIDTHS[-1])

        def forward(self, images):
            c2 = self.stage1(self.stem.conv(images))
            c3 = self.stage2(c2)
            c4 = self.stage3(c3)
            return c2, c3, c4, self.context_module(self.stage4(c4))

    return Backbone()


def _up(given: Sequence[int], out: int, blocks: Blocks) -> torch.nn.Module:
    """Upwards: gives its input reduced, for the way down, and its output at twice the size, with two finer maps."""
    import torch
    from torch import nn

    class Up(nn.Module):
        def __init__(self):
            super().__init__()
            coarse, same, finer = given
            self.reduce_skip1, self.reduce_skip2 = _conv(same, out), _conv(finer, out)
            self.conv = _conv(coarse, out)
            self.upsample = nn.ConvTranspose2d(out, out, 2, 2)
            self.downsample = _conv(out, out, 3, 2)
            self.reduce_after_concat = _conv(3 * out, out)
            self.blocks = _csp(out, out, blocks)

        def forward(self, x, same, finer):
            reduced = self.conv(x)
            parts = [self.upsample(reduced), self.reduce_skip1(same), self.downsample(self.reduce_skip2(finer))]
            return reduced, self.blocks(self.reduce_after_concat(torch.cat(parts, 1)))

    return Up()


def _down(given: int, beside: int, out: int, blocks: Blocks) -> torch.nn.Module:
    """Downwards: half the size, with what the way upwards handed over."""
    import torch
    from torch import nn

    class Down(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = _conv(given, out // 2, 3, 2)
            self.blocks = _csp(out // 2 + beside, out, blocks, plain=True)

        def forward(self, x, skip):
            return self.blocks(torch.cat([self.conv(x), skip], 1))

    return Down()


def _neck(architecture: Architecture) -> torch.nn.Module:
    """Gives the feature maps of the heads, at strides 8, 16 and 32."""
    from torch import nn

    class Neck(nn.Module):
        def __init__(self):
            super().__init__()
            _, c2, c3, c4, c5 = _WIDTHS
            first, second, third, fourth = architecture.neck
            self.neck1 = _up((c5, c4, c3), c3, first)
            self.neck2 = _up((c3, c3, c2), c2, second)
            self.neck3 = _down(c2, c2, c3, third)
            self.neck4 = _down(c3, c3, c4, fourth)

        def forward(self, c2, c3, c4, c5):
            coarse, x = self.neck1(c5, c4, c3)
            middle, p3 = self.neck2(x, c3, c2)
            p4 = self.neck3(p3, middle)
            return p3, p4, self.neck4(p4, coarse)

    return Neck()


def _head(given: int, inner: int, classes: int) -> torch.nn.Module:
    """Bins of the four distances (left, top, right, bottom) and class logits of one level."""
    from torch import nn

    def block(source: int, side: int) -> nn.Module:
        conv = nn.Conv2d(source, inner, side, padding=side // 2, bias=False)
        inside = nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(inner), act=nn.ReLU()))
        return nn.Sequential(OrderedDict(seq=inside))

    class Head(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = block(given, 1)
            self.cls_convs, self.reg_convs = nn.Sequential(block(inner, 3)), nn.Sequential(block(inner, 3))
            self.cls_pred, self.reg_pred = nn.Conv2d(inner, classes, 1), nn.Conv2d(inner, 4 * BINS, 1)

        def forward(self, x):
            x = self.stem(x)
            return self.reg_pred(self.reg_convs(x)), self.cls_pred(self.cls_convs(x))

    return Head()
