"""YOLACT's network as a graph: pixels to the best pairs of anchor and class, their coefficients, and prototypes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tritonvision.exporters.families.yolact.network import priors
from tritonvision.exporters.modules.normalise import Scale

if TYPE_CHECKING:
    import torch

CANDIDATES = 3840  # the largest K of TensorRT's TopK
# Of the authors, for values in 0..1; theirs are for blue, green, red in 0..255.
SCALE: Scale = (
    tuple(value / 255 for value in (123.68, 116.78, 103.94)), tuple(value / 255 for value in (58.40, 57.12, 57.38)),
)  # fmt: skip
_VARIANCES = 0.1, 0.2  # of centres and sizes


def graph(network: torch.nn.Module, height: int, width: int, candidates: int = CANDIDATES) -> torch.nn.Module:
    """float32 ``[B,H,W,3]`` RGB from 0 to 1 to the tensors of prototype masks, with a row for each pair of anchor and
    class, at most ``candidates`` of them.

    The best anchors by their best class hold the best pairs, so pairs are sorted of these only.
    """
    import torch
    from torch import nn

    class Graph(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network
            anchors = priors(height, width)
            self.register_buffer("anchors", anchors)
            mean, std = (torch.tensor(values) for values in SCALE)
            self.register_buffer("mean", mean)
            self.register_buffer("std", std)
            self.register_buffer("size", torch.tensor([width, height] * 2, dtype=torch.float32))
            self.count = min(candidates, len(anchors))

        def forward(self, pixels):
            loc, conf, mask, proto = self.network(((pixels - self.mean) / self.std).permute(0, 3, 1, 2))
            shares = conf.softmax(2)[..., 1:]
            best = shares.amax(2).topk(self.count, dim=1).indices
            classes = int(shares.shape[2])
            shares = _of(shares, best).flatten(1)
            scores, pairs = shares.topk(min(candidates, self.count * classes), dim=1)
            # not floor and %, of whose export onnxruntime refuses the types
            anchor = torch.div(pairs, classes, rounding_mode="trunc")
            rows = best.gather(1, anchor)
            loc, anchors = _of(loc, rows), self.anchors[rows]
            centres = anchors[..., :2] + loc[..., :2] * _VARIANCES[0] * anchors[..., 2:]
            halves = anchors[..., 2:] * (loc[..., 2:] * _VARIANCES[1]).exp() / 2
            boxes = torch.cat([centres - halves, centres + halves], 2) * self.size
            return boxes, scores, (pairs - anchor * classes).int(), _of(mask, rows), proto

    return Graph().eval()


def _of(values: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """``values [B,A,n]`` of the ``rows [B,K]``."""
    return values.gather(1, rows[..., None].repeat(1, 1, values.shape[2]))
