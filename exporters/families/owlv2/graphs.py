"""OWLv2's two graphs, for pictures and for texts, and their inputs."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from tritonvision.exporters.libraries import torch_env

if TYPE_CHECKING:
    import torch
    from transformers import CLIPTokenizer, Owlv2ForObjectDetection

CONTEXT = 16  # tokens of a text
PIXELS, IDS, EMBEDS = "pixels", "input_ids", "query_embeds"
IMAGE_OUTPUTS = ("boxes", "class_embeds", "shift", "scale", "objectness")


@cache
def tokenizer() -> CLIPTokenizer:
    """CLIP's vocabulary, from the wheel of open_clip, in the library's tokenizer as the hub configures it for OWLv2."""
    torch_env.import_torchvision()
    from open_clip.tokenizer import SimpleTokenizer
    from transformers import CLIPTokenizer

    reference = SimpleTokenizer()
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {names.get(name, name): id for name, id in reference.encoder.items()}
    merges = sorted(reference.bpe_ranks, key=reference.bpe_ranks.get)
    return CLIPTokenizer(vocab=vocabulary, merges=merges, pad_token="!", model_max_length=CONTEXT)


def ids(texts: list[str]) -> np.ndarray:
    """int64 ``[n,16]``: ``texts`` as the library's processor gives them to the network."""
    return tokenizer()(texts, padding="max_length", return_tensors="np")[IDS].astype(np.int64)


def attend_fast(model: Owlv2ForObjectDetection) -> None:
    """Use torch's fused attention among patches, as the library does by default: the eager one takes twice as long, and
    a gigabyte more for 3600 patches. The exported graph has the eager arithmetic either way.
    """
    model.set_attn_implementation({"vision_config": "sdpa"})


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    """``[B,H,W,3]`` from 0 to 1 to what the network reads, ``[B,3,H,W]``."""
    import torch
    from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

    mean, std = (torch.tensor(values, dtype=pixels.dtype) for values in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD))
    return ((pixels - mean) / std).permute(0, 3, 1, 2)


def image_graph(model: Owlv2ForObjectDetection) -> torch.nn.Module:
    """float32 ``[B,S,S,3]`` RGB from 0 to 1 to the outputs of every patch, see :data:`IMAGE_OUTPUTS`."""
    import torch

    class Graph(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, pixels):
            feature_map = self.model.image_embedder(normalised(pixels))[0]
            features = feature_map.flatten(1, 2)
            centre, size = self.model.box_predictor(features, feature_map).split(2, 2)
            head = self.model.class_head
            return (
                torch.cat([centre - size / 2, centre + size / 2], 2),
                head.dense0(features),
                head.logit_shift(features).squeeze(2),
                (head.elu(head.logit_scale(features)) + 1).squeeze(2),
                self.model.objectness_predictor(features),
            )

    return Graph().eval()


def text_graph(model: Owlv2ForObjectDetection) -> torch.nn.Module:
    """int64 ``[B,16]`` to float32 ``[B,D]``, normalised. Attention is causal, so padding needs no mask."""
    import torch

    class Graph(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model.owlv2

        def forward(self, input_ids):
            features = self.model.get_text_features(input_ids).pooler_output
            return features / features.norm(dim=-1, keepdim=True)

    return Graph().eval()
