"""Weights of ``sam2_hiera_*.pt`` and ``sam2.1_hiera_*.pt`` as the authors of SAM2 published them, under the names of
transformers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tritonvision.exporters import checkpoints
from tritonvision.exporters.families.sam.authors import COMMON, replaced, share_places

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

SOME = ("image_encoder.trunk.pos_embed", "sam_mask_decoder.iou_token.weight")  # two of the authors' names
_KINDS = "prompt_encoder.point_embed.weight"
# The networks of memories, which a model for pictures does not have.
_MEMORY = re.compile(
    r"memory_|mask_downsample\.|object_pointer_proj\.|temporal_positional_|no_memory_positional_|no_object_|occlusion_"
)
_LAYERS_OF_THREE = r"(_mlps\.\d|iou_prediction_head|pred_obj_score_head|object_pointer_proj)"
# Names of the authors' layers as patterns, and their replacement in transformers; applied in order.
_NAMES = (
    *COMMON,
    (r"^image_encoder\.trunk\.", "vision_encoder.backbone."),
    (r"^image_encoder\.neck\.convs\.(\d)\.conv\.", r"vision_encoder.neck.convs.\1."),
    (r"^sam_prompt_encoder\.", "prompt_encoder."),
    (r"^sam_mask_decoder\.", "mask_decoder."),
    (r"^no_mem_embed$", "no_memory_embedding"),
    (r"^no_mem_pos_enc$", "no_memory_positional_encoding"),
    (r"^maskmem_tpos_enc$", "memory_temporal_positional_encoding"),
    (r"^no_obj_ptr$", "no_object_pointer"),
    (r"^no_obj_embed_spatial$", "occlusion_spatial_embedding_parameter"),
    (r"^obj_ptr_proj\.", "object_pointer_proj."),
    (r"^obj_ptr_tpos_proj\.", "temporal_positional_encoding_projection_layer."),
    (r"^memory_encoder\.out_proj\.", "memory_encoder.projection."),
    (r"\.pix_feat_proj\.", ".feature_projection."),
    (r"\.fuser\.", ".memory_fuser."),
    (r"\.gamma$", ".scale"),
    (r"\.dwconv\.", ".depthwise_conv."),
    (r"\.pwconv(\d)\.", r".pointwise_conv\1."),
    (r"\.mask_downsampler\.encoder\.12\.", ".mask_downsampler.final_conv."),
    (r"\.out_proj\.", ".o_proj."),
    (r"\.norm(\d?|_final_attn)\.", r".layer_norm\1."),
    (r"\.mlp\.layers\.0\.", ".mlp.proj_in."),
    (r"\.mlp\.layers\.1\.", ".mlp.proj_out."),
    (_LAYERS_OF_THREE + r"\.layers\.0\.", r"\1.proj_in."),
    (_LAYERS_OF_THREE + r"\.layers\.1\.", r"\1.layers.0."),
    (_LAYERS_OF_THREE + r"\.layers\.2\.", r"\1.proj_out."),
)
_SHRINKING = re.compile(r"\.mask_downsampler\.encoder\.(\d+)\.")  # convolution, norm and activation in turn


def load(
    cls: type[PreTrainedModel], config: PretrainedConfig, state: Mapping[str, torch.Tensor], entry_id: str
) -> PreTrainedModel:
    """The model of that configuration with the authors' tensors.

    Args:
        cls: ``Sam2Model``, or ``Sam2VideoModel``, which has the networks of memories, too.
        entry_id: what an error calls the architecture.

    Raises:
        ExportFailed: the tensors are of another architecture.
    """
    import torch

    config._attn_implementation = "eager"
    with torch.random.fork_rng(devices=[]):
        model = cls(config)
    named = renamed(state)
    if not hasattr(model, "memory_encoder"):
        named = {name: value for name, value in named.items() if not _MEMORY.match(name)}
    checkpoints.load_into(model, named, entry_id, "They must be of the encoder that the id names.")
    return model


def renamed(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The authors' tensors under the names of transformers."""
    import torch

    found, kinds = {}, {}
    for name, value in state.items():
        name = _SHRINKING.sub(_shrinking, replaced(name, _NAMES))
        kind = re.match(r"prompt_encoder\.point_embeddings\.(\d)\.weight$", name)
        if kind:
            kinds[int(kind[1])] = value
        else:
            found[name] = value
    if kinds:
        found[_KINDS] = torch.cat([kinds[label] for label in sorted(kinds)])
    share_places(found)
    return found


def _shrinking(match: re.Match[str]) -> str:
    layer, part = divmod(int(match[1]), 3)
    return f".mask_downsampler.layers.{layer}.{('conv', 'layer_norm')[part]}."
