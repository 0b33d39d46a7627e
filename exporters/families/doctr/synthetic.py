"""Random networks of docTR that find printed words and read them as something: true architectures, fitted last layers.

A random detector finds no words and a random recogniser gives only blanks, so nothing would be compared. Here the
backbones, necks and recurrent layers are random, and only the detector's head and the recogniser's last layer are
fitted to printed pages, which takes seconds: words are found where they are printed, and each is read as letters, most
of them wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tritonvision.exporters.libraries import transformers_weights
from tritonvision.exporters.parity import text_pages
from tritonvision.exporters.synthetic import calibrate, fitting
from tritonvision.python_backend.ocr import text_pixels

if TYPE_CHECKING:
    import torch

Prepare = Callable[[np.ndarray], "torch.Tensor"]

_SIDE = 1024  # pixels of a page
_STRIDE = 4  # pixels of the page for each cell of the head's input
_PATCH = 64  # cells of a patch that the head is fitted on
_DAMPED = 0.5  # gain of each coarser level: a larger one would outweigh the level that resolves letters
_BRANCH = 0.3  # gain of the last norm of each residual branch
_WORDS = 192
_GATE_GAIN = 1.2  # of the recurrent layers' input weights; with a smaller one their state holds too little of a word
_BLANK = 0.4  # weight of the blank in the loss: most steps are blanks


def detector(network: torch.nn.Module, prepare: Prepare, seed: int, steps: int = 60) -> None:
    """Draws the weights of a ``DBNet`` and fits its head to printed pages, in place.

    Args:
        prepare: uint8 ``[B,1024,1024,3]`` to what the network reads.
        steps: of Adam, on six patches each.
    """
    import torch

    pages, targets = scenes(seed)
    read = []
    hook = network.prob_head.register_forward_pre_hook(lambda _, arguments: read.append(arguments[0].detach()))
    transformers_weights.redraw(network, seed)
    with torch.no_grad():
        _dampen_branches(network)
        for level, branches in enumerate(zip(network.fpn.in_branches, network.fpn.out_branches, strict=True)):
            for norm in (branch[1] for branch in branches):
                norm.weight.mul_(_DAMPED**level)
                norm.bias.mul_(_DAMPED**level)
    calibrate.settle(network, lambda: network(prepare(pages)))
    hook.remove()
    cells, wanted = read[0], torch.from_numpy(targets)[:, None]
    rng = np.random.default_rng(seed)

    def loss() -> torch.Tensor:
        size, last = _PATCH * _STRIDE, _SIDE // _STRIDE - _PATCH
        patches = []
        for scene in (0, 0, 1, 1, 2, 2):
            y, x = rng.integers(0, last + 1, 2)
            patches.append((
                cells[scene, :, y : y + _PATCH, x : x + _PATCH],
                wanted[scene, :, y * _STRIDE : y * _STRIDE + size, x * _STRIDE : x * _STRIDE + size],
            ))  # fmt: skip
        inputs, answers = (torch.stack(side) for side in zip(*patches, strict=True))
        return torch.nn.functional.binary_cross_entropy_with_logits(network.prob_head(inputs), answers)

    network.prob_head.train()
    fitting.fit(network.prob_head, loss, steps, rate=1e-2)
    network.eval()


def recogniser(network: torch.nn.Module, prepare: Prepare, seed: int, steps: int = 500) -> None:
    """Draws the weights of a ``CRNN`` and fits its last layer to printed words, in place.

    Args:
        prepare: uint8 ``[B,32,128,3]`` to what the network reads.
        steps: of Adam, on 64 words each.
    """
    import torch

    rng = np.random.default_rng(seed)
    stock = text_pages.TEXT.split()
    words = [word(stock[i % len(stock)], network.vocab, rng) for i in range(_WORDS)]
    pixels = prepare(np.stack([picture for picture, _ in words]))
    wanted = torch.from_numpy(np.stack([said for _, said in words]))
    transformers_weights.redraw(network, seed)
    with torch.no_grad():
        _dampen_branches(network)
        for name, weight in network.decoder.named_parameters():
            if name.startswith("weight_ih"):
                weight.mul_(_GATE_GAIN)
    read = []
    hook = network.linear.register_forward_pre_hook(lambda _, arguments: read.append(arguments[0].detach()))
    calibrate.settle(network, lambda: network(pixels))
    hook.remove()
    importance = torch.ones(len(network.vocab) + 1)
    importance[-1] = _BLANK

    def loss() -> torch.Tensor:
        rows = torch.from_numpy(rng.integers(0, _WORDS, 64))
        logits = network.linear(read[0][rows])
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), wanted[rows].flatten(), importance)

    fitting.fit(network.linear, loss, steps, rate=3e-2)


def redrawn(network: torch.nn.Module, prepare: Prepare, seed: int, size: tuple[int, int]) -> None:
    """Draws every weight of another network, in place: what it says of two pictures differs, and means nothing.

    Args:
        prepare: uint8 ``[B,h,w,3]`` to what the network reads.
        size: height and width of that.
    """
    import torch

    page, words = text_pages.page_and_words(2 * seed + 1)
    cut = [page[top:bottom, left:right] for left, top, right, bottom in (word.box for word in words[:16])]
    pixels = prepare(np.stack([text_pixels.fit(picture, *size, centred=False) for picture in cut]))
    transformers_weights.redraw(network, seed)
    with torch.no_grad():
        _dampen_branches(network)
    calibrate.settle(network, lambda: network(pixels))


def _dampen_branches(network: torch.nn.Module) -> None:
    """Lower the gain of the last norm of each residual branch: otherwise rounding errors grow from layer to layer."""
    from torchvision.models.mobilenetv3 import InvertedResidual
    from torchvision.models.resnet import Bottleneck

    for layer in network.modules():
        if isinstance(layer, InvertedResidual) and layer.use_res_connect:
            layer.block[-1][1].weight.fill_(_BRANCH)
        if isinstance(layer, Bottleneck):
            layer.bn3.weight.fill_(_BRANCH)


def scenes(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pages, uint8 ``[3,1024,1024,3]``, and where their words stand, float32 ``[3,1024,1024]``: a flat one, a
    photographed one, and one without a word.
    """
    pages, targets = [], []
    empty = np.full((884, 684, 3), 255, np.uint8)
    flat, flat_words = _page(2 * seed + 1)
    other, other_words = _page(2 * seed + 2)
    drawn = (
        (flat, flat_words),
        (text_pages.photographed(other, seed), text_pages.seen(other_words, seed, outside=(0, 0, 0))),
        (np.pad(empty, ((80, 60), (130, 210), (0, 0))), np.zeros((1024, 1024, 3), np.uint8)),
    )
    for picture, words in drawn:
        pages.append(text_pixels.fit(picture, _SIDE, _SIDE, centred=True))
        targets.append(text_pixels.fit(words, _SIDE, _SIDE, centred=True)[..., 0] > 127)
    return np.stack(pages), np.stack(targets).astype(np.float32)


def _page(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A page, and a mask of its words, white on black, shrunk as DB's targets are so that neighbours do not touch."""
    picture, words = text_pages.page_and_words(seed)
    mask = np.zeros_like(picture)
    for left, top, right, bottom in (word.box for word in words):
        margin = (bottom - top) // 5
        mask[top + margin : bottom - margin, left + margin // 2 : right - margin // 2] = 255
    return picture, mask


def word(text: str, vocabulary: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A printed word with some margin, as dark and noisy as on a photo, uint8 ``[32,128,3]``, and the target class of
    each of the 32 steps, int64.

    The target of the steps around the middle of a letter is the letter, that of all others the blank.
    """
    font = ImageFont.load_default(28)
    left, top, right, bottom = (int(v) for v in rng.integers(3, 9, 4))
    width, height = round(font.getlength(text)) + left + right, 24 + top + bottom
    sheet = Image.new("RGB", (width, height), (250, 249, 245))
    ImageDraw.Draw(sheet).text((left, top + 20), text, font=font, fill=text_pages.INK, anchor="ls")
    step = 4 / min(32 / height, 128 / width)  # pixels of the sheet
    steps = np.full(32, len(vocabulary))
    ends = [left + font.getlength(text[:i]) for i in range(len(text) + 1)]
    for letter, start, end in zip(text, ends, ends[1:], strict=False):
        middle, reach = (start + end) / 2 / step, 0.3 * (end - start) / step
        first = int(middle - reach + 0.5)
        steps[first : max(int(middle + reach + 0.5), first + 1)] = vocabulary.index(letter)
    seen = np.array(sheet) * rng.uniform(0.6, 1) + rng.normal(0, rng.uniform(0, 6), (height, width, 3))
    return text_pixels.fit(seen.clip(0, 255).astype(np.uint8), 32, 128, centred=False), steps
