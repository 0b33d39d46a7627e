"""torchvision with a CPU build of torch, and the versions of the packages that took part in an export."""

from __future__ import annotations

import importlib.util
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tritonvision.errors import SetupError

if TYPE_CHECKING:
    import torch

_fragments: list[torch.library.Library] = []  # an operator exists only as long as the Library object that defined it


def import_torchvision() -> None:
    """Import torchvision, also where its wheel was built for CUDA and torch was not.

    Such a wheel cannot load its extension, and without the extension's operators its import fails. timm and ultralytics
    use only ``nms`` of these operators, so it is defined here, with a numpy kernel of the same arithmetic.

    Raises:
        SetupError: torch or torchvision is not installed.
    """
    if "torchvision" in sys.modules:
        return
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("torchvision") is None:
        raise SetupError(
            "This export needs torch and torchvision.",
            hint="Install them with: pip install 'tritonvision[export,torch-cpu]'",
        )
    if not _extension_loads():
        _define_nms()
        import torchvision.ops.boxes

        torchvision.ops.boxes._assert_has_ops = lambda: None
    import torchvision  # noqa: F401


def _extension_loads() -> bool:
    import torch

    spec = importlib.util.find_spec("torchvision")
    if spec is None or not spec.submodule_search_locations:
        return False
    folder = Path(spec.submodule_search_locations[0])
    for library in folder.glob("_C*.so"):
        try:
            torch.ops.load_library(library)
        except OSError:  # built for another torch
            return False
        return True
    return False


def _define_nms() -> None:
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.impl(
        "nms", lambda dets, scores, limit: torch.from_numpy(greedy_nms(dets.numpy(), scores.numpy(), limit)), "CPU"
    )
    _fragments.append(library)


def greedy_nms(boxes: np.ndarray, scores: np.ndarray, iou_threshold: float) -> np.ndarray:
    """``torchvision.ops.nms`` in numpy: kept indices int64 of ``[n,4]`` corners, best first, ties in their order.

    As in its CPU kernel the IoU is computed in the boxes' own precision and compared with a double. The head kind's
    ``nms`` is not used: this one is part of the reference pipeline, and an error in shared code would not be noticed.
    """
    order = np.argsort(-scores, kind="stable")
    x1, y1, x2, y2 = boxes.T
    areas = (x2 - x1) * (y2 - y1)
    kept = []
    while order.size:
        best, order = order[0], order[1:]
        kept.append(best)
        width = np.maximum(np.minimum(x2[best], x2[order]) - np.maximum(x1[best], x1[order]), 0)
        height = np.maximum(np.minimum(y2[best], y2[order]) - np.maximum(y1[best], y1[order]), 0)
        overlap = width * height
        with np.errstate(divide="ignore", invalid="ignore"):
            iou = overlap / (areas[best] + areas[order] - overlap)
        order = order[~(iou.astype(np.float64) > iou_threshold)]
    return np.asarray(kept, dtype=np.int64)


def versions(*packages: str) -> dict[str, str]:
    """Installed versions of ``packages`` and of those that every torch export uses."""
    return {name: metadata.version(name) for name in ("torch", "onnx", "onnxslim", *packages)}
