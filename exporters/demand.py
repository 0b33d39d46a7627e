"""The memory that an export takes, asked for before the work: where it is short, the system ends processes unheard."""

from __future__ import annotations

import json
import math
from pathlib import Path

from tritonvision import memory
from tritonvision.catalog import Entry
from tritonvision.errors import NotSupported, SetupError
from tritonvision.exporters.contract import Family, Weights
from tritonvision.exporters.graphs import storage
from tritonvision.exporters.graphs.export import APART

_BYTES = 4e6  # of a million weights in float32
_TRACED = 9  # copies of the weights where a graph is traced, slimmed and checked with them
_INSIDE = 3.0  # where they are written into the graph at last: the network's, and the session's while it opens
_BESIDE = 2.2  # where they lie beside it, one at a time is in memory besides
_HEADER = 100_000_000  # bytes that the header of a safetensors file may have


def needed(entry: Entry, family: Family, path: Path | None = None) -> int:
    """Bytes that exporting one id takes at its peak; 0 where its size is not known.

    They are copies of the weights, what a family takes beside them, and activations of the runs that the gate compares:
    a network that is twice as wide has four times the weights and twice the activations, which are as many as pixels.

    Args:
        path: of the user's weights. A safetensors file tells how many it has; of others the catalogue's count is taken.
    """
    millions = _millions(path) or entry.params_m
    if millions is None:
        return 0
    weights = _BYTES * millions
    copies = _TRACED if weights < APART else _INSIDE if weights < storage.INSIDE else _BESIDE
    pixels = math.prod(entry.input_size or (0,))
    return int(copies * weights + family.activation_memory * pixels * math.sqrt(weights)) + family.working_memory


def require_memory(entry: Entry, family: Family, weights: Weights | None = None) -> None:
    """Raise SetupError where fewer bytes are free than exporting that id takes, NotSupported where no machine has them.
    """
    path = weights.path if weights is not None else None
    if path is None and entry.id in family.engine_only:
        raise NotSupported(
            f"'{entry.id}' has {entry.params_m or 0:,.0f} million weights, too many for a graph.",
            hint="Triton's own vLLM backend serves its released weights on GPUs.",
        )
    wanted, free = needed(entry, family, path), memory.free()
    if free < wanted:
        raise SetupError(
            f"Exporting '{entry.id}' takes about {wanted / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free.",
            hint="End other programs, or export it on a larger machine and copy the model repository.",
        )


def _millions(path: Path | None) -> float | None:
    """How many million numbers the user's safetensors files have; None of other files, and of what cannot be read."""
    if path is None:
        return None
    files = [*path.glob("*.safetensors")] if path.is_dir() else [path] if path.suffix == ".safetensors" else []
    try:
        return sum(map(_numbers, files)) / 1e6 if files else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # whoever reads the weights says what is wrong with them


def _numbers(file: Path) -> int:
    """The numbers in a safetensors file: its header, whose length comes first, has the shape of each tensor."""
    with file.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        if size > _HEADER:
            raise ValueError
        header = json.loads(stream.read(size))
    return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
