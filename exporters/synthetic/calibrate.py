"""Random networks that carry signal: comparing constant scores and tied candidates would prove nothing.

A network with random weights gives nearly the same answer for every picture: its signal shrinks from layer to layer
until the biases of the last one are far larger. So the last layers are standardised on structured pictures: the
architecture and the random features stay, but the answers differ between positions and between pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from tritonvision.exporters.contract import NoSignal
from tritonvision.python_backend.postprocess import dense_boxes

if TYPE_CHECKING:
    import torch


def structured_pictures(count: int, height: int, width: int, seed: int) -> np.ndarray:
    """uint8 ``[count,height,width,3]``: coloured discs and boxes on a colour gradient, smooth as photographs are."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 1, width)[None, :, None] * np.linspace(0.3, 1, height)[:, None, None]
    pictures = []
    for _ in range(count):
        picture = np.ascontiguousarray(ramp * rng.uniform(40, 255, 3)).astype(np.uint8)
        for _ in range(12):
            x, y = int(rng.integers(width)), int(rng.integers(height))
            size = int(rng.integers(min(height, width) // 16, min(height, width) // 3))
            colour = tuple(int(v) for v in rng.integers(0, 256, 3))
            if rng.random() < 0.5:
                cv2.circle(picture, (x, y), size // 2, colour, -1)
            else:
                cv2.rectangle(picture, (x, y), (x + size, y + size // 2), colour, -1)
        pictures.append(picture)
    return np.stack(pictures)


def inputs_of(layers: Sequence[torch.nn.Module], network: torch.nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """The input of each of ``layers`` when ``network`` is run on ``images``: float64 ``[rows, channels]`` each."""
    import torch

    seen: dict[int, torch.Tensor] = {}

    def keep(index: int):
        return lambda _, arguments: seen.__setitem__(index, arguments[0].movedim(1, -1).flatten(0, -2).double())

    hooks = [layer.register_forward_pre_hook(keep(index)) for index, layer in enumerate(layers)]
    with torch.no_grad():
        network(images)
    for hook in hooks:
        hook.remove()
    return [seen[index] for index in range(len(layers))]


def settle(module: torch.nn.Module, run: Callable[[], Any]) -> None:
    """Give each batch norm, frozen ones too, the statistics of its inputs while ``run`` calls the network once."""
    import torch

    def measure(layer, arguments):
        rows = arguments[0].movedim(1, -1).flatten(0, -2)
        layer.running_mean.copy_(rows.mean(0))
        layer.running_var.copy_(rows.var(0))

    hooks = [layer.register_forward_pre_hook(measure) for layer in module.modules() if is_batch_norm(layer)]
    with torch.no_grad():
        run()
    for hook in hooks:
        hook.remove()


def is_batch_norm(layer: torch.nn.Module) -> bool:
    """Also for the batch norms of transformers and timm that keep everything in buffers."""
    return hasattr(layer, "running_mean") and hasattr(layer, "running_var")


def standardise(
    layer: torch.nn.Module, rows: torch.Tensor, spread: float, bias: torch.Tensor, flat: torch.Tensor | None = None
) -> None:
    """Rescale a linear or 1x1 convolution layer so that over ``rows`` each output has mean ``bias`` and std ``spread``.

    In float64: the signal of a deep random network is about 1e-8 of its bias, which float32 would round away.

    Args:
        rows: float64 ``[n, C_in]``, see :func:`inputs_of`.
        bias: float64 ``[C_out]``.
        flat: rows of a picture of one colour, which get nearly the mean output. Many of them are equal; with large
            outputs, rounding would decide which of them ranks first.
    """
    import torch

    with torch.no_grad():
        kernel = layer.weight.double().flatten(1)
        mean = rows.mean(0)
        if flat is not None:
            # project out the directions in which these rows differ from the mean, at most half of all
            _, _, directions = torch.linalg.svd(flat - mean, full_matrices=False)
            directions = directions[: rows.shape[1] // 2]
            kernel = kernel - kernel @ directions.T @ directions
        kernel = kernel * (spread / (rows @ kernel.T).std(0).clamp_min(1e-30))[:, None]
        layer.weight.copy_(kernel.reshape(layer.weight.shape))
        layer.bias.copy_(bias - kernel @ mean)


def detection_shift(
    boxes: np.ndarray, logits: np.ndarray, class_ids: np.ndarray, class_count: int,
    confidence: float = 0.4, iou_threshold: float = 0.3,
) -> float:  # fmt: skip
    """What to add to the class logits so that some 20 to 40 boxes survive non-maximum suppression at ``confidence``.

    Greedy suppression of the best n candidates keeps the same ones as suppression of all candidates, restricted to the
    best n. So one pass gives the count for every n. Of the cuts in the range, the one at the widest gap between two
    logits is taken, so that rounding does not change the number.

    Args:
        boxes: ``[n,4]`` float32 corners.
        logits: ``[n]`` float32, of the best class of each box.
        confidence, iou_threshold: the defaults of object detection.

    Raises:
        NoSignal: fewer than ten boxes, or one class of several: the network carries no signal.
    """
    order = np.argsort(-logits, kind="stable")
    logits = logits[order].astype(np.float64)
    apart = boxes[order] + class_ids[order, None].astype(np.float32) * np.float32(7680)
    kept = dense_boxes.nms(apart, iou_threshold, 41)
    if len(kept) < 11 or len(set(class_ids[order][kept].tolist())) < min(2, class_count):
        raise NoSignal()
    low, high = kept[min(19, len(kept) - 2)], kept[-1]  # the cut comes after rank low, before rank high
    gaps = logits[low:high] - logits[low + 1 : high + 1]
    cut = low + int(gaps.argmax())
    return float(np.log(confidence / (1 - confidence)) - (logits[cut] + logits[cut + 1]) / 2)
