"""Users' weights of timm: a checkpoint of its training script, or a folder in the hub's format."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tritonvision.ensembles.preprocessing import Resize
from tritonvision.errors import ExportFailed
from tritonvision.exporters import checkpoints
from tritonvision.exporters import weight_files as files
from tritonvision.exporters.contract import Weights

if TYPE_CHECKING:
    import torch

_IN_A_FOLDER = ("model.safetensors", "pytorch_model.bin")
_KEYS = ("mean", "std", "crop_pct", "interpolation", "input_size", "crop_mode")
_MOST = 4096  # pixels of a side


@dataclass(frozen=True)
class TimmWeights:
    """Weights with the facts that come with them.

    Attributes:
        path: of the file of tensors.
        preparation: keys of timm's ``pretrained_cfg`` from the file or from its training's arguments.
        labels: class names, empty where there are none.
        notes: sentences for the manifest.
    """

    path: Path
    tensors: Mapping[str, torch.Tensor]
    preparation: dict[str, Any]
    labels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read(weights: Weights, architecture: str) -> TimmWeights:
    """Read what ``--weights`` names.

    Args:
        architecture: timm's name of the expected network.

    Raises:
        ExportFailed: it cannot be read, is of another architecture, or needs an unsupported preprocessing.
    """
    if weights.path is not None and weights.path.is_dir():
        return _folder(weights.path, architecture)
    path = files.user_file(weights, checkpoints.SUFFIXES)
    found = checkpoints.read(path)
    return TimmWeights(path, found.tensors, _preparation(_of_training(found.settings)), notes=found.notes)


def _folder(folder: Path, architecture: str) -> TimmWeights:
    config = _config(folder / "config.json")
    path = next((folder / name for name in _IN_A_FOLDER if (folder / name).is_file()), None)
    if path is None:
        raise ExportFailed(
            f"The weights folder lacks {' and '.join(_IN_A_FOLDER)}.",
            hint="Write it with timm.models.save_for_hf(model, folder).",
        )
    if config.get("architecture") != architecture:
        raise ExportFailed(
            f"The folder's config.json is of {str(config.get('architecture'))[:80]!r}, not of {architecture}.",
            hint="Export it under the id of its own architecture.",
        )
    said = config.get("pretrained_cfg")
    labels = checkpoints.class_names(config.get("label_names")) or ()
    found = checkpoints.read(path)
    return TimmWeights(path, found.tensors, _preparation(said if isinstance(said, dict) else {}), labels, found.notes)


def _config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ExportFailed(
            "The weights folder has no config.json that can be read.",
            hint="Write it with timm.models.save_for_hf(model, folder).",
        ) from error
    return config if isinstance(config, dict) else {}


def _of_training(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of timm's training script as keys of ``pretrained_cfg``, without those that were not set."""
    said = {key: settings.get(key) for key in _KEYS} if "img_size" in settings or "opt" in settings else {}
    side = settings.get("img_size")
    if said and said["input_size"] is None and isinstance(side, int):
        said["input_size"] = (3, side, side)
    return {key: value for key, value in said.items() if value not in (None, "")}


def _preparation(said: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of ``said`` that concern preprocessing, checked. Raises ExportFailed."""
    found = {key: said[key] for key in _KEYS if said.get(key) is not None}
    for key in ("mean", "std", "input_size"):
        if key in found:
            found[key] = tuple(found[key]) if isinstance(found[key], list | tuple) else (None,)
            if len(found[key]) != 3 or not all(isinstance(v, int | float) for v in found[key]):
                raise _cannot(key, said[key])
    if 0 in found.get("std", ()):
        raise _cannot("std", said["std"])
    channels, height, width = found.get("input_size", (3, 1, 1))
    if channels != 3 or height != width or not 0 < height <= _MOST or height != int(height):
        raise _cannot("input_size", said["input_size"])
    if found.get("interpolation", "bicubic") not in ("bicubic", "bilinear"):
        raise _cannot("interpolation", said["interpolation"])
    percent = found.get("crop_pct", 1)
    if not isinstance(percent, int | float) or not 0 < percent <= 1:
        raise _cannot("crop_pct", percent)
    if found.pop("crop_mode", "center") != "center":
        raise _cannot("crop_mode", said["crop_mode"])
    return found


def _cannot(key: str, value: Any) -> ExportFailed:
    return ExportFailed(
        f"The weights want their pictures prepared with {key} {str(value)[:60]}, which cannot be done here.",
        hint="Known are square RGB pictures, bicubic or bilinear, with a centre crop of at most 100 percent.",
    )


def resize(config: Mapping[str, Any]) -> Resize:
    """The uint8 part of timm's eval transform by its ``pretrained_cfg``."""
    percent = round(100 * config["crop_pct"], 4)
    percent = int(percent) if percent == int(percent) else percent
    _, height, width = config["input_size"]
    return Resize("crop", height, width, (("interpolation", config["interpolation"]), ("percent", percent)))


def told(resize: Resize) -> str:
    """A preparation in words."""
    size, options = f"{resize.height} x {resize.width}", dict(resize.options)
    return f"{size} pixels, {options['interpolation']}, a crop of {options['percent']} percent"
