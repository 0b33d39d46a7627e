"""Weights of Florence-2 in the layout of the authors' own code (``microsoft/Florence-2-*`` and its fine-tunes).

The library's layout has other names of layers, one matrix transposed, and one token more, the picture's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tritonvision.errors import ExportFailed

if TYPE_CHECKING:
    import torch
    from transformers import Florence2Config, PreTrainedConfig

_PADDED = 64  # the table of tokens is as long as a multiple of it, as in the converted checkpoints
_RENAMED = (
    (r"^language_model\.model\.", "model.language_model."),
    (r"^language_model\.lm_head\.", "lm_head."),
    (r"^image_projection$", "model.multi_modal_projector.image_projection.weight"),
    (r"^image_proj_norm\.", "model.multi_modal_projector.image_proj_norm."),
    (r"^image_pos_embed\.", "model.multi_modal_projector.image_position_embed."),
    (r"^visual_temporal_embed\.", "model.multi_modal_projector.visual_temporal_embed."),
    (r"^vision_tower\.", "model.vision_tower."),
    (r"(convs\.\d+)\.proj\.", r"\1.conv."),
    (r"\.(conv[12])\.fn\.dw\.", r".\1."),
    (r"\.(window|channel)_attn\.norm\.", ".norm1."),
    (r"\.(window|channel)_attn\.fn\.", r".\1_attn."),
    (r"\.ffn\.norm\.", ".norm2."),
    (r"\.ffn\.fn\.net\.", ".ffn."),
)
_PROJECTION = "model.multi_modal_projector.image_projection.weight"
_TABLE, _HEAD, _BIAS = "model.language_model.shared.weight", "lm_head.weight", "language_model.final_logits_bias"
_SAME = ("model.language_model.encoder.embed_tokens.weight", "model.language_model.decoder.embed_tokens.weight", _HEAD)


def is_layout(folder: Path | None) -> bool:
    """Whether a folder holds weights in this layout."""
    try:
        vision = json.loads((folder / "config.json").read_bytes()).get("vision_config") if folder else None
    except (OSError, ValueError, AttributeError):
        return False
    return isinstance(vision, dict) and "dim_embed" in vision


def weights_file(folder: Path) -> Path:
    """The file of the weights: a training leaves others beside it. Raises ExportFailed where there is none."""
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            return folder / name
    raise ExportFailed(
        "The weights folder lacks model.safetensors and pytorch_model.bin.",
        hint="Name a folder with the files of microsoft/Florence-2-base or -large, or of a fine-tune of them.",
    )


def config(folder: Path, image_token: int) -> Florence2Config:
    """The library's configuration. Raises ExportFailed where its vision tower is another one."""
    from transformers import BartConfig, Florence2Config, Florence2VisionConfig

    told = json.loads((folder / "config.json").read_bytes())
    vision, text = dict(told["vision_config"]), dict(told["text_config"])
    try:
        sources = vision.pop("image_feature_source", ["spatial_avg_pool", "temporal_avg_pool"])
        vision["embed_dim"] = vision.pop("dim_embed")
        vision["max_position_embeddings"] = vision.pop("image_pos_embed")["max_pos_embeddings"]
        vision["max_temporal_embeddings"] = vision.pop("visual_temporal_embedding")["max_temporal_embeddings"]
    except (KeyError, TypeError) as error:
        raise _other() from error
    if list(sources) != ["spatial_avg_pool", "temporal_avg_pool"]:
        raise _other()
    text["vocab_size"] = -(-(max(text["vocab_size"], image_token + 1)) // _PADDED) * _PADDED
    return Florence2Config(
        vision_config=_known(Florence2VisionConfig, vision), text_config=_known(BartConfig, text),
        image_token_id=image_token, tie_word_embeddings=True,
    )  # fmt: skip


def _known(kind: type[PreTrainedConfig], told: Mapping[str, Any]) -> PreTrainedConfig:
    """A configuration of what it knows: settings of training and of generate() stand in theirs, too."""
    names = kind().to_dict().keys() - {"model_type"}
    return kind(**{name: value for name, value in told.items() if name in names})


def tensors(found: Mapping[str, torch.Tensor], config: Florence2Config, padding: int) -> dict[str, torch.Tensor]:
    """The tensors by the library's names.

    Args:
        padding: the token whose row of the table the new tokens repeat: so each of them scores as it does, and of two
            equal scores the first token's counts.

    Raises:
        ExportFailed: a bias is added to the logits, which the library's network has none of.
    """
    import torch

    state = dict(found)
    bias = state.pop(_BIAS, None)
    if bias is not None and bool(bias.any()):
        raise ExportFailed("The weights add a bias to the logits of tokens, which is not supported.")
    state = {_renamed(name): value for name, value in state.items()}
    if _PROJECTION in state:
        state[_PROJECTION] = state[_PROJECTION].T.contiguous()
    table = state.get(_TABLE, state.get(_HEAD))
    if table is not None and table.ndim == 2 and padding < len(table):
        missing = config.text_config.vocab_size - len(table)
        table = torch.cat([table, table[padding : padding + 1].expand(max(missing, 0), -1)])
        state |= dict.fromkeys((_TABLE, *_SAME), table)
    return state


def _renamed(name: str) -> str:
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    return name


def _other() -> ExportFailed:
    return ExportFailed(
        "The weights' config.json describes another vision tower than Florence-2's.",
        hint="Name a folder with the files of microsoft/Florence-2-base or -large, or of a fine-tune of them.",
    )


def generation(folder: Path) -> dict[str, Any]:
    """The settings of ``generate()``: ``generation_config.json``, or what config.json says of them. May be empty."""
    for name in ("generation_config.json", "config.json"):
        try:
            told = json.loads((folder / name).read_bytes())
        except (OSError, ValueError):
            continue
        told = told.get("text_config", told) if name == "config.json" else told
        if isinstance(told, dict):
            return told
    return {}
