"""NVILA with random weights whose answers depend on the picture, and its processor around a small tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tritonvision.exporters.families.nvila import configs
from tritonvision.exporters.libraries import transformers_weights
from tritonvision.exporters.synthetic import calibrate, chat
from tritonvision.exporters.synthetic.tokenizers import byte_pairs
from tritonvision.python_backend.vlm import nvila

if TYPE_CHECKING:
    from tritonvision.exporters.families.nvila.network import NVILAConfig, NVILAModel
    from tritonvision.exporters.families.nvila.reference import Processor

_PLACES = 0.3  # of random weights: share of a patch's embedding that is its position
_TILES = 12  # of a picture


def random(config: NVILAConfig, seed: int) -> tuple[NVILAModel, Processor]:
    """The true architecture with random weights whose answers vary from token to token and depend on the picture.

    Its tokenizer has a small vocabulary; no other tokens are generated.
    """
    import torch
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    from tritonvision.exporters.families.nvila.network import CLASSES

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(byte_pairs.byte_pairs(configs.SPECIAL)), eos_token=nvila.END,
        pad_token=configs.PADDING,
    )  # fmt: skip
    side = config.vision_config.image_size
    images = SiglipImageProcessorPil(size={"height": side, "width": side}, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    (architecture,) = config.architectures
    model = transformers_weights.random(CLASSES[architecture], config, seed)
    said = sorted(set(tokenizer.get_vocab().values()) - set(configs.SPECIAL.values()))
    pictures = torch.from_numpy(calibrate.structured_pictures(4, side, side, seed)).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        model.vision_tower.embeddings.position_embedding.weight.mul_(_PLACES)
    chat.tune(
        lambda tiles: model.project(model.features(tiles).repeat(1, 1, model.scales)), model.mm_projector.layers[-1],
        model.llm.model, model.llm.lm_head, pictures, said, _TILES, seed,
    )  # fmt: skip
    return model, processor(tokenizer, images, model)


def processor(tokenizer: Any, images: Any, model: NVILAModel) -> Processor:
    """The reference's processor, with VILA's chat template where the tokenizer brings none."""
    from tritonvision.exporters.families.nvila import reference

    tokenizer.chat_template = tokenizer.chat_template or reference.TEMPLATE
    return reference.Processor(tokenizer, images, model.scales, (-(-model.side // model.ratio)) ** 2)
