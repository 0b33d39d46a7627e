"""The author's loop, written once more: a picture's rows into the cache, then a prompt, then one token at a time.

It shares neither masks nor crops nor the choice of tokens with what is served: masks are rows of one table, crops are
put together one by one, pooling is torch's, and places are read from their heads between two tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from tritonvision.python_backend.vlm.moondream2 import ANSWER, BEGIN, BINS, tiles_of

if TYPE_CHECKING:
    from tritonvision.exporters.families.moondream2.network import Moondream

_MOST_OBJECTS = 50


class Loop:
    """One conversation with the network; all of it greedy.

    Attributes:
        taken: the tokens of the answer, those of places as the served model numbers them.
    """

    def __init__(self, network: Moondream):
        self._network, self._config = network, network.config
        self._past: list[torch.Tensor] = []
        self._length, self._saw = 0, False
        most, prefix = self._config.text_max_context, 1 + self._config.grid**2
        self._table = torch.tril(torch.ones(most, most, dtype=torch.bool))
        self._causal = self._table.clone()
        self._table[:prefix, :prefix] = True
        self.taken: list[int] = []

    def look(self, picture: np.ndarray) -> None:
        """Read a picture, RGB uint8 ``[h,w,3]``."""
        rows = self._rows(picture)
        first = self._network.text.wte[torch.tensor([BEGIN])]
        self._read(torch.cat([first, rows])[None])

    def write(self, prompt: Sequence[int], most: int) -> list[int]:
        """The tokens behind a prompt's, at most so many, the one that ends them included."""
        hidden = self._read(self._network.text.wte[torch.tensor(prompt)][None])
        while True:
            token = int(self._words(hidden).argmax())
            self.taken.append(token)
            if token == BEGIN or len(self.taken) == most:
                return self.taken
            hidden = self._read(self._network.text.wte[torch.tensor([token])][None])

    def find(self, prompt: Sequence[int], sized: bool, most: int) -> list[dict[str, float]]:
        """The places behind a prompt's tokens; with so many tokens taken it ends, also within one."""
        region = self._network.region
        found: list[dict[str, float]] = []
        hidden = self._read(self._network.text.wte[torch.tensor(prompt)][None])
        while True:
            if len(found) == _MOST_OBJECTS or int(self._words(hidden).argmax()) == BEGIN:
                self.taken.append(BEGIN)
                return found
            centre = []
            for _ in "xy":
                bin = int(region.coord_decoder(hidden).argmax())
                centre.append(bin / BINS)
                if self._take(self._config.text_vocab_size + bin, most):
                    return found if sized or len(centre) < 2 else [*found, dict(zip("xy", centre, strict=True))]
                hidden = self._read(region.coordinate(torch.tensor([[[bin / BINS]]])))
            if not sized:
                found.append(dict(zip("xy", centre, strict=True)))
                continue
            bins = region.size_decoder(hidden).view(2, BINS).argmax(-1)
            width, height = (2.0 ** (bins.double() / 1023.0 * 10.0 - 10.0)).tolist()
            (x, y), half = centre, (width / 2, height / 2)
            found.append({"x_min": x - half[0], "y_min": y - half[1], "x_max": x + half[0], "y_max": y + half[1]})
            if self._take(self._config.text_vocab_size + BINS + int(bins[0]) * BINS + int(bins[1]), most):
                return found
            hidden = self._read(region.size(torch.tensor([[[width, height]]], dtype=torch.float32)))

    def _take(self, token: int, most: int) -> bool:
        self.taken.append(token)
        return len(self.taken) == most

    def _words(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits of words, without the token that begins an answer after thoughts."""
        text = self._network.text
        logits = text.lm_head(text.post_ln(hidden))[0]
        logits[ANSWER] = -torch.inf
        return logits

    def _read(self, embeds: torch.Tensor) -> torch.Tensor:
        """The last layer's output for the last of ``embeds`` ``[1,S,H]``, which join the cache: ``[1,H]``."""
        end = self._length + embeds.shape[1]
        table = self._table if self._saw else self._causal
        mask = torch.where(table[self._length : end, :end], 0.0, torch.finfo(torch.float32).min)
        places = torch.arange(self._length, end)[None]
        if not self._past:
            config = self._config
            none = torch.zeros(1, config.text_n_kv_heads, 0, config.text_dim // config.text_n_heads)
            self._past = [none] * (2 * config.text_n_layers)
        hidden, self._past = self._network.text(embeds, mask[None, None], places, self._past)
        self._length = end
        return hidden[:, -1]

    def _rows(self, picture: np.ndarray) -> torch.Tensor:
        """The rows of a picture: of the whole, and of its crops put together, averaged, and projected."""
        self._saw = True
        config, vision = self._config, self._network.vision
        side, patch, margin = config.vision_crop_size, config.vision_enc_patch_size, config.vision_overlap_margin
        rows, columns = tiles_of(picture.shape[0], picture.shape[1], side, patch, margin, config.vision_max_crops)
        inner, edge = side - 2 * patch * margin, 2 * patch * margin
        image = Image.fromarray(picture)
        large = image.resize((columns * inner + edge, rows * inner + edge), Image.Resampling.LANCZOS)
        crops = [image.resize((side, side), Image.Resampling.LANCZOS)]
        for row in range(rows):
            for column in range(columns):
                left, top = column * inner, row * inner
                crops.append(large.crop((left, top, left + side, top + side)))
        pixels = torch.from_numpy(np.stack([np.asarray(crop) for crop in crops])).permute(0, 3, 1, 2)
        whole, *parts = vision.features(pixels.float().div(255.0).sub(0.5).div(0.5))
        joined = self._joined(parts, rows, columns)
        pooled = torch.nn.functional.adaptive_avg_pool2d(joined.permute(2, 0, 1), (config.grid, config.grid))
        return vision.proj_mlp(torch.cat([whole, pooled.flatten(1).T], dim=-1))

    def _joined(self, parts: Sequence[torch.Tensor], rows: int, columns: int) -> torch.Tensor:
        """``[H,W,E]`` of crops' patches, without the margins that a neighbour has, too."""
        grid, margin = self._config.grid, self._config.vision_overlap_margin
        inner = grid - 2 * margin
        joined = torch.zeros(rows * inner + 2 * margin, columns * inner + 2 * margin, parts[0].shape[-1])
        for number, part in enumerate(parts):
            row, column = divmod(number, columns)
            top, left = (0 if place == 0 else margin for place in (row, column))
            bottom = grid if row == rows - 1 else grid - margin
            right = grid if column == columns - 1 else grid - margin
            tile = part.view(grid, grid, -1)[top:bottom, left:right]
            joined[row * inner + top : row * inner + bottom, column * inner + left : column * inner + right] = tile
        return joined


def rounded(found: list[dict[str, float]], digits: int = 4) -> list[dict[str, Any]]:
    """Places as the served model writes them."""
    return [{name: round(value, digits) for name, value in place.items()} for place in found]
