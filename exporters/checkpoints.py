"""Checkpoints as trainers write them: read without running code, taken out of wrappers, compared by name and shape.

What is understood: ``.safetensors``, and torch files that hold the tensors themselves or keep them under a usual key
(``state_dict``, ``model``, ``state_dict_ema``, ...), with what timm, Lightning and torchvision's references add to
them. Prefixes of wrappers (``module.``, ``_orig_mod.``, ``model.``) are found by comparing names with the network's.
"""

from __future__ import annotations

import argparse
import pathlib
import pickle
import re
import struct
import types
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tritonvision.errors import ExportFailed

if TYPE_CHECKING:
    import torch

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".tar", ".bin")
_AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "ema_net", "ema")
_LAST = ("state_dict", "model_state_dict", "model", "module", "net", "network", "weights", "params")
_SETTINGS = ("args", "hyper_parameters", "hparams", "train_args", "config", "processing_params")
_DEPTH = 3  # dictionaries within dictionaries that are looked into
_NOTE = "The file holds averaged weights (EMA) beside the last ones; the averaged ones were taken."
_CLASS = re.compile(r"GLOBAL ([\w.]+)")
# What torch's readers raise of a file that ends too early or holds something else.
_BROKEN = (
    OSError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, AssertionError, MemoryError,
    struct.error,
)  # fmt: skip
_ARCHIVE = b"PK\x03\x04"  # with what a zip archive begins, and with it what torch writes since 1.6
_YOLO = "It is a checkpoint of ultralytics: export it under the id of its YOLO."
_SAVE = "Save the tensors alone: torch.save(model.state_dict(), path) or safetensors.torch.save_file."
_SHOWN = 80  # characters of a tensor's name in an error
_COUNTER = "num_batches_tracked"  # of batch norms: means nothing for inference, and older files lack it


@dataclass(frozen=True)
class Checkpoint:
    """What a file of weights holds.

    Attributes:
        tensors: by name, as the file has it.
        settings: what its trainer noted about itself by name: the arguments of a training, hyperparameters, names.
        notes: sentences for the manifest.
    """

    tensors: dict[str, torch.Tensor]
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read(path: Path, averaged: bool = True) -> Checkpoint:
    """The weights at ``path``. Raises ExportFailed; nothing in the file runs.

    Args:
        averaged: whether averaged weights (EMA) are taken where the file has such beside the last ones.
    """
    found = _load(path)
    if not isinstance(found, Mapping):
        raise ExportFailed("The weights file holds something else than a dictionary of tensors.", hint=_SAVE)
    ema, last = _below(found, _AVERAGED), _below(found, _LAST)
    tensors = (ema or last if averaged else last or ema) or _tensors(found)
    if not tensors:
        raise ExportFailed("The weights file holds something else than a dictionary of tensors.", hint=_SAVE)
    return Checkpoint(tensors, _settings(found), (_NOTE,) if averaged and ema and last else ())


def _load(path: Path) -> Any:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(_harmless()):
            with path.open("rb") as file:
                archive = file.read(len(_ARCHIVE)) == _ARCHIVE
            # mapped, so that what the network copies is not in memory twice; files of before torch 1.6 cannot be
            return torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
    except pickle.UnpicklingError as error:
        named = _CLASS.search(str(error))
        how = f"without running code of {named[1][:_SHOWN]}" if named else "as a dictionary of tensors"
        of_a_yolo = named is not None and named[1].startswith("ultralytics.")
        raise ExportFailed(f"The weights file cannot be read {how}.", hint=_YOLO if of_a_yolo else _SAVE) from error
    except (SafetensorError, *_BROKEN) as error:
        raise ExportFailed("The weights file cannot be read as a dictionary of tensors.", hint=_SAVE) from error


def _harmless() -> list[Any]:
    """Classes that trainers store beside tensors and that are harmless to construct: namespaces, paths, numpy scalars.
    """
    scalar = np.float64().__reduce__()[0]  # by whom numpy makes a number when it is unpickled
    return [
        argparse.Namespace, types.SimpleNamespace, pathlib.PosixPath, pathlib.PurePosixPath, np.dtype,
        *(type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32", "bool")),
        (scalar, "numpy.core.multiarray.scalar"), (scalar, "numpy._core.multiarray.scalar"),
    ]  # fmt: skip


def _tensors(found: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """``found`` where it is tensors by name and nothing else, else an empty dictionary."""
    import torch

    whole = all(isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in found.items())
    return dict(found) if whole else {}


def _below(found: Mapping[str, Any], keys: tuple[str, ...], depth: int = _DEPTH) -> dict[str, torch.Tensor]:
    """Tensors under the first of ``keys`` that has some; empty where none has."""
    for key in keys:
        inner = found.get(key)
        if not isinstance(inner, Mapping) or not depth:
            continue
        tensors = _tensors(inner) or _below(inner, (*keys, *_LAST), depth - 1)
        if tensors:
            return tensors
    return {}


def _settings(found: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that is no tensor, what is kept under a usual key or in a namespace beside the rest."""
    whole: dict[str, Any] = {}
    for key in (*_SETTINGS, ""):
        inner = found.get(key) if key else found
        inner = vars(inner) if isinstance(inner, argparse.Namespace | types.SimpleNamespace) else inner
        if isinstance(inner, Mapping):
            whole |= {str(name): value for name, value in inner.items() if not isinstance(value, Mapping)}
    return whole


def unwrapped(tensors: Mapping[str, torch.Tensor], names: Collection[str]) -> dict[str, torch.Tensor]:
    """The tensors of the network that has parameters called ``names``, without the prefix of what wrapped it.

    Where no prefix fits them better than none, ``tensors`` stays as it is, so that an error names what is there.

    Raises:
        ExportFailed: several prefixes fit alike, so the file holds several such networks.
    """
    wanted = [name for name in names if not name.endswith(_COUNTER)]
    fitting = {prefix: sum(prefix + name in tensors for name in wanted) for prefix in {"", *_prefixes(tensors)}}
    most = max(fitting.values())
    if fitting[""] == most:
        return dict(tensors)
    best = sorted(prefix for prefix, count in fitting.items() if count == most)
    averaged = [prefix for prefix in best if "ema" in prefix]
    if len(best) > 1 and len(averaged) != 1:
        raise ExportFailed(
            f"The weights file holds several such networks: {', '.join(prefix[:_SHOWN] for prefix in best[:4])}.",
            hint="Save the tensors of one of them alone.",
        )
    (prefix,) = averaged if len(best) > 1 else best
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _prefixes(tensors: Mapping[str, Any]) -> Iterator[str]:
    for name in tensors:
        parts = name.split(".")
        for count in range(1, min(len(parts), _DEPTH + 2)):
            yield ".".join(parts[:count]) + "."


def load_into(module: torch.nn.Module, tensors: Mapping[str, torch.Tensor], what: str, hint: str) -> None:
    """Load ``tensors`` into ``module``, which becomes exactly that network.

    Raises:
        ExportFailed: a tensor is missing, too many or of another shape; the sentence names the first.
    """
    wrong = difference(module.state_dict(), tensors)
    if wrong:
        raise ExportFailed(f"The weights are not those of {what}: {wrong}.", hint=hint)
    module.load_state_dict(dict(tensors), strict=False)  # nothing is missing but counters


def difference(ours: Mapping[str, torch.Tensor], theirs: Mapping[str, torch.Tensor]) -> str:
    """In words, the first tensor of another shape, missing or too many in ``theirs``; empty where there is none."""
    shapes = [(name, list(ours[name].shape), list(theirs[name].shape)) for name in ours if name in theirs]
    other = [f"{name[:_SHOWN]!r} is {has}, not {wants}" for name, wants, has in shapes if wants != has]
    missing = [f"{name[:_SHOWN]!r} is missing" for name in ours if name not in theirs and not name.endswith(_COUNTER)]
    more = [f"{name[:_SHOWN]!r} is none of its tensors" for name in theirs if name not in ours]
    found = other + missing + more if len(other) <= len(missing) else missing + other + more
    if not found:
        return ""
    return found[0] + (f", and {len(found) - 1} more differ" if len(found) > 1 else "")


def class_names(found: Any) -> tuple[str, ...] | None:
    """Names by class id, out of a list or of a mapping from 0, 1, ... (numbers or their texts); None for all else."""
    if isinstance(found, str):
        return (found,)
    if isinstance(found, Mapping):
        keys = {str(key).strip(): value for key, value in found.items()}
        found = [keys.get(str(index)) for index in range(len(found))]
    if not isinstance(found, list | tuple) or not found or any(name is None for name in found):
        return None
    names = tuple(str(name).strip() for name in found)
    return names if all(names) else None
