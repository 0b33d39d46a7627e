"""SAM2 as two graphs: the encoder runs once for each picture, the decoder once for several prompts about it.

Both are written around the parts of transformers' ``Sam2Model`` and ``Sam2VideoModel``, which have the same names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tritonvision.errors import ExportFailed
from tritonvision.exporters.modules import point_prompts
from tritonvision.exporters.modules.normalise import IMAGENET, normalising

if TYPE_CHECKING:
    import torch
    from transformers import Sam2Model, Sam2VideoModel

# Rows of the grid whose attention to the whole picture is computed at once: the scores between all 64 x 64 positions
# would take up to half a gigabyte, several times.
_ROWS = 8
LEVELS = ("high_res_s0", "high_res_s1")


def encoder(model: Sam2Model | Sam2VideoModel) -> torch.nn.Module:
    """``pixels`` uint8 ``[B,S,S,3]`` RGB to three levels of features: ``embeddings [B,256,S/16,S/16]``, with what says
    that there is no memory of earlier frames, ``high_res_s0 [B,32,S/4,S/4]`` and ``high_res_s1 [B,64,S/8,S/8]``.
    """
    import torch
    from torch import nn
    from torch.nn import functional

    backbone, neck, masks = model.vision_encoder.backbone, model.vision_encoder.neck, model.mask_decoder
    grid = model.prompt_encoder.input_image_size // backbone.config.patch_stride[0]

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.normalising, self.projection = normalising(IMAGENET), backbone.patch_embed.projection
            self.register_buffer("positions", backbone._get_pos_embed((grid, grid)).detach())
            layers, side = [], grid
            for block in backbone.blocks:
                layers.append(_Layer(block, side))
                side //= block.query_stride[0] if block.query_stride else 1
            self.layers, self.ends = nn.ModuleList(layers), set(backbone.stage_ends)
            self.convs, self.fine, self.middle = neck.convs, masks.conv_s0, masks.conv_s1
            self.register_buffer("no_memory", model.no_memory_embedding.detach().reshape(1, -1, 1, 1))

        def forward(self, pixels):
            hidden = self.projection(self.normalising(pixels)).permute(0, 2, 3, 1) + self.positions
            stages = []
            for number, layer in enumerate(self.layers):
                hidden = layer(hidden)
                if number in self.ends:
                    stages.append(hidden.permute(0, 3, 1, 2))
            coarse, *finer = (conv(stage) for conv, stage in zip(self.convs, reversed(stages), strict=True))
            top = finer[0] + functional.interpolate(coarse, scale_factor=2.0, mode="nearest")
            return top + self.no_memory, self.fine(finer[2]), self.middle(finer[1])

    if set(neck.fpn_top_down_levels) != {2, 3} or len(neck.convs) != 4:
        raise ExportFailed("These are weights of another SAM2: its encoder has other levels than the released models'.")
    with torch.no_grad():
        return Encoder()


def _Layer(block: torch.nn.Module, grid: int) -> torch.nn.Module:  # noqa: N802 a class, defined inside a function because torch is imported late
    """One layer of the encoder from ``[B,grid,grid,C]`` to ``[B,grid/s,grid/s,C']``, where s is 1, or 2 where a stage
    begins; every size but the batch is a constant.
    """
    import torch
    from torch import nn
    from torch.nn import functional

    side = block.window_size or grid  # of the window within which positions attend to each other
    windows = -(-grid // side)
    missing = windows * side - grid
    stride = block.query_stride[0] if block.query_stride else 1
    after = side // stride

    def pooled(squares):
        if stride == 1:
            return squares
        return functional.max_pool2d(squares.permute(0, 3, 1, 2), stride, stride).permute(0, 2, 3, 1)

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.norm2, self.mlp = block.layer_norm1, block.layer_norm2, block.mlp
            self.widen = block.proj if block.dim != block.dim_out else None
            self.qkv, self.proj = block.attn.qkv, block.attn.proj
            self.heads, self.scale = block.attn.num_attention_heads, block.attn.scale

        def forward(self, hidden):
            squares = self.norm1(hidden)
            if self.widen is not None:
                hidden = pooled(self.widen(squares))
            if block.window_size:
                channels = squares.shape[-1]
                squares = functional.pad(squares, (0, 0, 0, missing, 0, missing))
                squares = squares.reshape(-1, windows, side, windows, side, channels).transpose(2, 3)
                squares = squares.reshape(-1, side, side, channels)
            squares = self.attend(squares)
            if block.window_size:
                channels = squares.shape[-1]
                squares = squares.reshape(-1, windows, windows, after, after, channels).transpose(2, 3)
                squares = squares.reshape(-1, windows * after, windows * after, channels)
                squares = squares[:, : grid // stride, : grid // stride]
            hidden = hidden + squares
            return hidden + self.mlp(self.norm2(hidden))

        def attend(self, squares):
            channels = self.proj.in_features
            size = channels // self.heads
            query, key, value = (
                self.qkv(squares).reshape(-1, side * side, 3, self.heads, size).permute(2, 0, 1, 3, 4).unbind(0)
            )
            if stride > 1:
                query = pooled(query.reshape(-1, side, side, channels)).reshape(-1, after * after, self.heads, size)
            query, key, value = query.transpose(1, 2) * self.scale, key.permute(0, 2, 3, 1), value.transpose(1, 2)
            step = after if block.window_size else _ROWS
            parts = [
                (query[:, :, first * after : (first + step) * after] @ key).softmax(-1) @ value
                for first in range(0, after, step)
            ]
            seen = torch.cat(parts, 2) if len(parts) > 1 else parts[0]
            return self.proj(seen.transpose(1, 2).reshape(-1, after, after, channels))

    return Layer()


def decoder(model: Sam2Model | Sam2VideoModel) -> torch.nn.Module:
    """Features of pictures and prompts about each to four masks a prompt: the single answer, then three proposals.

    ``embeddings [B,256,S/16,S/16]``, ``high_res_s0``, ``high_res_s1``; ``point_coords [B,P,N,2]`` x, y in the frame of
    S pixels; ``point_labels [B,P,N]``: 1 on the object, 0 off it, 2 and 3 corners of a box, -1 no point;
    ``mask_input [B,P,1,S/4,S/4]`` earlier logits and ``has_mask [B,P,1]``, whether they count. Gives
    ``low_res_masks [B,P,4,S/4,S/4]`` logits and ``iou_scores [B,P,4]``. Of a ``Sam2VideoModel`` also
    ``object_scores [B,P,1]`` logits, over 0 where the object is seen, and ``pointers [B,P,4,256]``, what memories keep
    of each mask.
    """
    import torch
    from torch import nn

    prompt, mask = model.prompt_encoder, model.mask_decoder
    video = hasattr(model, "object_pointer_proj")

    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed_points = point_prompts.embedding(
                prompt, float(prompt.input_image_size), prompt.point_embed.weight
            )
            self.embed_mask, self.transformer = prompt.mask_embed, mask.transformer
            self.grow1, self.grow_norm, self.grow2 = mask.upscale_conv1, mask.upscale_layer_norm, mask.upscale_conv2
            self.activation, self.hypernetworks = mask.activation, mask.output_hypernetworks_mlps
            self.iou_head, self.object_head = mask.iou_prediction_head, mask.pred_obj_score_head
            self.register_buffer("no_mask", prompt.no_mask_embed.weight.detach()[..., None, None])
            tokens = mask.obj_score_token.weight, mask.iou_token.weight, mask.mask_tokens.weight
            self.register_buffer("tokens", torch.cat(tokens).detach()[None])
            self.register_buffer("places", model.get_image_wide_positional_embeddings().detach())
            if video:
                self.point_out = model.object_pointer_proj
                self.register_buffer("no_object", model.no_object_pointer.detach())

        def forward(self, embeddings, high_res_s0, high_res_s1, point_coords, point_labels, mask_input, has_mask):
            batch, prompts = point_coords.shape[:2]

            def each(features):  # the picture's features, for each of its prompts
                return features[:, None].expand(-1, prompts, -1, -1, -1).flatten(0, 1)

            points = self.embed_points(point_coords, point_labels).flatten(0, 1)
            tokens = torch.cat([self.tokens.expand(points.shape[0], -1, -1), points], 1)[:, None]
            earlier = self.embed_mask(mask_input.flatten(0, 1))
            dense = torch.where(has_mask.flatten(0, 1)[..., None, None] > 0.5, earlier, self.no_mask)
            tokens, picture = self.transformer(tokens, each(embeddings) + dense, self.places, None)
            tokens = tokens[:, 0]
            size, channels = embeddings.shape[-1], embeddings.shape[1]
            picture = picture.transpose(2, 3).reshape(-1, channels, size, size)
            picture = self.activation(self.grow_norm(self.grow1(picture) + each(high_res_s1)))
            picture = self.activation(self.grow2(picture) + each(high_res_s0)).flatten(2)
            count = len(self.hypernetworks)
            weights = torch.stack([net(tokens[:, 2 + i]) for i, net in enumerate(self.hypernetworks)], 1)
            masks = (weights @ picture).reshape(batch, prompts, count, 4 * size, 4 * size)
            scores = self.iou_head(tokens[:, 1]).reshape(batch, prompts, count)
            if not video:
                return masks, scores
            seen = self.object_head(tokens[:, 0])
            pointers = self.point_out(tokens[:, 2 : 2 + count])
            pointers = torch.where(seen[..., None] > 0, pointers, self.no_object)
            return masks, scores, seen.reshape(batch, prompts, 1), pointers.reshape(batch, prompts, count, channels)

    return Decoder()
