"""What NVILA's authors make of a conversation and of a picture, in torch and Pillow: the reference of prompt and graph.

Written from VILA's ``generate_content``, ``dynamic_preprocess``, ``dynamic_s2_preprocess`` and
``merge_features_for_dynamic_s2``. Torch is imported here: only functions of the family import this module.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from tritonvision.python_backend.vlm import nvila

# Written as VILA's own for Qwen2; it is taken where a folder brings none.
TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant<|im_end|>\n' }}{% endif %}"
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<image>' }}{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Processor:
    """A tokenizer and an image processor of transformers.

    Attributes:
        scales: at which a picture is read.
        tokens: of one tile.
    """

    tokenizer: Any
    images: Any
    scales: int
    tokens: int

    def __call__(self, messages: Sequence[Mapping[str, Any]], pictures: Sequence[np.ndarray]) -> dict[str, Any]:
        """``input_ids`` int64 ``[1,S]``, and ``pictures``: of each its tiles ``[n,3,side,side]`` and its grid."""
        text = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        cut = [*self._cut([Image.fromarray(picture) for picture in pictures])]
        # as the author's processor: every picture or tile becomes its tokens and one more, which ends a line
        counts = iter([len(tiles) if self.scales == 1 else grid[0] * grid[1] for tiles, grid in cut])
        text = re.sub(re.escape(nvila.PICTURE), lambda _: self._places(next(counts), len(cut) == 1), text)
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        line = self.tokenizer.encode("\n", add_special_tokens=False)[0]
        end = self.tokenizer.convert_tokens_to_ids(_END)
        read = [
            (self.images(tiles, return_tensors="pt")["pixel_values"], grid) for tiles, grid in cut
        ]
        return {"input_ids": torch.tensor([[line if id == end else id for id in ids]]), "pictures": read}

    def save_pretrained(self, folder: Path) -> None:
        """As the library's processors do."""
        self.tokenizer.save_pretrained(folder)
        self.images.save_pretrained(folder)

    def _places(self, count: int, alone: bool) -> str:
        if self.scales > 1:
            return nvila.PICTURE * (count * self.tokens) + _END
        return (nvila.PICTURE * self.tokens + _END + ("\n" if alone else "")) * count

    def _cut(self, pictures: Sequence[Image.Image]) -> Iterator[tuple[list[Image.Image], tuple[int, int]]]:
        """The tiles of each picture, and the rows and columns of the last scale."""
        for picture in pictures:
            if len(pictures) > 1:
                yield [picture], (1, 1)
                continue
            side = self.images.size["height"]
            grid = _nearest(picture, side, self.scales**2)
            squares = [(n, n) for n in range(1, self.scales)]
            tiles = [tile for shape in [*squares, grid] for tile in _tiles(picture, side, *shape)]
            if self.scales == 1 and len(tiles) > 1:
                tiles.append(picture.resize((side, side)))
            yield tiles, grid


_END = "<vila/sentinel>"  # stands for the end of a line until the text is tokenized


def _tiles(picture: Image.Image, side: int, rows: int, columns: int) -> Iterator[Image.Image]:
    whole = picture.resize((columns * side, rows * side))
    for n in range(rows * columns):
        left, top = n % columns * side, n // columns * side
        yield whole.crop((left, top, left + side, top + side))


def _nearest(picture: Image.Image, side: int, least: int) -> tuple[int, int]:
    """Rows and columns, as ``find_closest_aspect_ratio`` chooses them."""
    shapes = {(i, j) for i in range(1, 13) for j in range(1, 13) if least <= i * j <= nvila.MOST}
    best, smallest = (1, 1), float("inf")
    for across, down in sorted(shapes, key=lambda shape: shape[0] * shape[1]):
        difference = abs(picture.width / picture.height - across / down)
        if difference < smallest:
            best, smallest = (down, across), difference
        elif difference == smallest and picture.width * picture.height > 0.5 * side * side * across * down:
            best = (down, across)
    return best
