"""RF-DETR as its authors' package builds and loads it: official files, checkpoints of users, and what these name."""

from __future__ import annotations

import argparse
import logging
import types
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tritonvision.errors import ExportFailed, SetupError
from tritonvision.exporters import weight_files as files
from tritonvision.exporters.libraries import torch_env, transformers_weights
from tritonvision.exporters.modules import query_networks

if TYPE_CHECKING:
    import torch
    from rfdetr import RFDETR
    from rfdetr.config import ModelConfig

SUFFIXES = (".pth", ".pt", ".ckpt")
_HEAD = "class_embed.bias"
_QUERIES = ("refpoint_embed.weight", "query_feat.weight")  # training has more of them than inference reads
_COCO_COLUMNS = 91
_LIGHTNING = ("model._orig_mod.", "model.")  # prefixes of Lightning's checkpoints, compiled or not


@dataclass(frozen=True)
class Classes:
    """Which columns of the class logits stand for classes, and what these are called.

    Attributes:
        columns: of the logits, by class id.
        names: of the classes, by class id.
        named: whether the checkpoint says so, or nobody does.
    """

    columns: tuple[int, ...]
    names: tuple[str, ...]
    named: bool = True


@contextmanager
def quiet() -> Iterator[None]:
    """The package without its warnings and its log; SetupError when it is not installed."""
    torch_env.import_torchvision()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import rfdetr  # noqa: F401
        except ImportError as error:
            raise SetupError(
                "This export needs rfdetr.", hint="Install it with: pip install 'tritonvision[export,torch-cpu]'"
            ) from error
        logging.getLogger("rf-detr").setLevel(logging.CRITICAL)
        yield


def _config(size: str, **options: Any) -> ModelConfig:
    """The package's configuration of one size: ``nano``, ``small``, ``medium``, ``base``, ``large``."""
    import rfdetr.config

    return getattr(rfdetr.config, f"RFDETR{size.capitalize()}Config")(device="cpu", **options)


def random(size: str, class_columns: int, seed: int) -> torch.nn.Module:
    """The network with every weight drawn anew, see :func:`transformers_tools.redraw`."""
    from rfdetr.models.lwdetr import build_model_from_config

    # a name of weights, which the builder does not look for, keeps it from fetching those of the backbone
    network = build_model_from_config(_config(size, pretrain_weights="random.pth", num_classes=class_columns - 1))
    transformers_weights.redraw(network, seed)
    return network


def load(size: str, path: Path, entry_id: str) -> tuple[RFDETR, Classes]:
    """The package's detector with the weights of a checkpoint, and the classes it names.

    Args:
        entry_id: what an error calls the architecture.

    Raises:
        ExportFailed: unreadable, or of another architecture.
    """
    import rfdetr

    state, classes = checkpoint(path, entry_id)
    cls = getattr(rfdetr, f"RFDETR{size.capitalize()}")
    try:
        detector = cls(pretrain_weights=str(path.resolve()), num_classes=len(state[_HEAD]) - 1, device="cpu")
    except (RuntimeError, ValueError, KeyError, ImportError) as error:
        raise _not_of(entry_id) from error
    _demand_whole(detector.model.model, state, entry_id)
    return detector, classes


def official(size: str) -> Path:
    """The released checkpoint, fetched once, its hash checked. Raises ExportFailed when it cannot be had."""
    from rfdetr.assets import model_weights

    path = Path(model_weights.get_model_cache_dir()) / Path(_config(size).pretrain_weights).name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        model_weights.download_pretrain_weights(str(path))
        model_weights.validate_pretrain_weights(str(path), strict=True)
    except (OSError, ValueError, RuntimeError) as error:  # no network, another file, a server's refusal
        raise files.unavailable(path.name) from error
    return path


def checkpoint(path: Path, entry_id: str) -> tuple[dict[str, torch.Tensor], Classes]:
    """Tensors by name and classes of a checkpoint, read without unpickling objects.

    Args:
        path: a ``.pth`` of the package (``model``, ``args``), or a ``.ckpt`` of Lightning below it.
        entry_id: what an error calls the architecture.

    Raises:
        ExportFailed: unreadable, or no detector of this package.
    """
    found = _read(path)
    state, settings = found.get("model"), found.get("args")
    if state is None and isinstance(found.get("state_dict"), Mapping):
        state, settings = _of_lightning(found["state_dict"]), found.get("hyper_parameters")
    if not isinstance(state, Mapping) or _HEAD not in state:
        raise _not_of(entry_id)
    return dict(state), _classes(len(state[_HEAD]), _names(settings))


def _not_of(entry_id: str) -> ExportFailed:
    """The error for weights of something else."""
    return ExportFailed(
        f"The weights are not those of {entry_id}.",
        hint="Export them under the id of their own size; the older large model of 560 pixels has none.",
    )


def _demand_whole(network: torch.nn.Module, state: Mapping[str, torch.Tensor], entry_id: str) -> None:
    """Raise ExportFailed unless ``network`` took each tensor of ``state``, and each of its own from there.

    The package itself loads what fits and warns about the rest.
    """
    ours = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    theirs = {name: tuple(value.shape) for name, value in state.items()}
    for shapes in (ours, theirs):
        shapes.pop("_kp_active_mask", None)  # follows from the configuration; older files lack it
        for name in _QUERIES:
            shapes[name] = shapes.get(name, ())[1:]
    if {n: s for n, s in ours.items() if "position_embeddings" not in n} != {
        n: s for n, s in theirs.items() if "position_embeddings" not in n
    }:
        raise _not_of(entry_id)


def _read(path: Path) -> Mapping[str, Any]:
    import pickle

    import torch

    refused = ExportFailed(
        "The weights file cannot be read as a checkpoint of rfdetr without running code in it.",
        hint="Save it with torch.save({'model': model.state_dict(), 'args': {'class_names': [...]}}, path).",
    )
    try:
        with torch.serialization.safe_globals([argparse.Namespace, types.SimpleNamespace]):  # older files hold args so
            found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise refused from error
    if not isinstance(found, Mapping):
        raise refused
    return found


def _of_lightning(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    found = {}
    for name, value in state.items():
        for prefix in _LIGHTNING:
            if name.startswith(prefix):
                found[name.removeprefix(prefix)] = value
                break
    return found


def _names(settings: Any) -> tuple[str, ...]:
    names = settings.get("class_names") if isinstance(settings, Mapping) else getattr(settings, "class_names", None)
    if isinstance(names, str):
        return (names,)
    return tuple(str(name) for name in names) if isinstance(names, list | tuple) else ()


def _classes(columns: int, names: tuple[str, ...]) -> Classes:
    """The last column of a fine-tuned head is no class. COCO's own has 91 columns, 80 of which are named."""
    coco = query_networks.coco_columns()
    if columns == _COCO_COLUMNS and names in ((), tuple(coco.values())):
        return Classes(tuple(coco), tuple(coco.values()))
    count = max(columns - 1, 1)
    if len(names) != count:
        return Classes(tuple(range(count)), tuple(f"class {i}" for i in range(count)), named=False)
    return Classes(tuple(range(count)), names)
