"""Grounding DINO with random weights whose tokens, queries and pictures differ from each other.

With plain random weights, attention averages over hundreds of positions and all words in every layer, so all tokens and
all queries become nearly equal. Therefore attention is scaled down, and the inputs of the heads are centred.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import numpy as np
import tokenizers

from tritonvision.exporters.families.grounding_dino import graph
from tritonvision.exporters.libraries import torch_env, transformers_weights
from tritonvision.exporters.modules import query_networks
from tritonvision.exporters.modules.normalise import IMAGENET, normalised
from tritonvision.exporters.parity import sample_pictures
from tritonvision.exporters.parity.checks import open_vocabulary
from tritonvision.exporters.synthetic import calibrate
from tritonvision.python_backend.compositions import phrase_grounding
from tritonvision.python_backend.images import resize

if TYPE_CHECKING:
    import torch
    from transformers import GroundingDinoConfig, GroundingDinoForObjectDetection

_SIZE = 240  # pixels at which the network is standardised; the statistics hardly depend on the size
# Factors for random weights, by name: of the cross attention between text and picture in both directions, of the self
# attention of tokens and queries, and of the sampling offsets of deformable attention.
_GAINS = {
    "*.fusion_layer.vision_param": 0.3, "*.fusion_layer.text_param": 0.1,
    "*.text_enhancer_layer.self_attn.out_proj.weight": 0.2, "*.attention.output.dense.weight": 0.2,
    "*.sampling_offsets.weight": 0.3, "*.encoder.layers.*.self_attn.output_proj.weight": 0.5,
    "*.decoder.layers.*.self_attn.out_proj.weight": 0.3, "*.encoder_attn_text.out_proj.weight": 0.3,
}  # fmt: skip
_TEXT, _VISION = 0.4, 0.25  # standard deviation of each channel of the heads' inputs
_LOGITS = 1.5  # standard deviation of a token's logits over the queries
_CONFIDENCE = 0.25  # default of the task


def words() -> list[str]:
    """Class names to ask for: those of COCO and ImageNet, as torchvision has them."""
    torch_env.import_torchvision()
    from torchvision.models import ResNet18_Weights

    return [*query_networks.coco_columns().values(), *ResNet18_Weights.IMAGENET1K_V1.meta["categories"]]


def network(
    config: GroundingDinoConfig, vocabulary: bytes, seed: int, sides: tuple[int, int]
) -> GroundingDinoForObjectDetection:
    """The true architecture, calibrated to find 20 to 40 boxes of several classes on the photo.

    Args:
        sides: pixels of the shorter side and, at most, of the longer one, at which it finds them.

    Raises:
        ExportFailed: the seed gives a network without signal.
    """
    import torch
    from transformers import GroundingDinoForObjectDetection

    model = transformers_weights.random(GroundingDinoForObjectDetection, config, seed)
    model = graph.as_released(model)
    tokenizer = tokenizers.Tokenizer.from_str(vocabulary.decode())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            for pattern, gain in _GAINS.items():
                if fnmatchcase(name, pattern):
                    parameter *= gain
    _standardise(model, tokenizer)
    _threshold(model, tokenizer, sides)
    return model


def _standardise(model: GroundingDinoForObjectDetection, tokenizer: tokenizers.Tokenizer) -> None:
    """Centre the inputs of the heads, and scale the box offsets to about the size of the proposals."""
    import torch

    views = [sample_pictures.views()[name] for name in ("photo", "odd-220x316", "no-face-noise-333x97")]
    images = normalised(np.stack([resize.stretch(view, _SIZE, _SIZE)[0] for view in views]), IMAGENET)
    ids = torch.from_numpy(phrase_grounding.caption(tokenizer, open_vocabulary.MANY[:24]).ids)
    ids = ids.repeat(len(images), 1)

    def run() -> None:
        model(images, ids)

    inner = model.model
    with torch.no_grad():
        # positions at the border are zeroed; after the norm, this bias lowers the score of those positions only
        inner.enc_output.bias.zero_()[0] = -0.3
    text = inner.encoder.layers[-1].text_enhancer_layer.layer_norm_after
    for norm, states, spread in zip(
        (text, inner.enc_output_norm), query_networks.seen_by([text, inner.enc_output_norm], run), (_TEXT, _VISION),
        strict=True,
    ):  # fmt: skip
        _centre(norm, states.flatten(0, 1), spread)
    with torch.no_grad():
        text.weight[0], text.bias[0] = 0, 1  # so the first channel of a query adds the same to the logits of all tokens
    heads = inner.encoder_output_bbox_embed.layers[-1], inner.decoder.bbox_embed[0].layers[-1]
    for head, states in zip(heads, query_networks.seen_by(heads, run), strict=True):
        calibrate.standardise(head, states.flatten(0, 1), 0.4, torch.zeros(4, dtype=torch.float64))
    seen = []
    hook = inner.decoder.layer_norm.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].double()))
    with torch.no_grad():
        run()
    hook.remove()
    _centre(inner.decoder.layer_norm, seen[-1].flatten(0, 1), _VISION)
    with torch.no_grad():
        inner.decoder.layer_norm.weight[0], inner.decoder.layer_norm.bias[0] = 0, 0


def _centre(norm: torch.nn.LayerNorm, rows: torch.Tensor, spread: float) -> None:
    """Change ``norm`` so that each output has mean 0 and std ``spread`` over float64 ``rows [n,C]``."""
    import torch

    with torch.no_grad():
        normal = torch.nn.functional.layer_norm(rows, norm.normalized_shape, eps=norm.eps)
        gain = spread / normal.std(0)
        norm.weight.copy_(gain)
        norm.bias.copy_(-normal.mean(0) * gain)


def _threshold(model: GroundingDinoForObjectDetection, tokenizer: tokenizers.Tokenizer, sides: tuple[int, int]) -> None:
    """Scale and shift the logits until the photo has its boxes at the default confidence."""
    import torch

    caption = phrase_grounding.caption(tokenizer, open_vocabulary.SEVERAL)
    images = normalised(resize.shortest(sample_pictures.photo(), *sides)[0][None], IMAGENET)
    norm = model.model.decoder.layer_norm
    with torch.no_grad():
        (logits,) = model(images, torch.from_numpy(caption.ids[None])).logits.numpy()
        scores = np.stack([logits[:, span].max(1) for span in caption.spans], axis=1)
        scale = _LOGITS / float(scores.std(0).mean())
        norm.weight *= scale
        norm.bias *= scale
        level = query_networks.cut(scale * scores.max(1), scores.argmax(1), len(caption.spans))
        norm.bias[0] = query_networks.logit(_CONFIDENCE) - level
