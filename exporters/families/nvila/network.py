"""NVILA's network, of transformers' SigLIP and Qwen2: neither library has it.

Written from the facts of VILA's code (mlp_downsample_2x2_fix and 3x3_fix, dynamic S2) and of the layout in which the
checkpoints for Hugging Face are. Torch is imported here: only functions of the family import this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import (
    GenerationMixin,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    SiglipVisionConfig,
    SiglipVisionModel,
)
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.core_model_loading import WeightRenaming

from tritonvision.exporters.families.nvila import merging
from tritonvision.exporters.modules.pixel_shuffle import shuffled

KIND = "nvila"


class NVILAConfig(PreTrainedConfig):
    """``architectures`` tells whether pictures are read at several scales, see :class:`NVILA`."""

    model_type = KIND
    sub_configs_defaults = {"text_config": Qwen2Config, "vision_config": SiglipVisionConfig}

    text_config: Any = None
    vision_config: Any = None
    image_token_id: int = -1
    video_token_id: int = -1
    tie_word_embeddings: bool = False


class Downsample(nn.Module):
    """Squares of ``ratio`` x ``ratio`` patches become one token each."""

    def __init__(self, side: int, width: int, ratio: int):
        super().__init__()
        self.side, self.width, self.ratio = side, width, ratio

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """``[n,side^2,width]`` to ``[n,ceil(side/ratio)^2,ratio^2*width]``."""
        patches = features.reshape(-1, self.side, self.side, self.width)
        return shuffled(patches, self.side, self.width, self.ratio)


class NVILAModel(PreTrainedModel, GenerationMixin):
    """The tower, the projector and the language model.

    Attributes:
        scales: at which a picture is read; their patches are merged before the projector.
        ratio: patches across a token.
    """

    config_class = NVILAConfig
    _supports_sdpa = True
    scales: int
    ratio: int

    def __init__(self, config: NVILAConfig):
        super().__init__(config)
        vision, hidden = config.vision_config, config.text_config.hidden_size
        self.vision_tower = SiglipVisionModel(vision)
        self.llm = Qwen2ForCausalLM(config.text_config)
        self.side, self.width = vision.image_size // vision.patch_size, self.scales * vision.hidden_size
        self.mm_projector = nn.Module()
        self.mm_projector.layers = nn.Sequential(
            Downsample(self.side, self.width, self.ratio), *self._projection(self.width * self.ratio**2, hidden)
        )
        self.post_init()

    def _projection(self, wide: int, hidden: int) -> list[nn.Module]:
        raise NotImplementedError

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised ``[n,3,side,side]`` to the patches before the tower's last layer, ``[n,patches^2,width]``."""
        return self.vision_tower(images, output_hidden_states=True).hidden_states[-2]

    def project(self, features: torch.Tensor) -> torch.Tensor:
        """Blocks of merged patches to the embeddings of their tokens ``[n,tokens,H]``."""
        return self.mm_projector.layers(features)

    def embeddings(self, images: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        """Of one picture ``[tokens,H]``, from its tiles, normalised ``[n,3,side,side]``, and its rows and columns."""
        features = self.features(images)
        if self.scales == 1:
            return self.project(features).flatten(0, 1)
        if len(images) == 1:  # one view is that of every scale
            blocks = features.repeat(1, 1, self.scales)
        else:
            squares = [(n, n) for n in range(1, self.scales)]
            blocks = merging.merged(features, [*squares, grid], self.side)
        return merging.joined(self.project(blocks), *grid)[0].flatten(1).T

    @torch.inference_mode()
    def generate(self, input_ids: torch.Tensor, pictures: Sequence[Any] = (), **settings: Any) -> torch.Tensor:
        """The prompt and what is written behind it, int64 ``[1,S]``.

        Args:
            input_ids: int64 ``[1,S]``, with a token of the picture for each of its embeddings.
            pictures: of each its tiles, normalised ``[n,3,side,side]``, and its rows and columns.
        """
        embeds = self.llm.get_input_embeddings()(input_ids)
        if pictures:
            rows = [self.embeddings(*picture) for picture in pictures]
            embeds[input_ids == self.config.image_token_id] = torch.cat(rows)
        written = self.llm.generate(inputs_embeds=embeds, attention_mask=torch.ones_like(input_ids), **settings)
        return torch.cat([input_ids, written], 1)

    def get_input_embeddings(self) -> nn.Module:
        """Of the language model."""
        return self.llm.get_input_embeddings()


class NVILAForConditionalGeneration(NVILAModel):
    """Three scales, merged (dynamic S2)."""

    scales, ratio = 3, 2

    def _projection(self, wide: int, hidden: int) -> list[nn.Module]:
        return [nn.LayerNorm(wide), nn.Linear(wide, hidden), nn.GELU(), nn.Linear(hidden, hidden)]


class NVILALiteForConditionalGeneration(NVILAModel):
    """One scale, and fewer tokens."""

    scales, ratio = 1, 3

    def _projection(self, wide: int, hidden: int) -> list[nn.Module]:
        narrow = 3 * self.width
        return [
            nn.LayerNorm(wide), nn.Linear(wide, narrow), nn.GELU(), nn.LayerNorm(narrow), nn.Linear(narrow, hidden),
            nn.GELU(), nn.Linear(hidden, hidden),
        ]  # fmt: skip


CLASSES = {cls.__name__: cls for cls in (NVILAForConditionalGeneration, NVILALiteForConditionalGeneration)}


class AnyNVILA:
    """Loads the one of the two that a folder's config.json names."""

    @classmethod
    def from_pretrained(cls, folder: Any, **options: Any) -> Any:
        """As the library's; raises KeyError where the folder is of another architecture."""
        (architecture,) = NVILAConfig.from_pretrained(folder, local_files_only=True).architectures or [""]
        return CLASSES[architecture].from_pretrained(folder, **options)


register_checkpoint_conversion_mapping(
    KIND, [WeightRenaming(r"^vision_tower\.vision_model\.", "vision_tower.")], overwrite=True
)
