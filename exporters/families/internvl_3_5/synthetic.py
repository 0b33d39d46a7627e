"""InternVL with random weights whose answers depend on the picture, and its processor around a small tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tritonvision.exporters.families.internvl_3_5 import configs
from tritonvision.exporters.libraries import transformers_weights
from tritonvision.exporters.modules.normalise import MEAN, STD
from tritonvision.exporters.synthetic import calibrate, chat
from tritonvision.exporters.synthetic.tokenizers import byte_pairs
from tritonvision.python_backend.vlm import internvl

if TYPE_CHECKING:
    from transformers import InternVLConfig, InternVLForConditionalGeneration, InternVLProcessor

_PLACES = 0.3  # of random weights: share of a patch's embedding that is its position
_TILES = 13  # of a picture


def random(config: InternVLConfig, seed: int) -> tuple[InternVLForConditionalGeneration, InternVLProcessor]:
    """The true architecture with random weights whose answers vary from token to token and depend on the picture.

    Its tokenizer has a small vocabulary; no other tokens are generated.
    """
    import torch
    from transformers import InternVLForConditionalGeneration

    made = random_processor(config)
    model = transformers_weights.random(InternVLForConditionalGeneration, config, seed)
    said = sorted(set(made.tokenizer.get_vocab().values()) - set(configs.SPECIAL.values()))
    side = config.vision_config.image_size[0]
    pictures = torch.from_numpy(calibrate.structured_pictures(4, side, side, seed)).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    with torch.no_grad():
        model.model.vision_tower.embeddings.position_embeddings.mul_(_PLACES)
    chat.tune(
        lambda images: model.get_image_features(images, return_dict=True).pooler_output,
        model.model.multi_modal_projector.linear_2, model.model.language_model, model.lm_head,
        (pictures - mean) / std, said, _TILES, seed,
    )  # fmt: skip
    return model, made


def random_processor(config: InternVLConfig) -> InternVLProcessor:
    """The true processor around a small tokenizer: true special tokens at their true ids."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(byte_pairs.byte_pairs(configs.SPECIAL)), eos_token=internvl.END,
        pad_token=configs.PADDING, extra_special_tokens={
            "start_image_token": internvl.OPEN, "end_image_token": internvl.CLOSE,
            "context_image_token": internvl.PICTURE, "video_token": configs.VIDEO,
        },
    )  # fmt: skip
    side = config.vision_config.image_size[0]
    images = GotOcr2ImageProcessorPil(size={"height": side, "width": side}, image_mean=list(MEAN), image_std=list(STD))
    return configs.processor(tokenizer, images, config)
