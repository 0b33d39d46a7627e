"""Points and boxes as SAM and SAM2 are asked them: which on the photo, whose encoding is kept between them, and how a
graph embeds them, by sines of their place and a learned vector for their kind.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    import torch

# Prompts on the photo: a point, two points, a box, a box and points, no prompt; with three proposals and with one.
QUESTIONS: tuple[dict[str, Any], ...] = (
    {"points": [[230, 120]]},
    {"points": [[230, 120], [400.5, 300]], "point_labels": [1, 0], "multimask": False},
    {"box": [100, 60, 330.5, 500]},
    {"box": [20, 30, 200, 190], "points": [[90, 80]], "point_labels": [0], "multimask": False},
    {},
)

Encoded = TypeVar("Encoded")


class LastEncoding(Generic[Encoded]):
    """An encoder that keeps its last answer: it takes seconds, and each picture is asked several questions."""

    def __init__(self, encode: Callable[[torch.Tensor], Encoded]):
        """``encode`` is called with pixels as the model reads them."""
        self._encode = encode
        self._last: tuple[bytes, Encoded] | None = None

    def __call__(self, pixel_values: torch.Tensor) -> Encoded:
        """The encoding of a picture."""
        picture = pixel_values.numpy().tobytes()
        if self._last is None or self._last[0] != picture:
            self._last = picture, self._encode(pixel_values)
        return self._last[1]


def embedding(prompt_encoder: torch.nn.Module, frame: float, kinds: torch.Tensor) -> torch.nn.Module:
    """The part of a graph that takes ``coords [...,N,2]`` x, y in the encoder's frame and ``labels [...,N]``, and gives
    ``[...,N,C]``.

    Labels are 1 on the object, 0 off it, 2 and 3 corners of a box, -1 no point.

    Args:
        prompt_encoder: transformers' of SAM or SAM2.
        frame: pixels a side.
        kinds: ``[4,C]``, what is added by label.
    """
    import torch
    from torch import nn

    class PointEmbedding(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("frequencies", prompt_encoder.shared_embedding.positional_embedding.detach())
            self.register_buffer("kinds", kinds.detach())
            self.register_buffer("no_point", prompt_encoder.not_a_point_embed.weight.detach())

        def forward(self, coords, labels):
            labels = labels[..., None]
            angles = (2 * ((coords + 0.5) / frame) - 1) @ self.frequencies * (2 * math.pi)
            points = torch.cat([angles.sin(), angles.cos()], -1)
            points = torch.where(labels == -1, self.no_point, points)
            for label, kind in enumerate(self.kinds):
                points = torch.where(labels == label, points + kind, points)
            return points

    return PointEmbedding()
