"""Shared by detectors of one box an anchor: the best anchors, and their boxes from distances in bins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tritonvision.ensembles.preprocessing import Resize
from tritonvision.exporters.contract import NoSignal
from tritonvision.exporters.parity import sample_pictures
from tritonvision.exporters.synthetic import calibrate as synthetic

if TYPE_CHECKING:
    import torch

CANDIDATES = 3840  # the largest K of TensorRT's TopK
STANDARD_SIZE = 320  # pixels at which random heads are standardised; the statistics hardly depend on the size
_PADDING = 114  # the grey of letterbox padding


def decoder(
    strides: Sequence[int], height: int, width: int, bins: int, most: int = CANDIDATES, final: bool = False
) -> torch.nn.Module:  # fmt: skip
    """The module from what the heads of all levels give to boxes.

    Its inputs are ``[B,4*bins,anchors]``, the logits of the bins of the distances to the left, top, right and bottom
    side in strides, and ``[B,classes,anchors]``, the class logits; its outputs the canonical tensors of dense boxes,
    float32 ``[B,K,4]``, float32 ``[B,K]`` and int32 ``[B,K]``, and the anchors chosen, int64 ``[B,K]``.

    The best candidates are chosen first, from the maximum over the class logits, and only they are decoded. Equal
    scores keep the order of their anchors in onnxruntime (ONNX TopK); TensorRT does not define it. Where the network
    gives NaN, so do the scores: they exceed no threshold, and the gate does not count them as equal.

    Args:
        strides: of the levels, the finest first.
        height, width: of the network's pixels.
        most: how many are chosen, or as many as there are anchors.
        final: whether the best pairs of an anchor and a class are chosen, and not the best anchors, each with its best
            class.
    """
    import torch
    from torch import nn

    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            centres, sizes = anchors(strides, height, width)
            self.register_buffer("centres", centres)
            self.register_buffer("strides", sizes)
            self.register_buffer("bins", torch.arange(bins, dtype=torch.float32))
            self.count = min(most, len(centres))

        def forward(self, sides, logits):
            scores, class_ids, best = self.pairs(logits) if final else self.candidates(logits)
            sides = sides.gather(2, best[:, None].repeat(1, sides.shape[1], 1))
            # distribution focal loss (Li et al. 2020): the expected distance to each side, in strides
            sides = sides.unflatten(1, (4, len(self.bins))).transpose(2, 3).softmax(3) @ self.bins  # [B,4,K]
            sides = sides.transpose(1, 2)
            centres = self.centres[best]
            boxes = torch.cat([centres - sides[..., :2], centres + sides[..., 2:]], 2) * self.strides[best]
            return boxes, scores, class_ids.int(), best

        def candidates(self, logits):
            scores, best = logits.amax(1).sigmoid().topk(self.count, dim=1)
            # repeat, not expand: it exports as one Tile of constants where expand would compute shapes
            return scores, logits.gather(2, best[:, None].repeat(1, logits.shape[1], 1)).argmax(1), best

        def pairs(self, logits):
            # each of the best pairs of an anchor and a class belongs to one of as many best anchors
            _, best = logits.amax(1).topk(self.count, dim=1)
            rows = logits.gather(2, best[:, None].repeat(1, logits.shape[1], 1)).sigmoid()  # [B,classes,K]
            scores, order = rows.flatten(1).topk(self.count, dim=1)
            class_ids = order // self.count
            return scores, class_ids, best.gather(1, order - class_ids * self.count)

    return Decoder()


def anchors(strides: Sequence[int], height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Cell centres ``[anchors,2]`` (x, y) in strides and strides ``[anchors,1]`` of all levels, row by row."""
    import torch

    centres, sizes = [], []
    for stride in strides:
        y, x = torch.meshgrid(torch.arange(height // stride), torch.arange(width // stride), indexing="ij")
        centres.append(torch.stack([x, y], -1).reshape(-1, 2) + 0.5)
        sizes.append(torch.full((len(centres[-1]), 1), float(stride)))
    return torch.cat(centres), torch.cat(sizes)


def calibrate(
    network: torch.nn.Module, box_layers: Sequence[torch.nn.Conv2d], class_layers: Sequence[torch.nn.Conv2d],
    graph: Callable[[], torch.nn.Module], resize: Resize, seed: int, suppressed: bool = True,
) -> None:  # fmt: skip
    """Give the last layers of a random network weights that carry signal, in place: they are standardised, then the
    class biases are shifted so that the photo has 20 to 40 boxes. Of a network whose scores are then 0 or 1, the batch
    norms are settled first.

    Args:
        network: takes pixels in 0..1, ``[B,3,H,W]``.
        box_layers, class_layers: its last layers, one of each a level.
        graph: makes the module from uint8 ``[B,H,W,3]`` to the canonical tensors, of the network as it is then.
        resize: the pre step.
        suppressed: whether its boxes go through non-maximum suppression.

    Raises:
        NoSignal: there are too few boxes all the same.
    """
    import torch

    pixels, _ = resize(sample_pictures.photo())
    layers = [*box_layers, *class_layers]
    drawn = [layer.weight.detach().clone() for layer in layers]

    def standardised() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes, logits and classes of the photo once the last layers are standardised."""
        _standardise(network, box_layers, class_layers, seed)
        with torch.inference_mode():
            boxes, scores, class_ids = (t[0].numpy() for t in graph()(torch.from_numpy(pixels)[None]))
        with np.errstate(divide="ignore"):
            return boxes, np.log(scores) - np.log1p(-scores), class_ids

    boxes, logits, class_ids = standardised()
    if not np.isfinite(logits).all():  # so deep a network that float32 leaves too little of its signal
        with torch.no_grad():
            for layer, weight in zip(layers, drawn, strict=True):
                layer.weight.copy_(weight)
            for layer in filter(synthetic.is_batch_norm, network.modules()):
                layer.bias.fill_(3)  # SiLU is nearly straight there: through so many layers that bend, rounding grows
        height, width = pixels.shape[:2]
        pictures = synthetic.structured_pictures(4, height, width, seed)
        synthetic.settle(network, lambda: network(_inputs(np.concatenate([pictures, pixels[None]]))))
        boxes, logits, class_ids = standardised()
        if not np.isfinite(logits).all():
            raise NoSignal()
    overlap = {} if suppressed else {"iou_threshold": 1.0}
    shift = synthetic.detection_shift(boxes, logits, class_ids, class_layers[0].out_channels, **overlap)
    with torch.no_grad():
        for layer in class_layers:
            layer.bias += shift


def _standardise(
    network: torch.nn.Module, box_layers: Sequence[torch.nn.Conv2d], class_layers: Sequence[torch.nn.Conv2d], seed: int
) -> None:
    import torch

    pictures = synthetic.structured_pictures(4, STANDARD_SIZE, STANDARD_SIZE, seed)
    layers = [*box_layers, *class_layers]
    seen, flat = (
        synthetic.inputs_of(layers, network, _inputs(p)) for p in (pictures, np.full_like(pictures[:1], _PADDING))
    )
    generator = torch.Generator().manual_seed(seed)
    for index, (layer, rows, flat_rows) in enumerate(zip(layers, seen, flat, strict=True)):
        noise = torch.randn(layer.out_channels, generator=generator, dtype=torch.float64)
        if index < len(box_layers):
            synthetic.standardise(layer, rows, 0.5, 0.5 * noise)
        else:
            # at -14 the sigmoid loses no digits of its argument, from which the shift is computed
            synthetic.standardise(layer, rows, 0.8, 0.1 * noise - 14, flat_rows)


def _inputs(pictures: np.ndarray) -> torch.Tensor:
    """What a network takes: uint8 ``[B,H,W,3]`` to 0..1, ``[B,3,H,W]``."""
    import torch

    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
