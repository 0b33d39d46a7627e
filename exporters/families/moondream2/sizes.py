"""The sizes of Moondream2, for environments without torch, too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import SimpleNamespace
from typing import Any

from tritonvision.python_backend.vlm.moondream2 import BINS


@dataclass(frozen=True)
class Config:
    """Sizes, as released; the names are those of the released ``config.json`` with their section before them."""

    text_dim: int = 2048
    text_ff_dim: int = 8192
    text_n_layers: int = 24
    text_vocab_size: int = 51200
    text_max_context: int = 2048
    text_n_heads: int = 32
    text_n_kv_heads: int = 32
    vision_enc_dim: int = 1152
    vision_enc_patch_size: int = 14
    vision_enc_n_layers: int = 27
    vision_enc_ff_dim: int = 4304
    vision_enc_n_heads: int = 16
    vision_crop_size: int = 378
    vision_max_crops: int = 12
    vision_overlap_margin: int = 4
    vision_proj_inner_dim: int = 8192
    region_coord_feat_dim: int = 256
    region_size_feat_dim: int = 512
    region_inner_dim: int = 8192

    @classmethod
    def of(cls, released: Mapping[str, Any]) -> Config:
        """Of a released ``config.json``'s sections; what it does not say is as released."""
        flat = {f"{section}_{name}": value for section in ("text", "vision", "region")
                for name, value in dict(released.get(section) or {}).items()}  # fmt: skip
        return cls(**{field.name: flat[field.name] for field in fields(cls) if field.name in flat})

    @property
    def grid(self) -> int:
        """Patches along an edge of a crop."""
        return self.vision_crop_size // self.vision_enc_patch_size

    @property
    def decoder(self) -> SimpleNamespace:
        """The text model as :mod:`causal_decoder` names its sizes; logits of places are behind those of words."""
        return SimpleNamespace(
            hidden_size=self.text_dim, num_hidden_layers=self.text_n_layers, num_attention_heads=self.text_n_heads,
            num_key_value_heads=self.text_n_kv_heads, head_dim=self.text_dim // self.text_n_heads,
            vocab_size=self.text_vocab_size + 3 * BINS,
        )  # fmt: skip


RELEASED = Config()
# Every part at a size for tests: 5 x 5 patches, of which the neighbours of a crop have a margin of one in common.
REDUCED = Config(
    text_dim=32, text_ff_dim=48, text_n_layers=3, text_vocab_size=1088, text_max_context=512, text_n_heads=2,
    text_n_kv_heads=2, vision_enc_dim=32, vision_enc_n_layers=2, vision_enc_ff_dim=48, vision_enc_n_heads=2,
    vision_crop_size=70, vision_overlap_margin=1, vision_proj_inner_dim=48, region_coord_feat_dim=16,
    region_size_feat_dim=32, region_inner_dim=48,
)  # fmt: skip
