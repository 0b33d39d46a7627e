"""Weights of ``sam_vit_*.pth`` as the authors of segment-anything published them, under the names of transformers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from tritonvision.exporters import checkpoints

if TYPE_CHECKING:
    import torch
    from transformers import SamConfig, SamModel

SOME = ("image_encoder.pos_embed", "mask_decoder.iou_token.weight")  # two of the authors' names
_SHARED = "prompt_encoder.shared_embedding.positional_embedding"
# Names of the authors' layers as patterns, and their replacement in transformers; applied in order.
# SAM2's authors have these, too.
COMMON = (
    (r"\.patch_embed\.proj\.", ".patch_embed.projection."),
    (r"\.pe_layer\.positional_encoding_gaussian_matrix$", ".shared_embedding.positional_embedding"),
    (r"\.mask_downscaling\.0\.", ".mask_embed.conv1."),
    (r"\.mask_downscaling\.1\.", ".mask_embed.layer_norm1."),
    (r"\.mask_downscaling\.3\.", ".mask_embed.conv2."),
    (r"\.mask_downscaling\.4\.", ".mask_embed.layer_norm2."),
    (r"\.mask_downscaling\.6\.", ".mask_embed.conv3."),
    (r"\.output_upscaling\.0\.", ".upscale_conv1."),
    (r"\.output_upscaling\.1\.", ".upscale_layer_norm."),
    (r"\.output_upscaling\.3\.", ".upscale_conv2."),
)
_NAMES = (
    *COMMON,
    (r"^image_encoder\.", "vision_encoder."),
    (r"\.blocks\.", ".layers."),
    (r"\.neck\.0\.", ".neck.conv1."),
    (r"\.neck\.1\.", ".neck.layer_norm1."),
    (r"\.neck\.2\.", ".neck.conv2."),
    (r"\.neck\.3\.", ".neck.layer_norm2."),
    (r"\.norm(\d|_final_attn)\.", r".layer_norm\1."),
    (r"\.point_embeddings\.", ".point_embed."),
    (r"(_mlps\.\d|iou_prediction_head)\.layers\.0\.", r"\1.proj_in."),
    (r"(_mlps\.\d|iou_prediction_head)\.layers\.1\.", r"\1.layers.0."),
    (r"(_mlps\.\d|iou_prediction_head)\.layers\.2\.", r"\1.proj_out."),
)


def load(config: SamConfig, state: Mapping[str, torch.Tensor], entry_id: str) -> SamModel:
    """The model of that configuration with the authors' tensors.

    Args:
        entry_id: what an error calls the architecture.

    Raises:
        ExportFailed: the tensors are of another architecture.
    """
    import torch
    from transformers import SamModel

    named = {replaced(name, _NAMES): value for name, value in state.items()}
    share_places(named)
    config._attn_implementation = "eager"
    with torch.random.fork_rng(devices=[]):
        model = SamModel(config)
    checkpoints.load_into(model, named, entry_id, "They must be of the encoder that the id names.")
    return model


def replaced(name: str, patterns: Iterable[tuple[str, str]]) -> str:
    """A name after all replacements, in their order."""
    for pattern, replacement in patterns:
        name = re.sub(pattern, replacement, name)
    return name


def share_places(state: dict[str, torch.Tensor]) -> None:
    """Add the encoding of places under the second name that transformers has for it, in place."""
    if _SHARED in state:
        state["shared_image_embedding.positional_embedding"] = state[_SHARED]
