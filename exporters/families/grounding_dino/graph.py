"""Grounding DINO as one ONNX graph with dynamic picture size and text length; transformers' module stays unchanged."""

from __future__ import annotations

import types
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from unittest import mock

from tritonvision.exporters.modules.normalise import MEAN, STD

if TYPE_CHECKING:
    import torch
    from transformers import GroundingDinoForObjectDetection

_PATCH = 4  # pixels of a patch of the Swin transformer
# Pixels of the traced picture. Of a branch on a size, the trace records the side that this picture takes. So the sides
# are multiples of the patch, and at every stage (57 x 73, 29 x 37, 15 x 19, 8 x 10 patches) odd before they are halved
# and no multiples of a window, 7 or 12: the graph then contains the padding and cropping, which do nothing for sizes
# that need none.
EXAMPLE = 228, 292


def as_released(model: GroundingDinoForObjectDetection) -> GroundingDinoForObjectDetection:
    """``model`` in eval mode, with the library's default attention in the text encoder.

    The eager one, which every other part uses, adds the mask of the phrases to the scores as ones and zeros.
    """
    model.model.text_backbone.config._attn_implementation = "sdpa"
    return model.eval()


def graph(model: GroundingDinoForObjectDetection) -> torch.nn.Module:
    """The network to trace within :func:`traceable`.

    It takes ``pixels`` uint8 ``[B,H,W,3]`` RGB, ``valid_size`` int32 ``[B,2]`` (height, width) without the padding,
    ``input_ids`` int64 ``[B,T]``, ``text_token_mask`` uint8 ``[B,T,T]`` (1 where tokens see each other) and
    ``position_ids`` int64 ``[B,T]``. It gives ``boxes`` float32 ``[B,Q,4]``, corners as fractions of the valid part,
    and ``token_scores`` float32 ``[B,Q,T]`` from 0 to 1.
    """
    import torch
    from torch import nn

    class Graph(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = model
            self.register_buffer("mean", 255 * torch.tensor(MEAN))
            self.register_buffer("std", 255 * torch.tensor(STD))

        def forward(self, pixels, valid_size, input_ids, text_token_mask, position_ids):
            height, width = pixels.shape[1:3]
            rows = torch.arange(height)[None, :, None] < valid_size[:, 0, None, None]
            mask = rows & (torch.arange(width)[None, None, :] < valid_size[:, 1, None, None])
            images = ((pixels.float() - self.mean) / self.std * mask[..., None]).permute(0, 3, 1, 2)
            # padded to whole patches, as the first layer does itself; the mask keeps the picture's size
            images = nn.functional.pad(images, (0, -width % _PATCH, 0, -height % _PATCH))
            with _injected(text_token_mask.bool(), position_ids):
                found = self.network(images, input_ids, pixel_mask=mask.long(), return_dict=True)
            half = found.pred_boxes[..., 2:] / 2
            corners = torch.cat([found.pred_boxes[..., :2] - half, found.pred_boxes[..., :2] + half], 2)
            return corners, found.logits.sigmoid()

    return Graph().eval()


@contextmanager
def _injected(text_token_mask: torch.Tensor, position_ids: torch.Tensor) -> Iterator[None]:
    """Replace what the network computes from the token ids, by operations that ONNX lacks, by inputs of the graph."""
    from transformers.models.grounding_dino import modeling_grounding_dino as modeling

    given = text_token_mask, position_ids
    with mock.patch.object(
        modeling, "generate_masks_with_special_tokens_and_transfer_map", lambda ids, special_tokens: given
    ):
        yield


@contextmanager
def traceable() -> Iterator[None]:
    """A context in which the library can be traced with dynamic sizes and scores are not padded to 256 tokens."""
    from transformers.models.grounding_dino import modeling_grounding_dino as modeling

    with ExitStack() as stack:
        for owner, name, value in (
            (modeling, "torch", _TracedTorch()),
            (modeling, "torch_compilable_check", lambda *_, **__: None),
            (modeling.GroundingDinoContrastiveEmbedding, "forward", _token_logits),
        ):
            stack.enter_context(mock.patch.object(owner, name, value))
        yield


def _token_logits(_, vision_hidden_state, text_hidden_state, text_token_mask):
    """The library's product; no text is padded here, so there is nothing to mask."""
    return vision_hidden_state @ text_hidden_state.transpose(-1, -2)


class _TracedTorch(types.ModuleType):
    """torch, except for the functions that would make the traced sizes constants of the graph."""

    def __init__(self):
        super().__init__("torch")

    def __getattr__(self, name: str) -> Any:
        import torch

        return getattr(torch, name)

    @staticmethod
    def linspace(start, end, steps, **options):
        """With a step of one, as the library calls it; the general form divides by zero for a single value."""
        import torch

        return torch.arange(steps, **options) + start

    @staticmethod
    def as_tensor(rows, dtype=None, device=None):
        """Also of sizes that are traced values."""
        import torch

        return torch.stack([torch.stack([torch.as_tensor(size) for size in row]) for row in rows]).to(dtype)
