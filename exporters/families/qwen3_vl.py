"""Qwen3-VL: patches of pictures of any size go through a vision network into the prompt and first layers of Qwen3.
At most 1,003,520 pixels of a picture are read, and 32,768 tokens of a conversation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tritonvision.exporters.contract import ReferencePipeline, Tolerance
from tritonvision.exporters.libraries.qwen_vl import QwenVL, sizes
from tritonvision.exporters.modules import qwen_vision

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_TEXT = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size", "vocab_size",
    "head_dim",
)  # fmt: skip
_VISION = ("depth", "hidden_size", "num_heads", "intermediate_size", "deepstack_visual_indexes")


def _of(text: tuple[int, ...], vision: tuple):
    """The sizes of a released model, in the order of ``_TEXT`` and ``_VISION``.

    To be checked against the real config.json; their numbers of parameters are the published ones.
    """
    rope = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [24, 20, 20], "mrope_interleaved": True}
    known = {"rms_norm_eps": 1e-6, "max_position_embeddings": 262144, "rope_parameters": rope}
    return sizes(
        {**dict(zip(_TEXT, text, strict=True)), **known},
        {
            **dict(zip(_VISION, vision, strict=True)), "out_hidden_size": text[0], "patch_size": 16,
            "spatial_merge_size": 2, "num_position_embeddings": 48 * 48,
        },
    )  # fmt: skip


_REDUCED = sizes(
    {
        **dict(zip(_TEXT, (64, 4, 4, 2, 96, 1014, 16), strict=True)), "rms_norm_eps": 1e-6,
        "max_position_embeddings": 4096, "rope_parameters": {
            "rope_type": "default", "rope_theta": 5e6, "mrope_section": [4, 2, 2], "mrope_interleaved": True,
        },
    },
    {
        **dict(zip(_VISION, (4, 64, 4, 96, [0, 2]), strict=True)), "out_hidden_size": 64, "patch_size": 4,
        "spatial_merge_size": 2, "num_position_embeddings": 8 * 8,
    },
    first=1000, most=96 * 96,
)  # fmt: skip


class Qwen3VL(QwenVL):
    """transformers' network and processor; pictures are resized by Pillow."""

    name = "Qwen3-VL"
    class_name = "Qwen3VLForConditionalGeneration"
    config_class, processor_class = "Qwen3VLConfig", "Qwen3VLProcessor"
    video_processor = ("qwen3_vl.video_processing_qwen3_vl", "Qwen3VLVideoProcessor")
    sizes = {
        "qwen3-vl-2b": _of((2048, 28, 16, 8, 6144, 151936, 128), (24, 1024, 16, 4096, [5, 11, 17])),
        "qwen3-vl-8b": _of((4096, 36, 32, 8, 12288, 151936, 128), (27, 1152, 16, 4304, [8, 16, 24])),
        "reduced": _REDUCED,
    }  # fmt: skip
    repositories = {"qwen3-vl-2b": "Qwen/Qwen3-VL-2B-Instruct", "qwen3-vl-8b": "Qwen/Qwen3-VL-8B-Instruct"}
    min_pixels = 256 * 256
    only_users_show = True
    template = (
        "{% for message in messages %}{% if message.role != 'system' or loop.first %}<|im_start|>{{ message.role }}\n"
        "{% for part in message.content %}{% if part.type == 'text' %}{{ part.text }}{% elif message.role == 'user' %}"
        "<|vision_start|><|image_pad|><|vision_end|>{% endif %}{% endfor %}<|im_end|>\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    grounding = "qwen3"
    tolerance = Tolerance({**QwenVL.tolerance.tensors, "deepstack.embeds": 1e-4}, causes=QwenVL.tolerance.causes)
    reference_pipeline = ReferencePipeline(
        "transformers", "5.23.0",
        "Qwen3VLForConditionalGeneration.generate(**Qwen3VLProcessor(apply_chat_template(messages), images), "
        "do_sample=False), the processor with Qwen2VLImageProcessorPil",
    )  # fmt: skip

    def vision(self, visual: PreTrainedModel, mean: Sequence[float], std: Sequence[float]) -> torch.nn.Module:
        """See :meth:`QwenVL.vision`."""
        return qwen_vision.whole(visual, mean, std)


FAMILY = Qwen3VL()
save_reduced = FAMILY.save_reduced
