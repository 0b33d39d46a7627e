"""ResNet 18 to 152, single and multi-label."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tritonvision.catalog import Entry
from tritonvision.exporters.libraries.timm_classifier import TimmClassifier
from tritonvision.exporters.modules.normalise import IMAGENET

if TYPE_CHECKING:
    import torch


class ResNet(TimmClassifier):
    """timm's ``resnetNN.a1_in1k``: bicubic to 224 / 0.95, centre crop, ImageNet mean and std."""

    name = "ResNet"
    mean, std = IMAGENET

    def timm_name(self, entry: Entry) -> str:
        """The ids are timm's."""
        return f"{entry.id}.a1_in1k"

    def redraw(self, network: torch.nn.Module, images: torch.Tensor, entry: Entry, seed: int) -> None:
        """The kernels stay as timm draws them; batch norms take the statistics of ``images``.

        The last norm of each residual branch, whose gain timm initialises with zero, gets a gain of 0.15: large enough
        that every layer has an effect, and small enough that rounding errors do not grow with depth.
        """
        import torch

        last = "bn2" if entry.id in ("resnet18", "resnet34") else "bn3"  # of a basic or a bottleneck block
        for name, layer in network.named_modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.momentum = None  # the statistics are those of one batch
                layer.weight.fill_(0.15 if name.endswith(last) else 1)
        network.train()(images)
        network.eval()


FAMILY = ResNet()
