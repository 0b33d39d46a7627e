"""NVILA's sizes, special tokens and entry point; all of them are to be checked against a released checkpoint."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from tritonvision.ensembles.entry_points import Chat, Net
from tritonvision.ensembles.tensors import Tensor
from tritonvision.exporters.libraries import torch_env
from tritonvision.exporters.modules import causal_decoder
from tritonvision.python_backend.vlm import nvila

if TYPE_CHECKING:
    from tritonvision.exporters.families.nvila.network import NVILAConfig

LITE, MERGED = "NVILALiteForConditionalGeneration", "NVILAForConditionalGeneration"
_KINDS = {LITE: (1, 3), MERGED: (3, 2)}  # scales, and patches across a token
_TEXT = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size")
_VISION = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "image_size", "patch_size")
_SO400M = (1152, 27, 16, 4304, 448, 14)
_REDUCED = (32, 3, 4, 64, 64, 8)  # 8 patches across: 3 x 3 squares of them need padding
# Sizes by id: of the language model (Qwen2), of the vision tower (SigLIP), and of which kind it is.
_SIZES: dict[str, tuple[tuple[int, ...], tuple[int, ...], str]] = {
    "nvila": ((3584, 28, 28, 4, 18944), _SO400M, MERGED),
    "nvila-lite-8b": ((3584, 28, 28, 4, 18944), _SO400M, LITE),
    "nvila-lite-2b": ((1536, 28, 12, 2, 8960), _SO400M, LITE),
    "reduced": ((48, 3, 6, 2, 96), _REDUCED, MERGED),
    "reduced-lite": ((48, 3, 6, 2, 96), _REDUCED, LITE),
}
PADDING = "<|endoftext|>"
SPECIAL = {
    PADDING: 151_643, nvila.START: 151_644, nvila.END: 151_645, "[BOS]": 151_646, "[PAD]": 151_647,
    "<vila/sentinel>": 151_648, nvila.PICTURE: 151_649, "<vila/video>": 151_650,
}  # fmt: skip


def config(name: str) -> NVILAConfig:
    """The configuration of an id, or of a reduced size, which has every part at a size for tests."""
    torch_env.import_torchvision()
    from transformers import Qwen2Config, SiglipVisionConfig

    from tritonvision.exporters.families.nvila.network import NVILAConfig

    facts = plain(name)
    text = Qwen2Config(
        rope_parameters={"rope_type": "default", "rope_theta": 1e6}, bos_token_id=SPECIAL[PADDING],
        eos_token_id=SPECIAL[nvila.END], pad_token_id=SPECIAL[PADDING], tie_word_embeddings=False,
        **vars(facts.text_config),
    )  # fmt: skip
    return NVILAConfig(
        text_config=text, vision_config=SiglipVisionConfig(vision_use_head=False, **vars(facts.vision_config)),
        image_token_id=facts.image_token_id, architectures=facts.architectures,
    )  # fmt: skip


def plain(name: str) -> SimpleNamespace:
    """The fields of a configuration that :func:`point` reads, for environments without transformers."""
    text, vision, kind = _SIZES[name]
    known: dict[str, Any] = {"vocab_size": 151_651, "max_position_embeddings": 32_768}
    return SimpleNamespace(
        text_config=SimpleNamespace(**dict(zip(_TEXT, text, strict=True)), **known),
        vision_config=SimpleNamespace(**dict(zip(_VISION, vision, strict=True))),
        image_token_id=SPECIAL[nvila.PICTURE], architectures=[kind],
    )  # fmt: skip


def point(config: NVILAConfig | SimpleNamespace, ends: list[int] | None = None) -> Chat:
    """The entry point of a network with that configuration; what it does not contain is as released."""
    text, vision = config.text_config, config.vision_config
    side, patches = vision.image_size, vision.image_size // vision.patch_size
    (kind,) = config.architectures
    scales, shuffle = _KINDS[kind]
    tokens = (-(-patches // shuffle)) ** 2
    if scales == 1:
        given: tuple[Tensor, ...] = (Tensor("pixels", "UINT8", (side, side, 3)),)
        embeds = Tensor("image_embeds", "FP32", (tokens, text.hidden_size))
    else:
        given = (
            Tensor("pixels", "UINT8", (-1, side, side, 3)), Tensor("places", "INT64", (-1, patches**2, 4 * scales)),
            Tensor("order", "INT64", (-1,)),
        )  # fmt: skip
        embeds = Tensor("image_embeds", "FP32", (-1, text.hidden_size))
    nets = Net("vision", given, (embeds,), 1), causal_decoder.embed_net(text), causal_decoder.decoder_net(text)
    options = {
        "tile": side, "patches": patches, "shuffle": shuffle, "scales": scales, "image_token": config.image_token_id,
        "end_ids": tuple(ends or [SPECIAL[nvila.END]]), "context": text.max_position_embeddings,
    }  # fmt: skip
    return Chat("nvila", nets, tuple(sorted(options.items())), (side, side))
