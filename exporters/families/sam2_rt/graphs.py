"""What SAM2 needs besides encoder and decoder to follow objects: reading memories of frames, and making them.

Both graphs are written around the parts of transformers' ``Sam2VideoModel``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tritonvision.errors import ExportFailed

if TYPE_CHECKING:
    import torch
    from transformers import Sam2VideoModel

_ROWS = 512  # positions whose attention to all memories is computed at once: all of them would take half a gigabyte


def attention(model: Sam2VideoModel) -> torch.nn.Module:
    """A frame's coarse features as they are seen through memories of one object.

    ``embeddings [B,256,s,s]`` of the encoder; ``memories [B,M,64,s,s]`` and ``memory_ages`` int64 ``[B,M]``, rows of
    the table of ages: 0 of the frame before, ... and the last row of a frame with a prompt; ``pointers [B,K,256]`` and
    ``pointer_ages [B,K]``, frames back. Gives ``conditioned [B,256,s,s]``.
    """
    import torch
    from torch import nn

    config, memory = model.config, model.memory_attention
    size = model.prompt_encoder.image_embedding_size[0]
    width, channels = model.mem_dim, model.hidden_dim
    splits = channels // width

    def places(encoding, count):  # [positions, count]
        return encoding((1, count, size, size), torch.device("cpu"), torch.float32).flatten(2)[0].T.contiguous()

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("no_memory", model.no_memory_embedding.detach().reshape(1, 1, -1))
            self.register_buffer("places", 0.1 * places(model.vision_encoder.neck.position_encoding, channels))
            self.register_buffer("memory_places", places(model.memory_encoder.position_encoding, width))
            self.register_buffer("ages", model.memory_temporal_positional_encoding.detach().reshape(-1, width))
            cos, sin = memory.rotary_emb(torch.zeros(1), memory.position_ids)
            for name, table in (("cos", cos), ("sin", sin)):
                self.register_buffer(name, table.reshape(size * size, -1).contiguous())
            self.layers = nn.ModuleList(_Layer(layer) for layer in memory.layers)
            self.norm = memory.layer_norm
            self.aged = config.enable_temporal_pos_encoding_for_object_pointers
            self.embed_age = model.temporal_positional_encoding_projection_layer
            half = channels // 2
            steps = 10000 ** (2 * (torch.arange(half) // 2) / half)
            self.register_buffer("steps", steps * (config.max_object_pointers_in_encoder - 1))

        def forward(self, embeddings, memories, memory_ages, pointers, pointer_ages):
            hidden = embeddings.flatten(2).transpose(1, 2) - self.no_memory + self.places
            seen = memories.flatten(3).transpose(2, 3)  # [B,M,positions,width]
            seen_places = self.memory_places + self.ages[memory_ages][:, :, None]
            count = pointers.shape[1]
            tokens = pointers.reshape(-1, count * splits, width)
            if self.aged:
                angles = pointer_ages[..., None] / self.steps
                ages = self.embed_age(torch.cat([angles.sin(), angles.cos()], -1))
                aged = tokens + ages[:, :, None].expand(-1, -1, splits, -1).flatten(1, 2)
            else:
                aged = tokens + 0 * pointer_ages.sum()  # an input that no output depends on would be lost
            for layer in self.layers:
                hidden = layer(hidden, seen, seen + seen_places, tokens, aged, self.cos, self.sin)
            return self.norm(hidden).transpose(1, 2).reshape(-1, channels, size, size)

    if config.memory_attention_num_attention_heads != 1:
        raise ExportFailed("These are weights of another SAM2: its memory attention has several heads.")
    with torch.no_grad():
        return Attention()


def _Layer(layer: torch.nn.Module) -> torch.nn.Module:  # noqa: N802 a class, defined inside a function because torch is imported late
    """One layer on ``hidden [B,positions,C]``: attention to itself, to memories and pointers, and a feed-forward."""
    import torch
    from torch import nn

    def rotated(values, cos, sin):  # pairs of channels, by the angles of their position
        pairs = values.reshape(*values.shape[:-1], -1, 2)
        turned = torch.stack([-pairs[..., 1], pairs[..., 0]], -1).flatten(-2)
        return values * cos + turned * sin

    def attended(module, query, key, value):
        parts = [
            ((query[:, first : first + _ROWS] * module.scaling) @ key.transpose(1, 2)).softmax(-1) @ value
            for first in range(0, query.shape[1], _ROWS)
        ]
        return module.o_proj(torch.cat(parts, 1) if len(parts) > 1 else parts[0])

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.norm2, self.norm3 = layer.layer_norm1, layer.layer_norm2, layer.layer_norm3
            self.own, self.other = layer.self_attn, layer.cross_attn_image
            self.widen, self.narrow, self.activation = layer.linear1, layer.linear2, layer.activation

        def forward(self, hidden, seen, keys, tokens, aged, cos, sin):
            normal = self.norm1(hidden)
            query, key = (rotated(project(normal), cos, sin) for project in (self.own.q_proj, self.own.k_proj))
            hidden = hidden + attended(self.own, query, key, self.own.v_proj(normal))
            query = rotated(self.other.q_proj(self.norm2(hidden)), cos, sin)
            key = rotated(self.other.k_proj(keys), cos, sin).flatten(1, 2)
            key = torch.cat([key, self.other.k_proj(aged)], 1)
            value = self.other.v_proj(torch.cat([seen.flatten(1, 2), tokens], 1))
            hidden = hidden + attended(self.other, query, key, value)
            return hidden + self.narrow(self.activation(self.widen(self.norm3(hidden))))

    return Layer()


def memory(model: Sam2VideoModel) -> torch.nn.Module:
    """What is remembered of a frame and a mask on it.

    ``embeddings [B,256,s,s]`` of the encoder; ``mask [B,1,4s,4s]`` logits; ``object_score [B,1]``, the logit of being
    seen; ``prompted [B,1]``, 1 where the mask follows from a prompt and counts as a whole. Gives ``memory [B,64,s,s]``.
    """
    import torch
    from torch import nn
    from torch.nn import functional

    config, encoder = model.config, model.memory_encoder
    scale, bias = config.sigmoid_scale_for_mem_enc, config.sigmoid_bias_for_mem_enc

    class Memory(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("no_memory", model.no_memory_embedding.detach().reshape(1, -1, 1, 1))
            self.shrink, self.project = encoder.mask_downsampler, encoder.feature_projection
            self.fuse, self.narrow = encoder.memory_fuser, encoder.projection
            unseen = model.occlusion_spatial_embedding_parameter
            unseen = torch.zeros(1, model.mem_dim) if unseen is None else unseen.detach()
            self.register_buffer("unseen", unseen.reshape(1, -1, 1, 1))

        def forward(self, embeddings, mask, object_score, prompted):
            large = functional.interpolate(mask, scale_factor=4.0, mode="bilinear", align_corners=False)
            whole = (large > 0).float()
            shown = torch.where(prompted[..., None, None] > 0.5, whole, large.sigmoid()) * scale + bias
            fused = self.fuse(self.project(embeddings - self.no_memory) + self.shrink(shown))
            return self.narrow(fused) + (object_score[..., None, None] <= 0).float() * self.unseen

    return Memory()
