"""Moondream2's network: SigLIP over overlapping crops, a decoder of Phi's kind, and heads for places.

Parameters are named as in the released files. What its code (vikhyat/moondream at 44146f1, June 2025) does differently
from its kin: attention and MLP of the text read the same norm; rotary embeddings of the first half of a head take their
pairs from halves and give them interleaved; the picture's rows and what is before them attend in both directions.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from tritonvision.exporters.families.moondream2.sizes import Config
from tritonvision.exporters.modules import attention_masks
from tritonvision.python_backend.vlm.moondream2 import ANSWER, BINS

_BASE = 10000.0  # of the rotary embeddings
_NEVER = -1e4  # logit of the token that the author's loop never takes


class Moondream(nn.Module):
    """The whole network: ``vision``, ``text`` and ``region``."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.vision, self.text, self.region = Vision(config), Text(config), Region(config)

    def embed(self, input_ids: torch.Tensor) -> torch.Tensor:
        """int64 ``[B,S]`` to ``[B,S,H]``: of a word, of a coordinate, or of a size, see ``Places`` of its prompt."""
        words = self.config.text_vocab_size
        number = input_ids - words
        found = self.text.wte[input_ids.clamp(max=words - 1)]
        coordinates = self.region.coordinate(number.clamp(0, BINS - 1)[..., None] / BINS)
        size = (number - BINS).clamp(min=0)
        bins = torch.stack([size // BINS, size % BINS], dim=-1).to(found.dtype)
        sizes = self.region.size(2.0 ** (bins / (BINS - 1) * 10 - 10))
        found = torch.where((number >= 0)[..., None], coordinates, found)
        return torch.where((number >= BINS)[..., None], sizes, found)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """``[B,H]`` of the last layer to ``[B,V+3 BINS]``: words, coordinate, width, height."""
        return torch.cat([self.text.words(hidden), self.region.numbers(hidden)], dim=-1)


class Vision(nn.Module):
    """Crops to rows of the prompt."""

    def __init__(self, config: Config):
        super().__init__()
        width, patch, heads = config.vision_enc_dim, config.vision_enc_patch_size, config.vision_enc_n_heads
        self.patch, self.grid = patch, config.grid
        self.patch_emb = nn.Linear(3 * patch**2, width)
        self.pos_emb = nn.Parameter(torch.zeros(1, self.grid**2, width))
        self.blocks = nn.ModuleList(
            VisionBlock(width, heads, config.vision_enc_ff_dim) for _ in range(config.vision_enc_n_layers)
        )
        self.post_ln = nn.LayerNorm(width)
        self.proj_mlp = Mlp(2 * width, config.vision_proj_inner_dim, config.text_dim)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Crops ``[n,3,side,side]`` from -1 to 1 to ``[n,patches,E]``."""
        grid, patch = self.grid, self.patch
        tiles = images.reshape(-1, 3, grid, patch, grid, patch).permute(0, 2, 4, 1, 3, 5)
        hidden = self.patch_emb(tiles.reshape(-1, grid**2, 3 * patch**2)) + self.pos_emb
        for block in self.blocks:
            hidden = block(hidden)
        return self.post_ln(hidden)

    def forward(self, pixels, places, rows, columns):
        """See ``Reader.vision_inputs``: uint8 ``[B,n,side,side,3]``, ... to ``[B,patches,H]``."""
        count, crops = pixels.shape[:2]
        # cast first: TensorRT reshapes no bytes
        images = (pixels.to(self.pos_emb.dtype).flatten(0, 1).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
        found = self.features(images).reshape(count, crops, self.grid**2, -1)
        height, width = places.shape[1:]
        parts = found[:, 1:].flatten(1, 2)
        index = places.flatten(1)[..., None].expand(-1, -1, parts.shape[-1])
        whole = torch.gather(parts, 1, index).reshape(count, height, -1)
        pooled = (rows.to(parts.dtype) @ whole).reshape(count, self.grid, width, -1)
        pooled = (columns.to(parts.dtype)[:, None] @ pooled).flatten(1, 2)
        return self.proj_mlp(torch.cat([found[:, 0], pooled], dim=-1))


class VisionBlock(nn.Module):
    """A layer of SigLIP, with the queries, keys and values of one product."""

    def __init__(self, width: int, heads: int, inner: int):
        super().__init__()
        self.heads = heads
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.mlp = Mlp(width, inner, width)

    def forward(self, hidden):
        count, width = hidden.shape[1:]  # of crops there are any number: -1, which no shape inference makes a constant
        query, key, value = (
            part.reshape(-1, count, self.heads, width // self.heads).transpose(1, 2)
            for part in self.attn["qkv"](self.ln1(hidden)).chunk(3, dim=-1)
        )
        weights = (query @ key.transpose(2, 3) / math.sqrt(query.shape[-1])).softmax(-1)
        hidden = hidden + self.attn["proj"]((weights @ value).transpose(1, 2).reshape(-1, count, width))
        return hidden + self.mlp(self.ln2(hidden))


class Mlp(nn.Module):
    """Two layers with the approximated GELU."""

    def __init__(self, width: int, inner: int, out: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, inner), nn.Linear(inner, out)

    def forward(self, hidden):
        return self.fc2(nn.functional.gelu(self.fc1(hidden), approximate="tanh"))


class Text(nn.Module):
    """The decoder with its cache as flat arguments and results."""

    def __init__(self, config: Config):
        super().__init__()
        self.wte = nn.Parameter(torch.zeros(config.text_vocab_size, config.text_dim))
        self.blocks = nn.ModuleList(TextBlock(config) for _ in range(config.text_n_layers))
        self.post_ln = nn.LayerNorm(config.text_dim)
        self.lm_head = nn.Linear(config.text_dim, config.text_vocab_size)

    def forward(self, hidden, mask, position_ids, past):
        """``[B,S,H]``, an additive mask ``[B,1,S,P+S]``, ``[B,S]`` and keys and values by turns to the last layer's
        output and the longer cache.
        """
        kept = []
        for number, block in enumerate(self.blocks):
            hidden, *cache = block(hidden, mask, position_ids, *past[2 * number : 2 * number + 2])
            kept += cache
        return hidden, kept

    def words(self, hidden: torch.Tensor) -> torch.Tensor:
        """``[B,H]`` to logits ``[B,V]``, of which the token that the author's loop leaves out is never the largest."""
        logits = self.lm_head(self.post_ln(hidden))
        left_out = torch.zeros(logits.shape[-1], dtype=logits.dtype)
        left_out[ANSWER] = _NEVER
        return logits + left_out


class TextBlock(nn.Module):
    """One norm, read by attention and MLP alike."""

    def __init__(self, config: Config):
        super().__init__()
        width, heads, shared = config.text_dim, config.text_n_heads, config.text_n_kv_heads
        self.size, self.shared = width // heads, shared
        self.ln = nn.LayerNorm(width)
        self.attn = nn.ModuleDict(
            {"qkv": nn.Linear(width, (heads + 2 * shared) * self.size), "proj": nn.Linear(width, width)}
        )
        self.mlp = Mlp(width, config.text_ff_dim, width)

    def forward(self, hidden, mask, position_ids, past_key, past_value):
        read = self.ln(hidden)
        parts = self.attn["qkv"](read).unflatten(-1, (-1, self.size)).transpose(1, 2)
        query, key = parts[:, : -2 * self.shared], parts[:, -2 * self.shared : -self.shared]
        value = parts[:, -self.shared :]
        query, key = (_turned(part, position_ids) for part in (query, key))
        key, value = torch.cat([past_key, key], dim=2), torch.cat([past_value, value], dim=2)
        seen = _attend(query, key, value, mask).transpose(1, 2).flatten(2)
        return hidden + self.attn["proj"](seen) + self.mlp(read), key, value


class Region(nn.Module):
    """Places as embeddings, and places of embeddings."""

    def __init__(self, config: Config):
        super().__init__()
        width, inner = config.text_dim, config.region_inner_dim
        coordinate, size = config.region_coord_feat_dim, config.region_size_feat_dim
        self.coord_encoder, self.size_encoder = nn.Linear(coordinate, width), nn.Linear(size, width)
        self.coord_decoder, self.size_decoder = Mlp(width, inner, BINS), Mlp(width, inner, 2 * BINS)
        self.coord_features = nn.Parameter(torch.zeros(1, coordinate // 2))
        self.size_features = nn.Parameter(torch.zeros(2, size // 2))

    def coordinate(self, value: torch.Tensor) -> torch.Tensor:
        """``[...,1]`` from 0 to 1 to ``[...,H]``."""
        return self.coord_encoder(_waves(value.to(self.coord_features.dtype), self.coord_features))

    def size(self, value: torch.Tensor) -> torch.Tensor:
        """Width and height ``[...,2]`` from 0 to 1 to ``[...,H]``."""
        return self.size_encoder(_waves(value, self.size_features))

    def numbers(self, hidden: torch.Tensor) -> torch.Tensor:
        """``[B,H]`` to logits ``[B,3 BINS]``: of a coordinate, of a width, of a height."""
        return torch.cat([self.coord_decoder(hidden), self.size_decoder(hidden)], dim=-1)


class Embed(nn.Module):
    """The graph ``embed``."""

    def __init__(self, network: Moondream):
        super().__init__()
        self.network = network

    def forward(self, input_ids):
        return self.network.embed(input_ids)


class Decoder(nn.Module):
    """The graph ``decoder``, see :func:`causal_decoder.decoder_net`."""

    def __init__(self, network: Moondream):
        super().__init__()
        self.network = network

    def forward(self, inputs_embeds, attention_mask, position_ids, *past):
        mask = attention_masks.additive(inputs_embeds.shape[1], attention_mask, past[-1]).to(inputs_embeds.dtype)
        hidden, kept = self.network.text(inputs_embeds, mask, position_ids, past[:-1])
        return self.network.logits(hidden[:, -1]), *kept


def _attend(query, key, value, mask):
    """Softmax attention; queries ``[B,heads,S,D]`` of a group share keys and values ``[B,shared,L,D]``."""
    batch, heads, new, size = query.shape
    shared = key.shape[1]
    scores = query.reshape(batch, shared, -1, size) @ key.transpose(2, 3) / math.sqrt(size)
    scores = scores.view(batch, heads, new, -1) + mask
    weights = scores.softmax(-1).reshape(batch, shared, heads // shared * new, -1)
    return (weights @ value).view(batch, heads, new, size)


def _turned(parts, position_ids):
    """Rotary embeddings of the first half of each head: pairs from halves of it, given back interleaved."""
    size = parts.shape[-1] // 2
    frequencies = 1.0 / (_BASE ** (torch.arange(0, size, 2, dtype=torch.float32) / size))
    angles = position_ids[:, None, :, None].to(torch.float32) * frequencies
    cosine, sine = angles.cos().to(parts.dtype), angles.sin().to(parts.dtype)
    first, second = parts[..., : size // 2], parts[..., size // 2 : size]
    turned = torch.stack([first * cosine - second * sine, first * sine + second * cosine], dim=-1).flatten(-2)
    return torch.cat([turned, parts[..., size:]], dim=-1)


def _waves(value, frequencies):
    """``[...,n]`` to ``[...,2 F]``: cosines, then sines, of products with ``frequencies`` ``[n,F]``."""
    angles = 2 * math.pi * value @ frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)
