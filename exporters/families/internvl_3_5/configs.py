"""InternVL's sizes, special tokens and processor, as they were released."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from tritonvision.ensembles.entry_points import Chat, Net
from tritonvision.ensembles.tensors import Tensor
from tritonvision.exporters.libraries import torch_env
from tritonvision.exporters.modules import causal_decoder
from tritonvision.python_backend.vlm import internvl

if TYPE_CHECKING:
    from transformers import InternVLConfig, InternVLProcessor

# Sizes by id: of the text model (Qwen3), and which of the vision models. To be checked against the real config.json;
# the number of parameters of the smallest is the published one, those of the others are within a hundredth.
_TEXT = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size")
_SIZES = {
    "internvl3.5-1b": ((1024, 28, 16, 8, 3072), "300m"),
    "internvl3.5-2b": ((2048, 28, 16, 8, 6144), "300m"),
    "internvl3.5-4b": ((2560, 36, 32, 8, 9728), "300m"),
    "internvl3.5": ((4096, 36, 32, 8, 12288), "300m"),
    "internvl3.5-14b": ((5120, 40, 40, 8, 17408), "300m"),
    "internvl3.5-38b": ((5120, 64, 64, 8, 25600), "6b"),
    "reduced": ((48, 3, 6, 2, 96), "reduced"),
}
_VISION = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "image_size", "patch_size")
# InternViT; the larger one has no biases in its attention, and normalises by the root mean square.
_TOWERS: dict[str, dict[str, Any]] = {
    "300m": dict(zip(_VISION, (1024, 24, 16, 4096, 448, 14), strict=True)) | {"attention_bias": True},
    "6b": dict(zip(_VISION, (3200, 45, 25, 12800, 448, 14), strict=True))
    | {"use_qk_norm": True, "norm_type": "rms_norm"},
    "reduced": dict(zip(_VISION, (64, 2, 4, 128, 64, 8), strict=True)) | {"attention_bias": True},
}  # fmt: skip
_HEAD_SIZE, _REDUCED_HEAD_SIZE = 128, 12
_SHUFFLE = 2  # patches across that become one token
_LEAST, _MOST = 1, 12  # tiles of a picture, without the whole of it
_CONTEXT = 40_960
PADDING = "<|endoftext|>"
# Ids of the special tokens, Qwen3's and behind them InternVL's; to be checked against the real tokenizer.json.
_QWEN = (
    PADDING, internvl.START, internvl.END, "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
    "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>", "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>",
    "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>", "<think>",
    "</think>",
)  # fmt: skip
VIDEO = "<video>"
SPECIAL = {
    token: 151_643 + n
    for n, token in enumerate((*_QWEN, internvl.OPEN, internvl.CLOSE, internvl.PICTURE, *internvl.MARKS, VIDEO))
}
# As the released checkpoints have it; it is taken where a folder brings none.
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<IMG_CONTEXT>\n' }}{% elif part['type'] == 'text' %}{{ part['text'] }}"
    "{% endif %}{% endfor %}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def config(name: str) -> InternVLConfig:
    """The configuration of an id, or of ``reduced``, which has every part at a size for tests."""
    torch_env.import_torchvision()
    from transformers import InternVLConfig, InternVLVisionConfig, Qwen3Config

    facts = plain(name)
    text = Qwen3Config(
        rope_parameters={"rope_type": "default", "rope_theta": 1e6}, bos_token_id=SPECIAL[PADDING],
        eos_token_id=SPECIAL[internvl.END], pad_token_id=SPECIAL[PADDING], tie_word_embeddings=False,
        **vars(facts.text_config),
    )  # fmt: skip
    return InternVLConfig(
        text_config=text, vision_config=InternVLVisionConfig(**vars(facts.vision_config)),
        image_token_id=facts.image_token_id, image_seq_length=dict(point(facts).options)["tokens_per_tile"],
        downsample_ratio=facts.downsample_ratio, tie_word_embeddings=False,
    )  # fmt: skip


def plain(name: str) -> SimpleNamespace:
    """The fields of a configuration that :func:`point` reads, for environments without transformers."""
    text, tower = _SIZES[name]
    head = _REDUCED_HEAD_SIZE if name == "reduced" else _HEAD_SIZE
    known = {"vocab_size": 151_936, "max_position_embeddings": _CONTEXT, "head_dim": head}
    return SimpleNamespace(
        text_config=SimpleNamespace(**dict(zip(_TEXT, text, strict=True)), **known),
        vision_config=SimpleNamespace(**_TOWERS[tower]),
        downsample_ratio=1 / _SHUFFLE, image_token_id=SPECIAL[internvl.PICTURE],
    )  # fmt: skip


def point(config: InternVLConfig, tiles: tuple[int, int] = (_LEAST, _MOST), ends: list[int] | None = None) -> Chat:
    """The entry point of a network with that configuration; what it does not contain is as released."""
    text, vision = config.text_config, config.vision_config
    side, patch = (value if isinstance(value, int) else value[0] for value in (vision.image_size, vision.patch_size))
    count = int((side // patch * config.downsample_ratio) ** 2)
    pixels = Tensor("pixels", "UINT8", (side, side, 3))
    embeds = Tensor("image_embeds", "FP32", (count, text.hidden_size))
    nets = Net("vision", (pixels,), (embeds,), 1), causal_decoder.embed_net(text), causal_decoder.decoder_net(text)
    options = {
        "tile": side, "least": tiles[0], "most": tiles[1], "tokens_per_tile": count,
        "image_token": config.image_token_id, "end_ids": tuple(ends or [SPECIAL[internvl.END]]),
        "context": text.max_position_embeddings, "grounding": "internvl",
    }  # fmt: skip
    return Chat("internvl", nets, tuple(sorted(options.items())), (side, side))


def processor(tokenizer: Any, images: Any, config: InternVLConfig, template: str | None = None) -> InternVLProcessor:
    """The library's processor around a tokenizer and an image processor."""
    from transformers.models.internvl.processing_internvl import InternVLProcessor
    from transformers.models.internvl.video_processing_internvl import InternVLVideoProcessor

    count = dict(point(config).options)["tokens_per_tile"]
    return InternVLProcessor(images, tokenizer, InternVLVideoProcessor(), count, chat_template=template or TEMPLATE)
