"""The configurations of SAM2's four encoders, and networks with random weights that carry signal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tritonvision.catalog import Entry
from tritonvision.exporters.contract import Tensors
from tritonvision.exporters.families.sam2 import graphs
from tritonvision.exporters.libraries import torch_env, transformers_weights

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

SIDE = 1024  # pixels of the encoder's square frame
# Of the authors' configurations what differs from the smallest: layers, those that see everything, channels, heads.
_BACKBONES: dict[str, dict[str, Any]] = {
    "tiny": {},
    "small": {"blocks_per_stage": [1, 2, 11, 2], "global_attention_blocks": [7, 10, 13]},
    "base": {
        "hidden_size": 112, "num_attention_heads": 2, "num_attention_heads_per_stage": [2, 4, 8, 16],
        "blocks_per_stage": [2, 3, 16, 3], "global_attention_blocks": [12, 16, 20],
        "window_positional_embedding_background_size": [14, 14],
    },
    "large": {
        "hidden_size": 144, "num_attention_heads": 2, "num_attention_heads_per_stage": [2, 4, 8, 16],
        "blocks_per_stage": [2, 6, 36, 4], "global_attention_blocks": [23, 33, 43],
        "window_size_per_stage": [8, 4, 16, 8],
    },
}  # fmt: skip
_CHANNELS = 96  # of the first stage of the smallest; each stage doubles them


def parts(entry: Entry, side: int = SIDE) -> dict[str, dict[str, Any]]:
    """The parts of the configuration that a ``Sam2Config`` and a ``Sam2VideoConfig`` share.

    Args:
        side: pixels of the frame: 1024 in every released model, fewer in tests.
    """
    backbone = {"model_type": "sam2_hiera_det_model", **_BACKBONES[entry.id.rpartition("-")[2]]}
    channels = [backbone.get("hidden_size", _CHANNELS) * 2**stage for stage in range(4)]
    backbone |= {"image_size": [side, side], "embed_dim_per_stage": channels}
    vision = {
        "model_type": "sam2_vision_model", "backbone_config": backbone, "backbone_channel_list": channels[::-1],
        "backbone_feature_sizes": [[side // step] * 2 for step in (4, 8, 16)],
    }  # fmt: skip
    return {"vision_config": vision, "prompt_encoder_config": {"image_size": side}, "mask_decoder_config": {}}


def random(cls: type[PreTrainedModel], config: PretrainedConfig, seed: int) -> PreTrainedModel:
    """The true architecture with random weights whose masks cover some of a picture and differ between prompts.

    The mean of the decoder's features is projected out of its last layers, so that logits have both signs.
    """
    import torch

    torch_env.import_torchvision()
    model = transformers_weights.random(cls, config, seed)
    model.shared_image_embedding.positional_embedding.copy_(
        model.prompt_encoder.shared_embedding.positional_embedding  # released weights have one of them
    )
    with torch.no_grad():
        pictures = []
        hook = model.mask_decoder.upscale_conv2.register_forward_hook(
            lambda layer, inputs, output: pictures.append(output)
        )
        asked = [torch.from_numpy(value) for value in prompts(1, 4, 3, model.prompt_encoder.input_image_size).values()]
        decoder = graphs.decoder(model).eval()
        decoder(*asked)
        hook.remove()
        mean = model.mask_decoder.activation(pictures[0]).mean((0, 2, 3))
        mean = mean / mean.norm()
        for network in model.mask_decoder.output_hypernetworks_mlps:
            last = network.proj_out
            last.weight -= mean[:, None] @ (mean[None] @ last.weight)
            last.bias -= mean * (mean @ last.bias)
        spread = decoder(*asked)[0].std((0, 1, 3, 4))
        for network, factor in zip(model.mask_decoder.output_hypernetworks_mlps, 5 / spread, strict=True):
            network.proj_out.weight *= factor
            network.proj_out.bias *= factor
    return model


def prompts(batch: int, count: int, points: int, side: int) -> Tensors:
    """Inputs of the decoder for ``count`` prompts about each picture: ``points`` points, the last of which is padding,
    and a mask that is switched off.
    """
    rng = np.random.default_rng(points)
    labels = np.tile(np.array([1, 0], np.float32)[np.arange(points) % 2], (batch, count, 1))
    labels[..., -1] = -1
    features = {
        "embeddings": (batch, 256, side // 16, side // 16), "high_res_s0": (batch, 32, side // 4, side // 4),
        "high_res_s1": (batch, 64, side // 8, side // 8),
    }  # fmt: skip
    return {
        **{name: rng.normal(size=shape).astype(np.float32) for name, shape in features.items()},
        "point_coords": rng.uniform(0, side, (batch, count, points, 2)).astype(np.float32),
        "point_labels": labels,
        "mask_input": (5 * rng.normal(size=(batch, count, 1, side // 4, side // 4))).astype(np.float32),
        "has_mask": np.zeros((batch, count, 1), dtype=np.float32),
    }
