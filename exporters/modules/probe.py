"""Linear probes: a last layer that somebody trained on the features of a backbone, in a file of its own."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tritonvision.errors import ExportFailed
from tritonvision.exporters import checkpoints
from tritonvision.exporters import weight_files as files
from tritonvision.exporters.contract import Weights

if TYPE_CHECKING:
    import torch

_NAMES = ("names", "labels", "class_names", "classes")  # under which trainers note class names beside the tensors


@dataclass(frozen=True)
class Probe:
    """A last layer.

    Attributes:
        layer: from features to logits.
        labels: class names by class id.
        source: name of the file.
        notes: sentences for the manifest.
    """

    layer: torch.nn.Linear
    labels: tuple[str, ...]
    source: str
    notes: tuple[str, ...]


def read(weights: Weights, widths: Collection[int], model_id: str) -> Probe:
    """The layer in ``weights.head``: one matrix ``[C, D]``, and a bias ``[C]`` or none, under any names.

    Args:
        widths: which D the backbone can give.

    Raises:
        ExportFailed: the file cannot be read or holds something else, D is another, or the labels do not fit.
    """
    import torch

    path = files.head_file(weights, checkpoints.SUFFIXES)
    found = checkpoints.read(path)
    kernels = [value for value in found.tensors.values() if value.ndim == 2]
    biases = [value for value in found.tensors.values() if value.ndim == 1]
    whole = len(kernels) == 1 and len(kernels) + len(biases) == len(found.tensors) and len(biases) < 2
    if not whole or (biases and len(biases[0]) != len(kernels[0])):
        raise ExportFailed(
            "The head's file holds something else than the weight [classes, features] and the bias of one layer.",
            hint="Save the layer alone: torch.save(layer.state_dict(), path).",
        )
    classes, width = kernels[0].shape
    if width not in widths:
        raise ExportFailed(
            f"The head reads {width} features; those of {model_id} are {' or '.join(map(str, sorted(widths)))}.",
            hint="Export it under the id that it was trained on.",
        )
    layer = torch.nn.Linear(width, classes, bias=bool(biases))
    layer.load_state_dict({"weight": kernels[0].float(), **({"bias": biases[0].float()} if biases else {})})
    said = next((names for key in _NAMES if (names := checkpoints.class_names(found.settings.get(key)))), None)
    known = said if said is not None and len(said) == classes else None
    own = known or tuple(f"class {i}" for i in range(classes))
    labels, unnamed = files.labels_of(weights, own, known is not None)
    return Probe(layer.eval(), labels, path.name, found.notes + unnamed)
