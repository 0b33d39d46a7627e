"""InternVL 3.5: tiles of pictures go through InternViT and a pixel shuffle into the prompt of Qwen3, which writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tokenizers
from PIL import Image

from tritonvision.catalog import Entry
from tritonvision.ensembles.entry_points import Chat
from tritonvision.ensembles.model_configs import TOKENIZER
from tritonvision.exporters.contract import ReferencePipeline, Weights
from tritonvision.exporters.families.internvl_3_5 import configs, synthetic
from tritonvision.exporters.libraries import transformers_chat
from tritonvision.exporters.libraries.chat_family import ChatFamily
from tritonvision.exporters.libraries.chat_network import ChatNetwork, Parts, end_ids
from tritonvision.exporters.modules import pixel_shuffle
from tritonvision.python_backend.vlm import internvl, tiles

if TYPE_CHECKING:
    import torch
    from transformers import (
        InternVLConfig,
        InternVLForConditionalGeneration,
        InternVLProcessor,
        PreTrainedTokenizerBase,
    )

    from tritonvision.exporters.libraries.transformers_weights import Loaded


class InternVL(ChatFamily):
    """transformers' network and processor; pictures are resized by Pillow."""

    name = "InternVL 3.5"
    class_name = "InternVLForConditionalGeneration"
    engine_only = frozenset({"internvl3.5-38b"})
    reference_pipeline = ReferencePipeline(
        "transformers", "5.23.0",
        "InternVLForConditionalGeneration.generate(**InternVLProcessor(apply_chat_template(messages), images), "
        "do_sample=False), the processor with GotOcr2ImageProcessorPil",
    )  # fmt: skip

    def entry_points(self, entry: Entry) -> tuple[Chat]:
        """One chat model over three graphs."""
        return (configs.point(configs.plain(entry.id)),)

    def repository(self, entry: Entry) -> str:
        """See :meth:`TransformersFamily.repository`."""
        size = entry.id.removeprefix("internvl3.5").removeprefix("-") or "8b"
        return f"OpenGVLab/InternVL3_5-{size.upper()}-HF"

    def random_network(self, entry: Entry, weights: Weights) -> InternVLNetwork:
        """See :meth:`Family.random_network`."""
        return InternVLNetwork(*synthetic.random(configs.config(entry.id), weights.seed))

    def network(self, entry: Entry, weights: Weights, loaded: Loaded) -> InternVLNetwork:
        """See :meth:`TransformersFamily.network`. The sizes are those of the user's configuration."""
        assert loaded.folder is not None, "a bare file is refused"
        return InternVLNetwork(loaded.module, _processor_of(loaded.folder, loaded.module.config), **loaded.facts)


class InternVLNetwork(ChatNetwork):
    """transformers' model and processor."""

    def __init__(
        self, model: InternVLForConditionalGeneration, processor: InternVLProcessor, source: str = "", **facts: Any
    ):  # fmt: skip
        """``facts`` are further attributes of :class:`Network`."""
        from transformers import PreTrainedTokenizerFast

        pictures = processor.image_processor
        point = configs.point(model.config, (pictures.min_patches, pictures.max_patches), end_ids(model))
        super().__init__(model, processor, point, source, **facts)
        self._mean, self._std = pictures.image_mean, pictures.image_std
        served = tokenizers.Tokenizer.from_str(self.assets("")[TOKENIZER].decode())
        self._words = PreTrainedTokenizerFast(tokenizer_object=served)

    def parts(self, model: InternVLForConditionalGeneration) -> Parts:
        """See :meth:`ChatNetwork.parts`."""
        return Parts(model.model.vision_tower, model.model.language_model, model.lm_head)

    def vision(self) -> torch.nn.Module:
        """See :meth:`ChatNetwork.vision`."""
        return vision(self._model, self._mean, self._std)

    def image_embeds(self, model: InternVLForConditionalGeneration, pixels: torch.Tensor) -> torch.Tensor:
        """See :meth:`ChatNetwork.image_embeds`."""
        mean, std = (pixels.new_tensor(values).view(3, 1, 1) for values in (self._mean, self._std))
        return model.get_image_features((pixels - mean) / std, return_dict=True).pooler_output

    def tiles(self, picture: np.ndarray) -> np.ndarray:
        """See :meth:`ChatNetwork.tiles`."""
        return tiles.cut(picture, self._options["tile"], 1, 2)

    def read(self, sample: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """See :meth:`ChatNetwork.read`."""
        text = self._processor.apply_chat_template(sample["messages"], add_generation_prompt=True)
        images = [Image.fromarray(picture) for picture in sample["pictures"]]
        return dict(self._processor(text=[text], images=images or None, return_tensors="pt"))

    @property
    def words(self) -> PreTrainedTokenizerBase:
        """See :attr:`ChatNetwork.words`: the marks of places stay."""
        return self._words

    def assets(self, role: str) -> dict[str, bytes]:
        """See :meth:`Network.assets`: the tokenizer, to which the marks of places are words as others are."""
        (text,) = super().assets(role).values()
        file = json.loads(text)
        for token in file["added_tokens"]:
            token["special"] &= token["content"] not in internvl.MARKS
        return {TOKENIZER: json.dumps(file, ensure_ascii=False).encode()}


def save_reduced(folder: Path, seed: int = 0) -> None:
    """Write random weights of the reduced size with their processor, which tests publish and serve."""
    InternVLNetwork(*synthetic.random(configs.config("reduced"), seed), f"reduced, seed {seed}").save(folder)


def vision(model: InternVLForConditionalGeneration, mean: list[float], std: list[float]) -> torch.nn.Module:
    """Tiles uint8 ``[n,side,side,3]`` RGB to ``image_embeds`` float32 ``[n,tokens,H]``.

    The embeddings of positions are added as they are: the library would interpolate them, to the same size.
    """
    import torch
    from torch import nn

    tower, ratio = model.model.vision_tower, round(1 / model.config.downsample_ratio)
    sizes = model.config.vision_config
    side, width = sizes.image_size[0] // sizes.patch_size[0], sizes.hidden_size

    class Vision(nn.Module):
        def __init__(self):
            super().__init__()
            self.tower, self.projector = tower, model.model.multi_modal_projector
            self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
            self.register_buffer("std", torch.tensor(std).view(3, 1, 1))

        def forward(self, pixels):
            images = (pixels.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std
            embeddings = self.tower.embeddings
            hidden = embeddings.patch_embeddings(images)
            hidden = torch.cat([embeddings.cls_token.expand(images.shape[0], -1, -1), hidden], 1)
            hidden = hidden + embeddings.position_embeddings
            for layer in self.tower.encoder.layer:
                hidden = layer(hidden)
            patches = self.tower.layernorm(hidden)[:, 1:].reshape(-1, side, side, width)
            return self.projector(pixel_shuffle.shuffled(patches, side, width, ratio))

    return Vision()


def _processor_of(folder: Path, config: InternVLConfig) -> InternVLProcessor:
    """The processor that lies beside the weights, resizing with Pillow. Raises ExportFailed."""
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
    from transformers.models.internvl.processing_internvl import InternVLProcessor

    images, tokenizer = transformers_chat.processor_parts(folder, GotOcr2ImageProcessorPil)
    with transformers_chat.reading_processor():
        given, _ = InternVLProcessor.get_processor_dict(folder, local_files_only=True)
        return configs.processor(tokenizer, images, config, given.get("chat_template") or tokenizer.chat_template)


FAMILY = InternVL()
