"""The vision networks of Qwen2.5-VL and Qwen3-VL over patches, with the library's own weights and layers.

transformers computes inside the network where patches lie and which of them share a window, in loops over the pictures
that no graph holds. Here these are inputs, which :mod:`tritonvision.python_backend.vlm.qwen_vl` computes. All pictures
of a batch have the same number of patches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def windowed(visual: PreTrainedModel, mean: Sequence[float], std: Sequence[float]) -> torch.nn.Module:
    """Qwen2.5-VL's: most layers attend within windows, the others to all of a picture.

    The module takes ``pixels`` uint8 ``[B,W,L,P]``, ``position_ids`` int64 ``[B,W,L,2]`` (-1 at what fills a window up,
    which nothing attends to) and ``order`` int64 ``[B,U]``, and gives ``image_embeds`` float32 ``[B,U,H]``.
    """
    import torch

    embed, count = _patches(visual, mean, std), visual.config.hidden_size

    class Vision(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.visual, self.embed = visual, embed

        def forward(self, pixels, position_ids, order):
            batch, length = pixels.shape[0], pixels.shape[2]
            hidden, places = self.embed(pixels).flatten(0, 1), position_ids.flatten(0, 1)
            turns = _turns(visual, places)
            masked = torch.where(places[..., 0] >= 0, 0.0, torch.finfo(torch.float32).min)
            whole_turns = tuple(turn.reshape(batch, -1, turn.shape[-1]) for turn in turns)
            whole_mask = masked.reshape(batch, 1, -1)
            for number, block in enumerate(self.visual.blocks):
                if number in visual.fullatt_block_indexes:
                    hidden = _block(block, hidden.reshape(batch, -1, count), whole_turns, whole_mask, _one_head_a_time)
                else:
                    hidden = _block(block, hidden.reshape(-1, length, count), turns, masked[:, None], _attend)
            units = self.visual.merger(hidden.reshape(-1, count))
            begins = torch.arange(batch)[:, None] * (units.shape[0] // batch)
            return units[order + begins]

    return Vision()


def whole(visual: PreTrainedModel, mean: Sequence[float], std: Sequence[float]) -> torch.nn.Module:
    """Qwen3-VL's: every layer attends to all of a picture; learned positions lie between those of a table.

    The module takes ``pixels`` uint8 ``[B,N,P]``, ``position_ids`` int64 ``[B,N,2]``, ``table_ids`` int64 and
    ``table_weights`` float32 ``[B,N,4]``, and gives ``image_embeds`` and, of each layer with a merger of its own,
    ``deepstack.N.embeds``, float32 ``[B,U,H]``.
    """
    import torch

    embed = _patches(visual, mean, std)
    deep = list(visual.deepstack_visual_indexes)

    class Vision(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.visual, self.embed = visual, embed

        def forward(self, pixels, position_ids, table_ids, table_weights):
            hidden = self.embed(pixels)
            hidden = hidden + (self.visual.pos_embed(table_ids) * table_weights[..., None]).sum(2)
            turns, found = _turns(visual, position_ids), []
            for number, block in enumerate(self.visual.blocks):
                hidden = _block(block, hidden, turns, None, _one_head_a_time)
                if number in deep:
                    found.append(_merged(self.visual.deepstack_merger_list[deep.index(number)], hidden))
            return _merged(self.visual.merger, hidden), *found

    return Vision()


def _merged(merger: torch.nn.Module, hidden: torch.Tensor) -> torch.Tensor:
    """Patches ``[B,N,C]`` to units ``[B,U,H]``, as Qwen3-VL's mergers do it for one picture."""
    after, units = merger.use_postshuffle_norm, (hidden.shape[0], -1, merger.hidden_size)
    rows = merger.norm(hidden.reshape(*units)) if after else merger.norm(hidden).reshape(*units)
    return merger.linear_fc2(merger.act_fn(merger.linear_fc1(rows)))


def _patches(visual: PreTrainedModel, mean: Sequence[float], std: Sequence[float]) -> torch.nn.Module:
    """Patches uint8 ``[...,height x width x 3]`` of one time to their embeddings.

    The network's kernel spans two frames; those of a picture are equal, so its two halves are added up.
    """
    import torch

    proj = visual.patch_embed.proj
    with torch.no_grad():
        both = proj.weight.sum(2).permute(0, 2, 3, 1).flatten(1)
    repeats = both.shape[1] // len(mean)

    class Patches(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("kernel", both.contiguous())
            self.register_buffer("bias", None if proj.bias is None else proj.bias.detach().clone())
            self.register_buffer("mean", torch.tensor(mean).repeat(repeats))
            self.register_buffer("std", torch.tensor(std).repeat(repeats))

        def forward(self, pixels):
            seen = (pixels.float() / 255 - self.mean) / self.std
            return torch.nn.functional.linear(seen, self.kernel, self.bias)

    return Patches()


def _turns(visual: PreTrainedModel, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines ``[...,D]`` by which heads are turned at ``places`` int64 ``[...,2]``, rows and columns."""
    import torch

    angles = (places[..., None].float() * visual.rotary_pos_emb.inv_freq).flatten(-2)
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


def _block(
    block: torch.nn.Module, hidden: torch.Tensor, turns: tuple[torch.Tensor, torch.Tensor], mask: torch.Tensor | None,
    attend: Callable[..., Any],
) -> torch.Tensor:  # fmt: skip
    """One layer on ``hidden`` float32 ``[R,L,C]``; ``mask`` ``[R,1,L]`` is added to the scores of the keys."""
    attention = block.attn
    rows, length, _ = hidden.shape
    parts = attention.qkv(block.norm1(hidden)).reshape(rows, length, 3, attention.num_heads, attention.head_dim)
    query, key, value = (part.transpose(1, 2) for part in parts.unbind(2))  # [R,heads,L,D]
    read = attend(_turned(query, turns) * attention.scaling, _turned(key, turns), value, mask)
    hidden = hidden + attention.proj(read.transpose(1, 2).reshape(rows, length, -1))
    return hidden + block.mlp(block.norm2(hidden))


def _turned(heads: torch.Tensor, turns: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    import torch

    cos, sin = (turn[:, None] for turn in turns)
    first, second = heads.chunk(2, dim=-1)
    return heads * cos + torch.cat([-second, first], dim=-1) * sin


def _attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """All heads in one product, ``[R,heads,L,D]``."""
    scores = query @ key.transpose(-1, -2)
    if mask is not None:
        scores = scores + mask[:, None]
    return scores.softmax(-1) @ value


def _one_head_a_time(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    """The same, head by head: the scores of L patches are L x L numbers, and those of one head are held at once."""
    import torch

    each = zip(query.unbind(1), key.unbind(1), value.unbind(1), strict=True)
    read = []
    for one, keys, values in each:
        scores = one @ keys.transpose(-1, -2)
        read.append((scores if mask is None else scores + mask).softmax(-1) @ values)
    return torch.stack(read, dim=1)
