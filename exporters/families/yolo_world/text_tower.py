"""CLIP's text tower (ViT-B/32), with which YOLO-World was trained: its module, its weights, its graph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tritonvision.errors import ExportFailed
from tritonvision.exporters import checkpoints
from tritonvision.exporters import weight_files as files
from tritonvision.exporters.graphs.export import export_onnx
from tritonvision.exporters.libraries import transformers_weights
from tritonvision.python_backend.compositions.text_guided_boxes import CONTEXT
from tritonvision.python_backend.vocabulary.text_encodings import EMBEDS

if TYPE_CHECKING:
    import torch
    from open_clip import TextTransformer
    from open_clip.tokenizer import SimpleTokenizer

IDS = "input_ids"
WIDTH = 512  # of an embedding
LAYERS, HEADS = 12, 8
BESIDE = "open_clip_model.safetensors"  # what the tower's file is called on the hub, and beside the user's detector
_TEXTS = (
    "a cat", "two dogs playing", "a red car on the street", "the sky", "a person", "wood", "7 small green apples",
    "text on a sign", "an old house by the sea", "shoes", "bright light", "the moon over mountains",
)  # fmt: skip


def tokenizer() -> SimpleTokenizer:
    """open_clip's, the same as OpenAI's."""
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer(context_length=CONTEXT)


def ids(texts: Sequence[str]) -> torch.Tensor:
    """int64 ``[n,77]``: start, text, end, zeros."""
    return tokenizer()(list(texts))


def module() -> TextTransformer:
    """open_clip's module of that architecture, with initial weights."""
    from open_clip.transformer import QuickGELU, TextTransformer

    return TextTransformer(
        context_length=CONTEXT, width=WIDTH, heads=HEADS, layers=LAYERS, output_dim=WIDTH, act_layer=QuickGELU
    ).eval()


def embeds(tower: TextTransformer, tokens: torch.Tensor) -> torch.Tensor:
    """``[n,512]`` of length 1, as ultralytics' ``CLIP.encode_text`` gives them."""
    features = tower(tokens)
    return features / features.norm(p=2, dim=-1, keepdim=True)


def random(seed: int) -> TextTransformer:
    """The architecture with random weights whose embeddings differ from text to text."""
    import torch

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        tower = module()
        transformers_weights.redraw(tower, seed)
        projection = tower.text_projection
        drawn, identity = projection.clone(), torch.eye(WIDTH)
        projection.copy_(identity)
        mean = tower(ids(_TEXTS)).double().mean(0)
        # what all texts have in common is projected out
        projection.copy_(drawn - mean.outer(mean @ drawn.double()) / mean.square().sum())
    return tower


def official() -> TextTransformer:
    """OpenAI's weights, from the hub. Raises ExportFailed."""
    from open_clip.pretrained import get_pretrained_cfg

    return of_file(files.hub_file(get_pretrained_cfg("ViT-B-32", "openai")["hf_hub"].rstrip("/"), BESIDE))


def of_file(path: Path) -> TextTransformer:
    """The text tower of a checkpoint of CLIP ViT-B/32, as open_clip names its tensors. Raises ExportFailed."""
    found = checkpoints.read(path).tensors
    tower = module()
    names = tower.state_dict().keys()
    state = checkpoints.unwrapped(found, names)
    of_texts = {name: value for name, value in state.items() if name in names or name.startswith("transformer.")}
    if not of_texts:
        raise ExportFailed(
            f"The weights file {path.name} has no text tower.", hint="It must be open_clip's ViT-B-32 of OpenAI."
        )
    checkpoints.load_into(
        tower, of_texts, "the text tower of CLIP ViT-B/32",
        "Their names and sizes must be those of open_clip's ViT-B-32.",
    )  # fmt: skip
    return tower


def export(tower: TextTransformer, path: Path) -> None:
    """Write the graph: int64 ``[B,77]`` ids to float32 ``[B,512]`` of length 1."""
    import torch
    from torch import nn

    class Graph(nn.Module):
        def __init__(self):
            super().__init__()
            self.tower = tower

        def forward(self, input_ids):
            return embeds(self.tower, input_ids)

    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # its one operator has no counterpart in ONNX
    try:
        export_onnx(Graph(), ids(["a cat", "two dogs"]), path, (IDS,), (EMBEDS,))
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def examples() -> dict[str, dict[str, np.ndarray]]:
    """Inputs of the graph: a text, and several."""
    tokens = ids(["x", "a photo of an astronaut", "12 dogs & cats, on the grass of a park!"]).numpy()
    return {"a text": {IDS: tokens[:1]}, "texts": {IDS: tokens}}
