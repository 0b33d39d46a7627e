"""YOLACT with random weights that find some things of several classes on the photo, with masks that vary."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tritonvision import tasks
from tritonvision.exporters.contract import NoSignal
from tritonvision.exporters.families.yolact import authors
from tritonvision.exporters.families.yolact.network import Predictions, network
from tritonvision.exporters.libraries import transformers_weights
from tritonvision.exporters.parity import sample_pictures
from tritonvision.exporters.synthetic import calibrate

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

_BRANCH = 0.15  # gain of the last batch norm of a residual branch: more would let rounding errors grow with depth
_CLASSES = 4.0  # standard deviation of the classes' logits, so that the best one often has most of the softmax
_COEFFICIENTS = -1.0  # mean of the masks' coefficients: masks reach over their boxes, and at 0 would fill all of them
_FOUND = range(20, 41)  # boxes on the photo
_LEVELS = -20.0, 60.0  # of the background's logit: between them lies the one that leaves the boxes
_STEPS = 16


def random(blocks: Sequence[int], classes: int, size: tuple[int, int], seed: int) -> torch.nn.Module:
    """The architecture with random weights that carry signal on pictures of ``size`` (height, width).

    Raises:
        NoSignal: no level of the background leaves 20 to 40 boxes of several classes on the photo.
    """
    import torch

    pictures = calibrate.structured_pictures(3, *size, seed)
    photo = authors.pixels(sample_pictures.photo(), size)
    images = torch.cat([photo, *(authors.pixels(picture, size) for picture in pictures)])
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        module = network(blocks, classes)
        transformers_weights.redraw(module, seed)
        for name, layer in module.named_modules():
            if name.endswith("bn3"):
                layer.weight.mul_(_BRANCH)
        calibrate.settle(module, lambda: module.backbone(images))
        levels = module.fpn(module.backbone(images))
        (head,) = module.prediction_layers
        features = [head.upfeature(level) for level in levels]
        for layer, spread, mean in (
            (head.bbox_layer, 0.7, 0.0), (head.conf_layer, _CLASSES, 0.0), (head.mask_layer, 1.0, _COEFFICIENTS),
        ):  # fmt: skip
            _standardise(layer, features, spread, mean)
        _standardise(module.proto_net[-1], [module.proto_net[:-1](levels[0])], 1.0, 0.0)
        _place_background(head.conf_layer, module(photo), size, classes)
    return module


def _standardise(layer: torch.nn.Module, inputs: Sequence[torch.Tensor], spread: float, mean: float) -> None:
    """Give each output channel of a convolution mean ``mean`` and standard deviation ``spread`` over ``inputs``."""
    import torch

    rows = [layer(one).movedim(1, -1).flatten(0, -2).double() - layer.bias.double() for one in inputs]
    values = torch.cat(rows)
    gain = spread / values.std(0)
    layer.weight.mul_(gain.float()[:, None, None, None])
    layer.bias.copy_(mean - values.mean(0) * gain)


def _place_background(layer: torch.nn.Module, found: Predictions, size: tuple[int, int], classes: int) -> None:
    """Give the background's logits a level at which 20 to 40 boxes on the photo are over the task's threshold: the
    higher it is, the fewer are. Raises NoSignal where there is none, or they are of one class.
    """
    settings = tasks.resolve(tasks.INSTANCE_SEGMENTATION.parameters, {"mask_format": "none"})
    low, high = _LEVELS
    for _ in range(_STEPS):
        level = (low + high) / 2
        conf = found.conf.clone()
        conf[..., 0] += level
        answer = authors.answer(found._replace(conf=conf), size, size, settings)
        count = len(answer["scores"])
        if count in _FOUND and len(set(answer["class_ids"].tolist())) > 1:
            layer.bias[:: classes + 1] += level
            return
        low, high = (level, high) if count > _FOUND[-1] else (low, level)
    raise NoSignal()
