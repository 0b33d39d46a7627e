"""Vision Transformers, tiny to large, with patches of 16 and 32 pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tritonvision.catalog import Entry
from tritonvision.exporters.libraries import transformers_weights
from tritonvision.exporters.libraries.timm_classifier import TimmClassifier

if TYPE_CHECKING:
    import torch

# timm's names where they do not follow from the id; the tiny one with patches of 32 pixels was not released.
_TAG = "augreg_in21k_ft_in1k"
_NAMES = {
    "vit-tiny-patch32": f"vit_tiny_patch16_224.{_TAG}",
    "vit-base-patch16": "vit_base_patch16_224.augreg2_in21k_ft_in1k",
    "vit-large-patch32": "vit_large_patch32_384.orig_in21k_ft_in1k",
}


class ViT(TimmClassifier):
    """timm's ``vit_SIZE_patchNN_224``, trained on ImageNet-21k, fine-tuned on ImageNet: mean and std 0.5."""

    name = "ViT"
    mean = std = (0.5, 0.5, 0.5)

    def timm_name(self, entry: Entry) -> str:
        """``vit-small-patch16`` is ``vit_small_patch16_224``."""
        return _NAMES.get(entry.id, f"{entry.id.replace('-', '_')}_{entry.fixed_size[0]}.{_TAG}")

    def arguments(self, entry: Entry) -> dict[str, Any]:
        """The sizes of the tiny one with patches of 32 pixels, which timm does not define."""
        return {"patch_size": 32} if entry.id == "vit-tiny-patch32" else {}

    def sized(self, entry: Entry, tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """The picture size that follows from the number of position embeddings."""
        kernel, table = tensors.get("patch_embed.proj.weight"), tensors.get("pos_embed")
        if kernel is None or table is None or kernel.ndim != 4 or table.ndim != 3:
            return {}
        side = math.isqrt(table.shape[1] - 1) * kernel.shape[-1]
        return {"img_size": (side, side)} if side > 0 and (side, side) != entry.input_size else {}

    def percent(self, entry: Entry) -> int:
        """At 384 pixels the crop takes the whole shorter side."""
        return 100 if entry.input_size == (384, 384) else 90

    def redraw(self, network: torch.nn.Module, images: torch.Tensor, entry: Entry, seed: int) -> None:
        """Every weight is drawn anew, also those of tokens and positions."""
        transformers_weights.redraw(network, seed)


FAMILY = ViT()
