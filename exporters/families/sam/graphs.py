"""SAM as two graphs: the encoder runs once for each picture, the decoder once for each prompt.

Both graphs are written around the parts of transformers' ``SamModel``, whose ``forward`` branches on Python values
where a graph must depend on its inputs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tritonvision.exporters.modules import point_prompts
from tritonvision.exporters.modules.normalise import IMAGENET, normalising

if TYPE_CHECKING:
    import torch
    from transformers import SamModel

# Rows of the grid whose attention to the whole picture is computed at once. The scores between all 64 x 64 positions
# take 0.8 GB in vit_b, and several copies of them exist: a run peaked at 5.7 GB. With eight rows it peaks at 1.3 GB.
_ROWS = 8


def encoder(model: SamModel) -> torch.nn.Module:
    """``pixels`` uint8 ``[B,S,S,3]`` RGB and ``valid_size`` int32 ``[B,2]`` to ``embeddings`` ``[B,256,S/16,S/16]``.

    Pixels are normalised, then those outside ``valid_size`` (height, width) become zero.
    """
    import torch
    from torch import nn

    vision = model.vision_encoder
    grid = vision.config.image_size // vision.config.patch_size

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.projection, self.neck = vision.patch_embed.projection, vision.neck
            self.positions = vision.pos_embed
            self.layers = nn.ModuleList(_Layer(layer, grid) for layer in vision.layers)
            self.normalising = normalising(IMAGENET)
            self.register_buffer("places", torch.arange(vision.config.image_size, dtype=torch.int32))

        def forward(self, pixels, valid_size):
            normal = self.normalising(pixels)
            rows = self.places < valid_size[:, :1]
            columns = self.places < valid_size[:, 1:]
            normal = normal * (rows[:, None, :, None] & columns[:, None, None, :]).float()
            hidden = self.projection(normal).permute(0, 2, 3, 1) + self.positions
            for layer in self.layers:
                hidden = layer(hidden)
            return self.neck(hidden)

    return Encoder()


def _Layer(layer: torch.nn.Module, grid: int) -> torch.nn.Module:  # noqa: N802 a class, defined inside a function because torch is imported late
    """One transformer layer of the encoder on ``[B,grid,grid,C]``, with every size but the batch a constant."""
    from torch import nn
    from torch.nn import functional

    side = layer.window_size or grid  # of the window within which positions attend to each other
    windows = -(-grid // side)
    missing = windows * side - grid

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.norm2, self.mlp = layer.layer_norm1, layer.layer_norm2, layer.mlp
            self.qkv, self.proj = layer.attn.qkv, layer.attn.proj
            self.heads, self.scale = layer.attn.num_attention_heads, layer.attn.scale
            # [query, channel, key]: what the relative position adds to a score, along each axis
            for name in ("rel_pos_h", "rel_pos_w"):
                table = layer.attn.get_rel_pos(side, side, getattr(layer.attn, name)).detach()
                self.register_buffer(name, table.transpose(1, 2).contiguous())

        def forward(self, hidden):
            channels = hidden.shape[-1]
            squares = self.norm1(hidden)
            if windows > 1:
                squares = functional.pad(squares, (0, 0, 0, missing, 0, missing))
                squares = squares.reshape(-1, windows, side, windows, side, channels).transpose(2, 3)
                squares = squares.reshape(-1, side, side, channels)
            squares = self.attend(squares, channels)
            if windows > 1:
                squares = squares.reshape(-1, windows, windows, side, side, channels).transpose(2, 3)
                squares = squares.reshape(-1, windows * side, windows * side, channels)[:, :grid, :grid]
            hidden = hidden + squares
            return hidden + self.mlp(self.norm2(hidden))

        def attend(self, squares, channels):
            size = channels // self.heads
            places = side * side
            query, key, value = (
                self.qkv(squares).reshape(-1, places, 3, self.heads, size).permute(2, 0, 3, 1, 4).unbind(0)
            )
            spread = query.reshape(-1, self.heads, side, side, size)
            down = spread @ self.rel_pos_h  # [B,heads,row,column,key row]
            across = (spread.transpose(2, 3) @ self.rel_pos_w).transpose(2, 3)
            query, key = query * self.scale, key.transpose(2, 3)
            parts = []
            step = side if windows > 1 else _ROWS
            for first in range(0, side, step):
                rows = slice(first, first + step)
                bias = down[:, :, rows, :, :, None] + across[:, :, rows, :, None, :]
                scores = query[:, :, first * side : (first + step) * side] @ key
                scores = scores + bias.reshape(-1, self.heads, step * side, places)
                parts.append(scores.softmax(-1) @ value)
            seen = _joined(parts).transpose(1, 2).reshape(-1, side, side, channels)
            return self.proj(seen)

    return Layer()


def _joined(parts):
    """The parts concatenated along the positions; a single one unchanged."""
    import torch

    return torch.cat(parts, 2) if len(parts) > 1 else parts[0]


def decoder(model: SamModel) -> torch.nn.Module:
    """Embeddings and a prompt to four masks and their expected IoU: the single answer, then the three proposals.

    ``embeddings [B,256,64,64]``; ``point_coords [B,N,2]`` x, y in the 1024 frame; ``point_labels [B,N]``: 1 on the
    object, 0 off it, 2 and 3 corners of a box, -1 no point; ``mask_input [B,1,256,256]`` earlier logits and
    ``has_mask [B,1]``, whether they count. Gives ``low_res_masks [B,4,256,256]`` logits and ``iou_scores [B,4]``.
    """
    import torch
    from torch import nn

    prompt, mask = model.prompt_encoder, model.mask_decoder
    frame = float(model.config.vision_config.image_size)

    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed_mask, self.transformer = prompt.mask_embed, mask.transformer
            self.grow1, self.grow_norm, self.grow2 = mask.upscale_conv1, mask.upscale_layer_norm, mask.upscale_conv2
            self.activation, self.hypernetworks = mask.activation, mask.output_hypernetworks_mlps
            self.iou_head = mask.iou_prediction_head
            kinds = torch.cat([kind.weight for kind in prompt.point_embed])
            self.embed_points = point_prompts.embedding(prompt, frame, kinds)
            self.register_buffer("no_mask", prompt.no_mask_embed.weight.detach()[..., None, None])
            self.register_buffer("tokens", torch.cat([mask.iou_token.weight, mask.mask_tokens.weight]).detach()[None])
            self.register_buffer("places", model.get_image_wide_positional_embeddings().detach())

        def forward(self, embeddings, point_coords, point_labels, mask_input, has_mask):
            tokens = self.tokens.expand(embeddings.shape[0], -1, -1)
            tokens = torch.cat([tokens, self.embed_points(point_coords, point_labels)], 1)[:, None]
            dense = torch.where(has_mask[..., None, None] > 0.5, self.embed_mask(mask_input), self.no_mask)
            tokens, picture = self.transformer(tokens, embeddings + dense, self.places, None)
            size, channels = embeddings.shape[-1], embeddings.shape[1]
            picture = picture.transpose(2, 3).reshape(-1, channels, size, size)
            picture = self.activation(self.grow_norm(self.grow1(picture)))
            picture = self.activation(self.grow2(picture)).flatten(2)
            count = len(self.hypernetworks)
            weights = torch.stack([net(tokens[:, 0, 1 + i]) for i, net in enumerate(self.hypernetworks)], 1)
            return (weights @ picture).reshape(-1, count, 4 * size, 4 * size), self.iou_head(tokens[:, 0, 0])

    return Decoder()
