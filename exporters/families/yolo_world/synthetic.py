"""YOLO-World with random weights that find some things of several classes on the photo."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np

from tritonvision.exporters.families.yolo_world import text_tower
from tritonvision.exporters.families.yolo_world.graph import graph
from tritonvision.exporters.modules.anchor_boxes import STANDARD_SIZE
from tritonvision.exporters.parity import sample_pictures
from tritonvision.exporters.parity.checks.open_vocabulary import SEVERAL
from tritonvision.exporters.synthetic import calibrate
from tritonvision.python_backend.compositions.text_guided_boxes import IOU_THRESHOLD, TASK
from tritonvision.python_backend.images import resize

if TYPE_CHECKING:
    import torch

_LOW = -14.0  # the scores' first logit, at which the sigmoid loses no digits of its argument


def signal(model: torch.nn.Module, tower: torch.nn.Module, size: tuple[int, int], seed: int) -> None:
    """Give the random detector ``model`` weights that carry signal, in place.

    The last layers are standardised on structured pictures, what ultralytics initialises with a constant is drawn, and
    the scores are shifted so that the photo has 20 to 40 boxes. Raises NoSignal where they would be of one class.
    """
    import torch
    from ultralytics.nn.modules.block import MaxSigmoidAttnBlock

    head = model.model[-1]
    generator = torch.Generator().manual_seed(seed)

    def drawn(count: int, scale: float) -> torch.Tensor:
        return scale * torch.randn(count, generator=generator, dtype=torch.float64)

    with torch.no_grad():
        asked = text_tower.embeds(tower, text_tower.ids(SEVERAL))
        model.txt_feats, head.nc = asked[None], len(SEVERAL)
        for layer in model.modules():
            if isinstance(layer, MaxSigmoidAttnBlock):
                layer.bias.copy_(drawn(len(layer.bias), 0.5))
        for contrast in head.cv4:
            norm = contrast.norm
            norm.weight.copy_(1 + drawn(norm.num_features, 0.1))
            norm.bias.copy_(drawn(norm.num_features, 0.1))
            contrast.logit_scale.fill_(0.3)
            contrast.bias.fill_(_LOW)
    pictures = calibrate.structured_pictures(4, STANDARD_SIZE, STANDARD_SIZE, seed)
    images = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    boxes, similar = ([branch[-1] for branch in branches] for branches in (head.cv2, head.cv3))
    seen = calibrate.inputs_of([*boxes, *similar], model, images)
    for layer, rows in zip([*boxes, *similar], seen, strict=True):
        spread = 0.5 if layer in boxes else 1.0
        calibrate.standardise(layer, rows, spread, drawn(layer.out_channels, 0.5 if layer in boxes else 0.1))
    shift = _shift(model, asked, size)
    with torch.no_grad():
        for contrast in head.cv4:
            contrast.bias += shift


def _shift(model: torch.nn.Module, asked: torch.Tensor, size: tuple[int, int]) -> float:
    """What to add to the scores' logits so that 20 to 40 boxes on the photo are over the task's threshold."""
    import torch

    pixels, _ = resize.letterbox(sample_pictures.photo(), *size)
    with torch.inference_mode():
        found = graph(copy.deepcopy(model), *size)(torch.from_numpy(pixels)[None], asked[None])
    boxes, scores, class_ids = (np.asarray(tensor[0]) for tensor in found)
    logits = np.log(scores) - np.log1p(-scores)
    confidence = next(setting.default for setting in TASK.parameters if setting.name == "confidence")
    return calibrate.detection_shift(boxes, logits, class_ids, len(asked), confidence, IOU_THRESHOLD)
