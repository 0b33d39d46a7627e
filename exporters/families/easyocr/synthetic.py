"""Random networks of easyocr that find printed lines and read them as something: only their last layers are fitted.

A random CRAFT draws no regions and a random recogniser gives only blanks, so nothing would be compared. Here the
backbones and recurrent layers are random, and only CRAFT's last layers and the recogniser's last one are fitted to
print, which takes seconds: lines are found where they are printed, and each is read as letters, most of them wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tritonvision.exporters.families.easyocr import networks
from tritonvision.exporters.libraries import transformers_weights
from tritonvision.exporters.parity import text_pages
from tritonvision.exporters.synthetic import calibrate, fitting
from tritonvision.python_backend.ocr import grey_lines

if TYPE_CHECKING:
    import torch

_SIDE = 256  # pixels of a part of a page
_PATCH = 48  # cells of a patch that the last layers are fitted on; a cell is two pixels
_LETTER = 0.35  # of a letter's width on each side of its middle, that is text
_WORDS, _WIDE = 128, 256  # words, and pixels to which they are padded
_GATE_GAIN = 1.2  # of the recurrent layers' input weights; with a smaller one their state holds too little of a word
_BLANK = 0.15  # weight of the blank in the loss: most steps are blanks


def detector(network: torch.nn.Module, seed: int, steps: int = 100) -> None:
    """Draws the weights of a ``CRAFT`` and fits its last layers to printed pages, in place.

    Args:
        steps: of Adam, on six patches each.
    """
    import torch

    pages, targets = _scenes(seed)
    read: list[torch.Tensor] = []
    hook = network.conv_cls.register_forward_pre_hook(lambda _, arguments: read.append(arguments[0].detach()))
    transformers_weights.redraw(network, seed)
    pixels = networks.normalised(torch.from_numpy(pages).float())
    calibrate.settle(network, lambda: network(pixels))
    hook.remove()
    cells, wanted = read[0], torch.from_numpy(targets)
    rng = np.random.default_rng(seed)

    def loss() -> torch.Tensor:
        patches = []
        for scene in range(6):
            y, x = rng.integers(0, _SIDE // 2 - _PATCH + 1, 2)
            patches.append([each[scene % len(pages), :, y : y + _PATCH, x : x + _PATCH] for each in (cells, wanted)])
        inputs, answers = (torch.stack(side) for side in zip(*patches, strict=True))
        return ((network.conv_cls(inputs) - answers) ** 2 * (1 + 2 * answers)).mean()

    fitting.fit(network.conv_cls, loss, steps, rate=1e-2)


def recogniser(network: torch.nn.Module, characters: str, seed: int, steps: int = 150) -> None:
    """Draws the weights of a recogniser and fits its last layer to printed words, in place.

    Args:
        steps: of Adam, on 32 words each.
    """
    import torch

    rng = np.random.default_rng(seed)
    stock = [word for word in text_pages.TEXT.split() if set(word) <= set(characters)]
    drawn = [_word(stock[i % len(stock)], rng) for i in range(_WORDS)]
    pixels = torch.from_numpy(np.stack([picture for picture, _ in drawn]))
    transformers_weights.redraw(network, seed)
    with torch.no_grad():
        for layer in network.SequenceModeling:
            for name, weight in layer.rnn.named_parameters():
                if name.startswith("weight_ih"):
                    weight.mul_(_GATE_GAIN)
    read: list[torch.Tensor] = []
    hook = network.Prediction.register_forward_pre_hook(lambda _, arguments: read.append(arguments[0].detach()))
    graph = networks.recogniser(network)
    calibrate.settle(network, lambda: graph(pixels))
    hook.remove()
    (rows,) = read
    wanted = torch.from_numpy(np.stack([_steps(letters, rows.shape[1], characters) for _, letters in drawn]))
    importance = torch.ones(len(characters) + 1)
    importance[0] = _BLANK

    def loss() -> torch.Tensor:
        chosen = torch.from_numpy(rng.integers(0, _WORDS, 32))
        logits = network.Prediction(rows[chosen])
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), wanted[chosen].flatten(), importance)

    fitting.fit(network.Prediction, loss, steps, rate=3e-2)


def _scenes(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Parts of pages, uint8 ``[3,256,256,3]``, and both maps of them, float32 ``[3,2,128,128]``: of a flat one, of a
    photographed one, and the corner of one without a word, on black.
    """
    flat, flat_words = text_pages.page_and_words(2 * seed + 1)
    other, other_words = text_pages.page_and_words(2 * seed + 2)
    scenes = (
        (flat, _maps(flat, flat_words)),
        (text_pages.photographed(other, seed), text_pages.seen(_maps(other, other_words), seed, outside=(0, 0, 0))),
        (np.pad(np.full((240, 270, 3), 255, np.uint8), ((0, 620), (0, 450), (0, 0))), np.zeros_like(flat)),
    )
    part = slice(80, 80 + _SIDE)
    pages = np.stack([picture[part, part] for picture, _ in scenes])
    half = (_SIDE // 2, _SIDE // 2)
    maps = [cv2.resize(marks[part, part], half, interpolation=cv2.INTER_AREA)[..., :2] for _, marks in scenes]
    return pages, (np.stack(maps).transpose(0, 3, 1, 2) / 255).astype(np.float32)


def _maps(picture: np.ndarray, words: list[text_pages.Word]) -> np.ndarray:
    """Where the middles of letters are, and those of gaps between letters, 255 in the first two channels."""
    marks = np.zeros_like(picture)
    for word in words:
        left, top, right, bottom = word.box
        wide, margin = (right - left) / len(word.text), (bottom - top) // 5
        for i in range(len(word.text)):
            middle = left + (i + 0.5) * wide
            reach = _LETTER * wide
            marks[top + margin : bottom - margin, round(middle - reach) : round(middle + reach) + 1, 0] = 255
            if i:
                gap = left + i * wide
                marks[top + margin : bottom - margin, round(gap - reach) : round(gap + reach) + 1, 1] = 255
    return marks


def _word(text: str, rng: np.random.Generator) -> tuple[np.ndarray, list[tuple[str, float, float]]]:
    """A printed word with some margin, as dark and noisy as on a photo, uint8 ``[64,256]``; its letters, and where each
    begins and ends as a share of the width.
    """
    font = ImageFont.load_default(int(rng.integers(34, 46)))
    left, top, right, bottom = (int(v) for v in rng.integers(0, 9, 4))
    _, above, _, below = font.getbbox(text, anchor="ls")  # as tightly as a region lies around its letters
    width, height = round(font.getlength(text)) + left + right, round(below - above) + top + bottom
    sheet = Image.new("L", (width, height), 249)
    ImageDraw.Draw(sheet).text((left, top - above), text, font=font, fill=24, anchor="ls")
    seen = np.array(sheet) * rng.uniform(0.6, 1) + rng.normal(0, rng.uniform(0, 6), (height, width))
    scale = min(grey_lines.HEIGHT / height, _WIDE / width)
    small = Image.fromarray(seen.clip(0, 255).astype(np.uint8)).resize((round(width * scale), grey_lines.HEIGHT))
    ends = [(left + font.getlength(text[:i])) * scale / _WIDE for i in range(len(text) + 1)]
    letters = [(letter, start, end) for letter, start, end in zip(text, ends, ends[1:], strict=False)]
    return grey_lines.padded(np.asarray(small), _WIDE), letters


def _steps(letters: list[tuple[str, float, float]], count: int, characters: str) -> np.ndarray:
    """The target class of each step, int64: around the middle of a letter the letter, else the blank, which is 0."""
    found = np.zeros(count, np.int64)
    for letter, start, end in letters:
        middle, reach = (start + end) / 2 * count, 0.3 * (end - start) * count
        first = int(middle - reach)
        found[first : max(int(middle + reach), first + 1)] = characters.index(letter) + 1
    return found
