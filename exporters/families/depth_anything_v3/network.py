"""The depth network of Depth Anything 3 for one picture, under the names of its authors' checkpoints.

The authors' network looks at several views and also tells cameras, rays and splats; of one view without a known camera
only this part takes part in the depth. Positions are computed from the pixels' height and width by operations whose
trace holds for every size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import interpolate

from tritonvision.exporters.modules import bicubic

PATCH = 14
TABLE = 37  # side of the square table of position embeddings
_TENTHS = 1  # of a patch that the authors add to those of a side where they resize that table
_PLACES = 256  # in a row or a column, at most: of a picture of 3584 pixels; 504 are asked
_ROPE, _MAP = 100.0, 100.0  # base frequencies: of rotated queries and keys, of what the head adds to its maps
_SHARE = 0.1  # of positions in the head's maps


@dataclass(frozen=True)
class Size:
    """The numbers of one size.

    Attributes:
        taken: the four blocks whose tokens the head reads.
        start: the first block with normalised, rotated queries and keys; there the camera's token replaces the class's.
        features: channels of the head.
        channels: of the four maps before they are fused.
    """

    width: int
    depth: int
    heads: int
    taken: tuple[int, ...]
    start: int
    features: int
    channels: tuple[int, ...]


class Attention(nn.Module):
    """Multi-head attention; ``turned`` blocks normalise queries and keys and rotate them by their places."""

    def __init__(self, width: int, heads: int, turned: bool):
        super().__init__()
        self.heads, self.turned = heads, turned
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        side = width // heads
        self.q_norm = nn.LayerNorm(side) if turned else nn.Identity()
        self.k_norm = nn.LayerNorm(side) if turned else nn.Identity()

    def forward(self, tokens: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """``[B,N,C]``; ``places`` ``[N,2]``: row and column of each token."""
        batch, count, width = tokens.shape[0], tokens.shape[1], self.qkv.in_features
        side = width // self.heads
        parts = self.qkv(tokens).reshape(batch, count, 3, self.heads, side).permute(2, 0, 3, 1, 4)
        queries, keys, values = self.q_norm(parts[0]), self.k_norm(parts[1]), parts[2]
        if self.turned:
            queries, keys = rotated(queries, places, side), rotated(keys, places, side)
        weights = (queries * side**-0.5 @ keys.transpose(-2, -1)).softmax(dim=-1)
        return self.proj((weights @ values).transpose(1, 2).reshape(batch, count, width))


class Gain(nn.Module):
    """A learned factor for each channel."""

    def __init__(self, width: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """``[..., C]``."""
        return values * self.gamma


class Perceptron(nn.Module):
    """Two linear layers."""

    def __init__(self, width: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """``[..., C]``."""
        return self.fc2(nn.functional.gelu(self.fc1(values)))


class Block(nn.Module):
    """Attention, then the perceptron, each with its norm, its gain and a way around it."""

    def __init__(self, width: int, heads: int, turned: bool):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn, self.mlp = Attention(width, heads, turned), Perceptron(width)
        self.ls1, self.ls2 = Gain(width), Gain(width)

    def forward(self, tokens: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """``[B,N,C]``; ``places`` as of :class:`Attention`."""
        tokens = tokens + self.ls1(self.attn(self.norm1(tokens), places))
        return tokens + self.ls2(self.mlp(self.norm2(tokens)))


class Transformer(nn.Module):
    """Pictures to the tokens of four blocks."""

    def __init__(self, size: Size):
        super().__init__()
        self.size = size
        self.cls_token = nn.Parameter(torch.zeros(1, 1, size.width))
        self.camera_token = nn.Parameter(torch.zeros(1, 2, size.width))  # of the first view, and of the others
        self.pos_embed = nn.Parameter(torch.zeros(1, TABLE * TABLE + 1, size.width))
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, size.width, PATCH, PATCH)
        self.blocks = nn.ModuleList(Block(size.width, size.heads, i >= size.start) for i in range(size.depth))
        self.norm = nn.LayerNorm(size.width)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Normalised ``[B,3,H,W]`` to four times ``[B,rows*columns,2C]``.

        From ``start`` on the odd blocks attend to all views, in which every patch has the same place; beside each
        block's tokens stand those of the last block that attended to one view.
        """
        patches = self.patch_embed.proj(images)
        rows, columns = patches.shape[2], patches.shape[3]
        tokens = torch.cat((self.cls_token.expand(patches.shape[0], -1, -1), patches.flatten(2).transpose(1, 2)), 1)
        tokens = tokens + self._positions(rows, columns)
        local = _places(rows, columns, images)
        shared = local.clamp(0, 1)
        found, last = [], tokens
        for number, block in enumerate(self.blocks):
            if number == self.size.start:
                camera = self.camera_token[:, :1].expand(tokens.shape[0], -1, -1)
                tokens = torch.cat((camera, tokens[:, 1:]), dim=1)
            everywhere = number >= self.size.start and number % 2 == 1
            tokens = block(tokens, shared if everywhere else local)
            last = last if everywhere else tokens
            if number in self.size.taken:
                found.append(torch.cat((last, self.norm(tokens)), dim=-1)[:, 1:])
        return found

    def _positions(self, rows: int, columns: int) -> torch.Tensor:
        """``[1,1+rows*columns,C]``: the table of position embeddings, resized bicubic as two matrix products."""
        width = self.size.width
        table = self.pos_embed[0, 1:].reshape(TABLE, TABLE, width)
        down, across = (
            bicubic.weights(count, TABLE, (10 * count + _TENTHS, 10 * TABLE), table.dtype) for count in (rows, columns)
        )
        resized = across @ torch.einsum("ha,abd->hbd", down, table)
        return torch.cat((self.pos_embed[:, :1], resized.reshape(1, -1, width)), dim=1)


def _places(rows: int, columns: int, like: torch.Tensor) -> torch.Tensor:
    """int64 ``[1+rows*columns,2]``: row and column of each patch, from 1; (0, 0) of the token before them."""
    down = torch.arange(rows, device=like.device)[:, None].expand(rows, columns)
    across = torch.arange(columns, device=like.device)[None].expand(rows, columns)
    grid = torch.stack((down, across), dim=-1).reshape(-1, 2) + 1
    return torch.cat((torch.zeros_like(grid[:1]), grid))


def rotated(values: torch.Tensor, places: torch.Tensor, channels: int) -> torch.Tensor:
    """``[B,heads,N,channels]``: half of the channels rotated by the token's row, the other half by its column.

    Sines and cosines are constants that a place, a whole number, chooses from: an engine that computes in bf16 would
    know the angle of a late place to an eighth only.
    """
    half = channels // 2
    steps = torch.arange(0, half, 2, device=values.device).to(values.dtype) / half
    frequencies = 1 / _ROPE**steps
    angles = torch.arange(_PLACES + 1, device=values.device)[:, None] * torch.cat((frequencies, frequencies))
    cosines, sines, parts = angles.cos(), angles.sin(), []
    for part, place in zip((values[..., :half], values[..., half:]), (places[:, 0], places[:, 1]), strict=True):
        turned = torch.cat((-part[..., half // 2 :], part[..., : half // 2]), dim=-1)
        parts.append(part * cosines[place] + turned * sines[place])
    return torch.cat(parts, dim=-1)


class Residual(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, features: int):
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(features, features, 3, 1, 1) for _ in range(2))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """``[B,C,h,w]``."""
        return values + self.conv2(self.conv1(values.relu()).relu())


class Fusion(nn.Module):
    """A coarse map, with a finer one added, enlarged."""

    def __init__(self, features: int, lateral: bool = True):
        super().__init__()
        self.resConfUnit1 = Residual(features) if lateral else None
        self.resConfUnit2 = Residual(features)
        self.out_conv = nn.Conv2d(features, features, 1)

    def forward(self, coarse: torch.Tensor, size: Sequence[int], fine: torch.Tensor | None = None) -> torch.Tensor:
        """``[B,C,h,w]`` to ``[B,C,*size]``."""
        if fine is not None and self.resConfUnit1 is not None:
            coarse = coarse + self.resConfUnit1(fine)
        return self.out_conv(interpolate(self.resConfUnit2(coarse), tuple(size), mode="bilinear", align_corners=True))


class Head(nn.Module):
    """The tokens of four blocks to depth."""

    def __init__(self, size: Size):
        super().__init__()
        self.norm = nn.LayerNorm(2 * size.width)
        self.projects = nn.ModuleList(nn.Conv2d(2 * size.width, channels, 1) for channels in size.channels)
        first, second, _, last = size.channels
        self.resize_layers = nn.ModuleList((
            nn.ConvTranspose2d(first, first, 4, 4), nn.ConvTranspose2d(second, second, 2, 2), nn.Identity(),
            nn.Conv2d(last, last, 3, 2, 1),
        ))  # fmt: skip
        self.scratch = nn.Module()
        for i, channels in enumerate(size.channels, 1):
            setattr(self.scratch, f"layer{i}_rn", nn.Conv2d(channels, size.features, 3, 1, 1, bias=False))
            setattr(self.scratch, f"refinenet{i}", Fusion(size.features, lateral=i < 4))
        half = size.features // 2
        self.scratch.output_conv1 = nn.Conv2d(size.features, half, 3, 1, 1)
        self.scratch.output_conv2 = nn.Sequential(nn.Conv2d(half, 32, 3, 1, 1), nn.ReLU(), nn.Conv2d(32, 2, 1))

    def forward(self, tokens: Sequence[torch.Tensor], height: int, width: int) -> torch.Tensor:
        """``[B,H,W]``, over 0."""
        rows, columns, maps = height // PATCH, width // PATCH, []
        for found, project, resize in zip(tokens, self.projects, self.resize_layers, strict=True):
            grid = self.norm(found).transpose(1, 2).reshape(found.shape[0], -1, rows, columns)
            maps.append(resize(_with_places(project(grid), project.out_channels, height, width)))
        scratch = self.scratch
        one, two, three, four = (getattr(scratch, f"layer{i}_rn")(found) for i, found in enumerate(maps, 1))
        fused = scratch.refinenet4(four, three.shape[2:])
        fused = scratch.refinenet3(fused, two.shape[2:], three)
        fused = scratch.refinenet2(fused, one.shape[2:], two)
        fused = scratch.refinenet1(fused, (2 * one.shape[2], 2 * one.shape[3]), one)
        whole = (rows * PATCH, columns * PATCH)
        fused = interpolate(scratch.output_conv1(fused), whole, mode="bilinear", align_corners=True)
        placed = _with_places(fused, scratch.output_conv1.out_channels, height, width)
        return scratch.output_conv2(placed)[:, 0].exp()


def _with_places(values: torch.Tensor, channels: int, height: int, width: int) -> torch.Tensor:
    """``[B,channels,h,w]`` with a tenth of sines and cosines of each cell's place added: x in the first half of the
    channels, y in the second; the picture's diagonal is 2 long.
    """
    down, across = values.shape[2], values.shape[3]
    aspect = torch.as_tensor(width).to(values.dtype) / torch.as_tensor(height).to(values.dtype)
    diagonal = (aspect * aspect + 1) ** 0.5
    steps = torch.arange(channels // 4, device=values.device).to(values.dtype) / (channels / 4)
    frequencies = 1 / _MAP**steps

    def waves(count: int, span: torch.Tensor) -> torch.Tensor:
        """``[C/2,count]``."""
        cells = 2 * torch.arange(count, device=values.device).to(values.dtype) + 1
        angles = frequencies[:, None] * (span * (cells / count - 1))
        return torch.cat((angles.sin(), angles.cos())) * _SHARE

    x, y = waves(across, aspect / diagonal)[:, None], waves(down, 1 / diagonal)[:, :, None]
    return torch.cat((values[:, : channels // 2] + x, values[:, channels // 2 :] + y), dim=1)


class DepthNet(nn.Module):
    """Normalised ``[B,3,H,W]``, sides multiples of 14, to relative depth ``[B,H,W]``: larger is farther."""

    def __init__(self, size: Size):
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.pretrained = Transformer(size)
        self.head = Head(size)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return self.head(self.backbone.pretrained(images), images.shape[2], images.shape[3])
