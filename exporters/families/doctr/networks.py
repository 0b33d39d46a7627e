"""docTR's networks, built without any download, their weights, and the graphs of them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tritonvision.errors import ExportFailed
from tritonvision.exporters import checkpoints
from tritonvision.exporters import weight_files as files
from tritonvision.python_backend.compositions.page_text import CROP, PAGE, VOCABULARY

if TYPE_CHECKING:
    import torch

ORIENTATIONS = {CROP: "mobilenet_v3_small_crop_orientation", PAGE: "mobilenet_v3_small_page_orientation"}
_OLD = "decoder.attention_norm.", "decoder.cross_attention_norm."  # in checkpoints of PARSeq before docTR 0.11.1


def module(architecture: str, **options: Any) -> torch.nn.Module:
    """docTR's network of that name, without any download."""
    from doctr.models import classification, detection, recognition

    if architecture in ORIENTATIONS.values():
        return getattr(classification, architecture)(pretrained=False).eval()
    factory = getattr(detection if architecture.startswith("db_") else recognition, architecture)
    return factory(pretrained=False, pretrained_backbone=False, **options).eval()


def statistics(network: torch.nn.Module, double: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and std of values in 0..1, ``[3,1,1]``."""
    import torch

    dtype = torch.float64 if double else torch.float32
    return tuple(torch.tensor(network.cfg[name], dtype=dtype).view(3, 1, 1) for name in ("mean", "std"))


def prepared(network: torch.nn.Module, pixels: np.ndarray, double: bool = False) -> torch.Tensor:
    """uint8 ``[B,h,w,3]`` RGB to what the network reads, by the arithmetic of docTR's preprocessor."""
    import torch

    mean, std = statistics(network, double)
    return (torch.from_numpy(pixels).permute(0, 3, 1, 2).to(mean.dtype).div(255) - mean) / std


def exportable(network: torch.nn.Module) -> torch.nn.Module:
    """The same network, which gives logits only; the original, which the predictor uses, stays unchanged."""
    found = copy.copy(network)
    found.exportable = True
    return found


def graph(network: torch.nn.Module) -> torch.nn.Module:
    """uint8 ``[B,h,w,3]`` RGB to probabilities ``[B,h,w]`` of a detector, to logits, ``[B,steps,V+1]`` of a recogniser,
    ``[B,4]`` of an orientation.
    """
    import torch
    from doctr.models.classification import MobileNetV3
    from doctr.models.detection import DBNet

    class Graph(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.classifies = isinstance(network, MobileNetV3)
            self.network = network if self.classifies else exportable(network)
            mean, std = statistics(network)
            self.register_buffer("mean", mean)
            self.register_buffer("std", std)
            self.detects = isinstance(network, DBNet)

        def forward(self, pixels):
            found = self.network((pixels.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std)
            if self.classifies:
                return found
            return found["logits"].sigmoid()[:, 0] if self.detects else found["logits"]

    return Graph()


def download(architecture: str) -> Path:
    """The official weights by docTR's own downloader and from its cache. Raises ExportFailed."""
    from doctr.utils.data import download_from_url

    url = module(architecture).cfg["url"]
    try:
        return Path(download_from_url(url, cache_subdir="models"))
    except (OSError, ValueError) as error:  # no network; a file that is not what its name promises
        raise files.unavailable(f"{architecture}.pt") from error


def load(architecture: str, path: Path, vocabulary: str | None = None) -> torch.nn.Module:
    """The network with the weights of a file. Raises ExportFailed when they are of another architecture."""
    network = module(architecture, **({} if vocabulary is None else {"vocab": vocabulary}))
    state = checkpoints.unwrapped(checkpoints.read(path).tensors, network.state_dict().keys())
    if architecture == "parseq":
        state = {name: value for name, value in state.items() if not name.startswith(_OLD)}
    characters = state.get("head.weight" if architecture.startswith(("vitstr", "parseq")) else "linear.weight")
    if hasattr(network, "vocab") and characters is not None and len(characters) != len(network.vocab) + 1:
        raise ExportFailed(
            f"The recogniser knows {len(characters) - 1} characters, its vocabulary names {len(network.vocab)}.",
            hint=f"Write its characters in their order into {VOCABULARY} beside the weights.",
        )
    checkpoints.load_into(network, state, architecture, "Their names and shapes must be docTR's.")
    return network
