"""Grounding DINO with random weights whose tokens, queries and pictures differ from each other.

Drawn alike, attention averages over hundreds of places and all words, layer by layer, until every token and every query
is one. So the layers mix less, and what the heads compare is centred.
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

_SIZE = 240  # pixels at which the network is standardised: statistics hardly depend on the size
# By what random weights are scaled, by name: how much of the text reaches the picture and of the
# picture the text, how much tokens and queries take from each other, and how far from itself a place looks.
_GAINS = {
    "*.fusion_layer.vision_param": 0.3, "*.fusion_layer.text_param": 0.1,
    "*.text_enhancer_layer.self_attn.out_proj.weight": 0.2, "*.attention.output.dense.weight": 0.2,
    "*.sampling_offsets.weight": 0.3, "*.encoder.layers.*.self_attn.output_proj.weight": 0.5,
    "*.decoder.layers.*.self_attn.out_proj.weight": 0.3, "*.encoder_attn_text.out_proj.weight": 0.3,
}  # fmt: skip
_TEXT, _VISION = 0.4, 0.25  # spread of each channel of what the heads multiply
_LOGITS = 1.5  # spread of a token's logits over the queries
_CONFIDENCE = 0.25  # default of the task


def words() -> list[str]:
    """Names of things that people look for: the classes of COCO and ImageNet, as torchvision has them."""
    torch_env.import_torchvision()
    from torchvision.models import ResNet18_Weights

    return [*query_networks.coco_columns().values(), *ResNet18_Weights.IMAGENET1K_V1.meta["categories"]]


def network(
    config: GroundingDinoConfig, vocabulary: bytes, seed: int, sides: tuple[int, int]
) -> GroundingDinoForObjectDetection:
    """The true architecture, calibrated to find 20 to 40 boxes of several classes on the photo.

    Args:
        sides: pixels of the shorter side and, at most, of the longer one, at which it shall do so.

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
    """Centre what the heads read, and let boxes leave their proposals by about as much as they are large."""
    import torch

    views = [sample_pictures.views()[name] for name in ("photo", "odd-220x316", "no-face-noise-333x97")]
    images = normalised(np.stack([resize.stretch(view, _SIZE, _SIZE)[0] for view in views]), IMAGENET)
    ids = torch.from_numpy(phrase_grounding.caption(tokenizer, open_vocabulary.MANY[:24]).ids)
    ids = ids.repeat(len(images), 1)

    def run() -> None:
        model(images, ids)

    inner = model.model
    with torch.no_grad():
        # places at the border count as zeros; the norm behind makes this bias a low score of them and of nothing else
        inner.enc_output.bias.zero_()[0] = -0.3
    text = inner.encoder.layers[-1].text_enhancer_layer.layer_norm_after
    for norm, states, spread in zip(
        (text, inner.enc_output_norm), query_networks.seen_by([text, inner.enc_output_norm], run), (_TEXT, _VISION),
        strict=True,
    ):  # fmt: skip
        _centre(norm, states.flatten(0, 1), spread)
    with torch.no_grad():
        text.weight[0], text.bias[0] = 0, 1  # so the first channel of the other side is the same for all tokens
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
    """Let each output of ``norm`` have mean zero and std ``spread`` over float64 ``rows [n,C]``."""
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
