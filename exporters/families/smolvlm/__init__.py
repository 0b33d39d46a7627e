"""SmolVLM: tiles of pictures go through SigLIP and a pixel shuffle into the prompt of SmolLM2, which generates text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from tritonvision.catalog import Entry
from tritonvision.ensembles.entry_points import Chat, Net
from tritonvision.ensembles.tensors import Tensor
from tritonvision.exporters.contract import ReferencePipeline, Tolerance, Weights
from tritonvision.exporters.families.smolvlm import synthetic
from tritonvision.exporters.libraries import torch_env, transformers_chat, transformers_weights
from tritonvision.exporters.libraries.chat_family import TOLERANCES, ChatFamily
from tritonvision.exporters.libraries.chat_network import ChatNetwork, Parts, end_ids
from tritonvision.exporters.modules import causal_decoder
from tritonvision.exporters.synthetic.tokenizers import byte_pairs
from tritonvision.python_backend.vlm import smolvlm

if TYPE_CHECKING:
    import torch
    from transformers import SmolVLMConfig, SmolVLMForConditionalGeneration, SmolVLMProcessor

    from tritonvision.exporters.libraries.transformers_weights import Loaded

# Sizes by id: of the text model (SmolLM2), of the vision model (SigLIP), and the pixel shuffle's factor.
# To be checked against the real config.json; their numbers of parameters are the published ones. ``reduced`` has every
# part at a size for tests.
_BOTH = ("hidden_size", "num_hidden_layers", "num_attention_heads")
_TEXT = (*_BOTH, "num_key_value_heads", "intermediate_size", "rope_theta")
_VISION = (*_BOTH, "intermediate_size", "image_size", "patch_size")
_SIZES = {
    "smolvlm-256m": ((576, 30, 9, 3, 1536, 1e5), (768, 12, 12, 3072, 512, 16), 4),
    "smolvlm-2.2b": ((2048, 24, 32, 32, 8192, 13e4), (1152, 27, 16, 4304, 384, 14), 3),
    "reduced": ((48, 3, 6, 2, 96, 1e5), (64, 2, 4, 128, 64, 8), 2),
}
_REPOSITORIES = {
    "smolvlm-256m": "HuggingFaceTB/SmolVLM2-256M-Video-Instruct", "smolvlm-2.2b": "HuggingFaceTB/SmolVLM2-2.2B-Instruct"
}  # fmt: skip
_TILES_ACROSS = 4  # a picture's longer edge
_PADDING = "<|im_end|>"
# Ids of the special tokens, to be checked against the real tokenizer.json; all others are reserved or text.
SPECIAL = {
    "<|endoftext|>": 0, smolvlm.START: 1, _PADDING: 2, smolvlm.GLOBAL: 49152,
    **{f"<row_{n // 6 + 1}_col_{n % 6 + 1}>": 49153 + n for n in range(36)},
    smolvlm.AROUND: 49189, smolvlm.PICTURE: 49190, smolvlm.END_OF_UTTERANCE: 49279,
}  # fmt: skip


class SmolVLM(ChatFamily):
    """transformers' network and processor; pictures are resized by Pillow."""

    name = "SmolVLM"
    class_name = "SmolVLMForConditionalGeneration"
    tolerance = Tolerance(TOLERANCES)
    reference_pipeline = ReferencePipeline(
        "transformers", "5.23.0",
        "SmolVLMForConditionalGeneration.generate(**SmolVLMProcessor(apply_chat_template(messages), images), "
        "do_sample=False), the processor with SmolVLMImageProcessorPil",
    )  # fmt: skip

    def entry_points(self, entry: Entry) -> tuple[Chat]:
        """One chat model over three graphs."""
        return (_point(_plain(entry.id)),)

    def repository(self, entry: Entry) -> str:
        """See :meth:`TransformersFamily.repository`."""
        return _REPOSITORIES[entry.id]

    def random_network(self, entry: Entry, weights: Weights) -> SmolVLMNetwork:
        """See :meth:`Family.random_network`."""
        return SmolVLMNetwork(*random(config(entry.id), weights.seed))

    def network(self, entry: Entry, weights: Weights, loaded: Loaded) -> SmolVLMNetwork:
        """See :meth:`TransformersFamily.network`. The sizes are those of the user's configuration."""
        assert loaded.folder is not None, "a bare file is refused"
        return SmolVLMNetwork(loaded.module, _processor_of(loaded.folder, loaded.module.config), **loaded.facts)


class SmolVLMNetwork(ChatNetwork):
    """transformers' model and processor."""

    def __init__(
        self, model: SmolVLMForConditionalGeneration, processor: SmolVLMProcessor, source: str = "", **facts: Any
    ):  # fmt: skip
        """``facts`` are further attributes of :class:`Network`."""
        longest = processor.image_processor.size["longest_edge"]
        super().__init__(model, processor, _point(model.config, longest, end_ids(model)), source, **facts)

    def parts(self, model: SmolVLMForConditionalGeneration) -> Parts:
        """See :meth:`ChatNetwork.parts`."""
        return Parts(model.model.vision_model, model.model.text_model, model.lm_head)

    def vision(self) -> torch.nn.Module:
        """See :meth:`ChatNetwork.vision`."""
        return _vision(self._model)

    def image_embeds(self, model: SmolVLMForConditionalGeneration, pixels: torch.Tensor) -> torch.Tensor:
        """See :meth:`ChatNetwork.image_embeds`."""
        (rows,) = model.get_image_features(((pixels - 0.5) / 0.5)[None], return_dict=True).pooler_output
        return rows

    def tiles(self, picture: np.ndarray) -> np.ndarray:
        """See :meth:`ChatNetwork.tiles`."""
        side = self._options["tile"]
        return smolvlm.tiles(picture, 2 * side, side)

    def read(self, sample: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """See :meth:`ChatNetwork.read`."""
        text = self._processor.apply_chat_template(sample["messages"], add_generation_prompt=True)
        images = [Image.fromarray(picture) for picture in sample["pictures"]]
        return dict(self._processor(text=[text], images=[images] if images else None, return_tensors="pt"))


def save_reduced(folder: Path, seed: int = 0) -> None:
    """Write random weights of the reduced size with their processor, which tests publish and serve."""
    SmolVLMNetwork(*random(config("reduced"), seed), f"reduced, seed {seed}").save(folder)


def config(name: str) -> SmolVLMConfig:
    """The configuration of an id, or of ``reduced``, which has every part at a size for tests."""
    torch_env.import_torchvision()
    from transformers import LlamaConfig, SmolVLMConfig
    from transformers.models.smolvlm.configuration_smolvlm import SmolVLMVisionConfig

    plain = _plain(name)
    text = LlamaConfig(
        rms_norm_eps=1e-5, bos_token_id=SPECIAL[smolvlm.START], eos_token_id=SPECIAL[smolvlm.END_OF_UTTERANCE],
        pad_token_id=SPECIAL[_PADDING], **vars(plain.text_config),
    )  # fmt: skip
    return SmolVLMConfig(
        text_config=text, vision_config=SmolVLMVisionConfig(**vars(plain.vision_config)),
        scale_factor=plain.scale_factor, image_token_id=plain.image_token_id, tie_word_embeddings=False,
    )  # fmt: skip


def _plain(name: str) -> SimpleNamespace:
    """The fields of a configuration that :func:`_point` reads, for environments without transformers."""
    text, vision, scale = _SIZES[name]
    known = {"vocab_size": 49280, "max_position_embeddings": 8192}
    return SimpleNamespace(
        text_config=SimpleNamespace(**dict(zip(_TEXT, text, strict=True)), **known),
        vision_config=SimpleNamespace(**dict(zip(_VISION, vision, strict=True))),
        scale_factor=scale, image_token_id=SPECIAL[smolvlm.PICTURE],
    )  # fmt: skip


def _point(config: SmolVLMConfig, longest: int | None = None, ends: list[int] | None = None) -> Chat:
    """The entry point of a network with that configuration; what it does not contain is as released."""
    text, vision = config.text_config, config.vision_config
    side, count = vision.image_size, (vision.image_size // vision.patch_size) ** 2 // config.scale_factor**2
    pixels = Tensor("pixels", "UINT8", (side, side, 3))
    embeds = Tensor("image_embeds", "FP32", (count, text.hidden_size))
    nets = Net("vision", (pixels,), (embeds,), 1), causal_decoder.embed_net(text), causal_decoder.decoder_net(text)
    options = {
        "tile": side, "longest_edge": longest or _TILES_ACROSS * side, "tokens_per_tile": count,
        "image_token": config.image_token_id, "end_ids": tuple(ends or [SPECIAL[smolvlm.END_OF_UTTERANCE]]),
        "context": text.max_position_embeddings,
    }  # fmt: skip
    return Chat("smolvlm", nets, tuple(sorted(options.items())), (side, side))


def _vision(model: SmolVLMForConditionalGeneration) -> torch.nn.Module:
    """Tiles uint8 ``[n,side,side,3]`` RGB to ``image_embeds`` float32 ``[n,tokens,H]``.

    The position ids of a full tile's patches are computed once by the library and are a constant of the graph.
    """
    import torch
    from torch import nn

    vision = model.model.vision_model
    side = model.config.vision_config.image_size
    seen = []
    hook = vision.embeddings.position_embedding.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.inference_mode():
        whole = torch.ones(1, *(2 * [side // model.config.vision_config.patch_size]), dtype=torch.bool)
        vision.embeddings(torch.zeros(1, 3, side, side), whole)
    hook.remove()

    class Vision(nn.Module):
        def __init__(self):
            super().__init__()
            self.vision, self.connector = vision, model.model.connector
            self.register_buffer("places", seen[0].clone())

        def forward(self, pixels):
            images = (pixels.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
            embeddings = self.vision.embeddings
            hidden = embeddings.patch_embedding(images).flatten(2).transpose(1, 2)
            hidden = hidden + embeddings.position_embedding(self.places)
            for layer in self.vision.encoder.layers:
                hidden = layer(hidden, None)
            return self.connector(self.vision.post_layernorm(hidden))

    return Vision()


# ---- weights ---------------------------------------------------------------------------------------------------------


def _processor_of(folder: Path, config: SmolVLMConfig) -> SmolVLMProcessor:
    """The processor that lies beside the weights, resizing with Pillow. Raises ExportFailed."""
    from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil
    from transformers.models.smolvlm.processing_smolvlm import SmolVLMProcessor

    images, tokenizer = transformers_chat.processor_parts(folder, SmolVLMImageProcessorPil)
    with transformers_chat.reading_processor():
        given, _ = SmolVLMProcessor.get_processor_dict(folder, local_files_only=True)
        return _processor(tokenizer, images, config, given.get("chat_template") or tokenizer.chat_template)


def _processor(tokenizer: Any, images: Any, config: SmolVLMConfig, template: str | None = None) -> SmolVLMProcessor:
    from transformers.models.smolvlm.processing_smolvlm import DEFAULT_CHAT_TEMPLATE, SmolVLMProcessor
    from transformers.models.smolvlm.video_processing_smolvlm import SmolVLMVideoProcessor

    tokens = dict(_point(config).options)["tokens_per_tile"]
    template = template or DEFAULT_CHAT_TEMPLATE
    return SmolVLMProcessor(images, tokenizer, SmolVLMVideoProcessor(), image_seq_len=tokens, chat_template=template)


def random(config: SmolVLMConfig, seed: int) -> tuple[SmolVLMForConditionalGeneration, SmolVLMProcessor]:
    """The true architecture with random weights whose answers vary from token to token and depend on the picture.

    Its tokenizer has a small vocabulary; no other tokens are generated.
    """
    from transformers import SmolVLMForConditionalGeneration

    processor = random_processor(config)
    model = transformers_weights.random(SmolVLMForConditionalGeneration, config, seed)
    said = sorted(set(processor.tokenizer.get_vocab().values()) - set(SPECIAL.values()))
    synthetic.calibrate_prompt(model, said, _TILES_ACROSS**2, seed)
    return model, processor


def random_processor(config: SmolVLMConfig) -> SmolVLMProcessor:
    """The true processor around a small tokenizer: true special tokens at their true ids."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast
    from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(byte_pairs.byte_pairs(SPECIAL)), bos_token=smolvlm.START,
        eos_token=smolvlm.END_OF_UTTERANCE, pad_token=_PADDING, unk_token="<|endoftext|>",
    )  # fmt: skip
    options = dict(_point(config).options)
    images = SmolVLMImageProcessorPil(
        size={"longest_edge": options["longest_edge"]}, max_image_size={"longest_edge": options["tile"]},
        image_mean=[0.5] * 3, image_std=[0.5] * 3,
    )  # fmt: skip
    return _processor(tokenizer, images, config)


FAMILY = SmolVLM()
