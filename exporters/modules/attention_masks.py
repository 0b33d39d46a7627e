"""Which positions of a decoder attend to which: what is before them, a window of it, or a prefix in both directions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig

BIDIRECTIONAL = "bidirectional"  # the input of a decoder that says how long the prefix is


def additive(
    new: int, attention_mask: torch.Tensor, prefix: torch.Tensor | None = None, window: int | None = None
) -> torch.Tensor:
    """What is added to the scores of the last ``new`` positions, float32 ``[B,1,new,seen]``: 0 where they attend.

    Args:
        attention_mask: int64 ``[B,seen]``, 0 at padding.
        prefix: int64 ``[B]``, how many of them, from the first on, attend to each other in both directions.
        window: how many positions they see, their own included; all of the prefix is seen regardless.
    """
    import torch

    seen = attention_mask.shape[1]
    places = torch.arange(seen)
    visible = places[None, :] <= places[seen - new :, None]
    if window is not None:
        visible = visible & (places[None, :] > places[seen - new :, None] - window)
    visible = visible[None, None]
    if prefix is not None:
        inside = _inside(seen, new, prefix)
        visible = visible | (inside[:, None, None, :] & inside[:, None, seen - new :, None])
    visible = visible & (attention_mask[:, None, None, :] > 0)
    return torch.where(visible, 0.0, torch.finfo(torch.float32).min)


def slides(config: PretrainedConfig) -> bool:
    """Whether some layers of a text model attend to a window of the last positions only."""
    return "sliding_attention" in (getattr(config, "layer_types", None) or ())


def of_library(config: PretrainedConfig, given: Mapping[str, torch.Tensor], embeds: torch.Tensor, cache: Any) -> Any:
    """The mask that transformers itself makes of ``attention_mask``, with the prefix as one block of its positions."""
    import torch
    from transformers import masking_utils

    if BIDIRECTIONAL not in given:
        return given["attention_mask"]
    inside = _inside(given["attention_mask"].shape[1], embeds.shape[1], given[BIDIRECTIONAL])
    about = {
        "config": config, "inputs_embeds": embeds, "attention_mask": given["attention_mask"], "past_key_values": cache,
        "position_ids": given["position_ids"], "block_sequence_ids": torch.where(inside, 0, -1),
    }  # fmt: skip
    whole = masking_utils.create_causal_mask(**about)
    if not slides(config):
        return whole
    narrow = masking_utils.create_sliding_window_causal_mask(**about)
    return {"full_attention": whole, "sliding_attention": narrow}


def _inside(seen: int, new: int, prefix: torch.Tensor) -> torch.Tensor:
    """bool ``[B,seen]``: the first ``prefix`` of the last ``new`` positions."""
    import torch

    within = torch.arange(seen) - (seen - new)
    return (within >= 0) & (within < prefix[:, None])
