"""Qwen2.5-VL: patches of pictures of any size share windows in a vision network, then go into the prompt of Qwen2.5.
At most 1,003,520 pixels of a picture are read, and 32,768 tokens of a conversation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tritonvision.exporters.contract import ReferencePipeline
from tritonvision.exporters.libraries.qwen_vl import QwenVL, sizes
from tritonvision.exporters.modules import qwen_vision

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_TEXT = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size", "vocab_size"
)  # fmt: skip


def of(text: tuple[int, ...], vision: int = 3420):
    """The sizes of a released model: of the decoder, in the order of ``_TEXT``, and the vision network's MLP.

    To be checked against the real config.json; their numbers of parameters are the published ones.
    """
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
    known = {"rms_norm_eps": 1e-6, "max_position_embeddings": 128000, "rope_parameters": rope}
    return sizes(
        {**dict(zip(_TEXT, text, strict=True)), **known},
        {
            "depth": 32, "hidden_size": 1280, "num_heads": 16, "intermediate_size": vision, "out_hidden_size": text[0],
            "patch_size": 14, "spatial_merge_size": 2, "window_size": 112, "fullatt_block_indexes": [7, 15, 23, 31],
            "tokens_per_second": 2,
        },
    )  # fmt: skip


SEVEN = of((3584, 28, 28, 4, 18944, 152064))
_REDUCED = sizes(
    {
        **dict(zip(_TEXT, (64, 4, 4, 2, 96, 1014), strict=True)), "rms_norm_eps": 1e-6, "max_position_embeddings": 4096,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]},
    },
    {
        "depth": 4, "hidden_size": 64, "num_heads": 4, "intermediate_size": 96, "out_hidden_size": 64, "patch_size": 4,
        "spatial_merge_size": 2, "window_size": 32, "fullatt_block_indexes": [1, 3], "tokens_per_second": 2,
    },
    first=1000, most=96 * 96,
)  # fmt: skip


class Qwen2_5VL(QwenVL):
    """transformers' network and processor; pictures are resized by Pillow."""

    name = "Qwen2.5-VL"
    class_name = "Qwen2_5_VLForConditionalGeneration"
    config_class, processor_class = "Qwen2_5_VLConfig", "Qwen2_5_VLProcessor"
    video_processor = ("qwen2_vl.video_processing_qwen2_vl", "Qwen2VLVideoProcessor")
    # There is no 2b of this generation: the smallest is the 3b.
    sizes = {
        "qwen2.5-vl-2b": of((2048, 36, 16, 2, 11008, 151936)), "qwen2.5-vl-7b": SEVEN,
        "qwen2.5-vl-72b": of((8192, 80, 64, 8, 29568, 152064), 3456), "reduced": _REDUCED,
    }  # fmt: skip
    repositories = {
        "qwen2.5-vl-2b": "Qwen/Qwen2.5-VL-3B-Instruct", "qwen2.5-vl-7b": "Qwen/Qwen2.5-VL-7B-Instruct",
        "qwen2.5-vl-72b": "Qwen/Qwen2.5-VL-72B-Instruct",
    }  # fmt: skip
    engine_only = frozenset({"qwen2.5-vl-72b"})
    license_notice = (
        "The released weights of the 3b are under the Qwen Research License (not for commercial use), those of the 72b "
        "under the Qwen License; the 7b is Apache-2.0."
    )
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    min_pixels = 56 * 56
    system = "You are a helpful assistant."
    template = (
        "{% for message in messages %}{% if loop.first and message.role != 'system' %}"
        f"<|im_start|>system\n{system}<|im_end|>\n"
        "{% endif %}<|im_start|>{{ message.role }}\n{% for part in message.content %}{% if part.type == 'image' %}"
        "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}{% endfor %}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    grounding, in_pixels = "qwen2_5", True
    reference_pipeline = ReferencePipeline(
        "transformers", "5.23.0",
        "Qwen2_5_VLForConditionalGeneration.generate(**Qwen2_5_VLProcessor(apply_chat_template(messages), images), "
        "do_sample=False), the processor with Qwen2VLImageProcessorPil",
    )  # fmt: skip

    def vision(self, visual: PreTrainedModel, mean: Sequence[float], std: Sequence[float]) -> torch.nn.Module:
        """See :meth:`QwenVL.vision`."""
        return qwen_vision.windowed(visual, mean, std)


FAMILY = Qwen2_5VL()
save_reduced = FAMILY.save_reduced
