"""RF-DETR built and loaded by its authors' package: released files, users' checkpoints, and the classes in them."""

from __future__ import annotations

import logging
import math
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tritonvision.errors import ExportFailed, SetupError
from tritonvision.exporters import checkpoints
from tritonvision.exporters import weight_files as files
from tritonvision.exporters.libraries import torch_env, transformers_weights
from tritonvision.exporters.modules import query_networks

if TYPE_CHECKING:
    import torch
    from rfdetr import RFDETR
    from rfdetr.config import ModelConfig

_HEAD = "class_embed.bias"
_QUERIES = ("refpoint_embed.weight", "query_feat.weight")  # training has more of them than inference uses
_COCO_COLUMNS = 91
_POSITIONS = "position_embeddings"
_PRETRAINED = 37  # patches of DINOv2's own position embeddings, which one size keeps at every resolution
_MOST_PIXELS = 2048


@dataclass(frozen=True)
class Classes:
    """The columns of the class logits that stand for classes, and the names of these classes.

    Attributes:
        columns: of the logits, by class id.
        names: of the classes, by class id.
        named: whether the names come from the checkpoint.
    """

    columns: tuple[int, ...]
    names: tuple[str, ...]
    named: bool = True


@contextmanager
def quiet() -> Iterator[None]:
    """The package, imported and used without its warnings and its log. Raises SetupError when it is not installed."""
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
    """The network with every weight drawn anew, see :func:`transformers_weights.redraw`."""
    from rfdetr.models.lwdetr import build_model_from_config

    # with any name of weights, which the builder does not read, it does not download the backbone's
    network = build_model_from_config(_config(size, pretrain_weights="random.pth", num_classes=class_columns - 1))
    transformers_weights.redraw(network, seed)
    return network


def load(size: str, path: Path, entry_id: str, released: bool = False) -> tuple[RFDETR, Classes]:
    """The package's detector with the weights of a checkpoint, and the classes it names.

    Args:
        entry_id: the architecture's name in errors.
        released: whether the file is the authors', which is used at the size of its id.

    Raises:
        ExportFailed: unreadable, or of another architecture.
    """
    import rfdetr
    import torch

    state, classes, resolution = checkpoint(path, entry_id)
    sizes = {} if released else _sizes(size, state, resolution, entry_id)
    cls = getattr(rfdetr, f"RFDETR{size.capitalize()}")
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "weights.pth"  # without prefixes, and without objects that would have to be unpickled
        torch.save({"model": state, "args": {"class_names": list(classes.names)}}, plain)
        try:
            detector = cls(pretrain_weights=str(plain), num_classes=len(state[_HEAD]) - 1, device="cpu", **sizes)
        except (RuntimeError, ValueError, KeyError, ImportError) as error:
            raise _not_of(entry_id) from error
    _demand_whole(detector.model.model, state, entry_id)
    return detector, classes


def official(size: str) -> Path:
    """The released checkpoint, downloaded once, its hash checked. Raises ExportFailed when it cannot be downloaded."""
    from rfdetr.assets import model_weights

    path = Path(model_weights.get_model_cache_dir()) / Path(_config(size).pretrain_weights).name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        model_weights.download_pretrain_weights(str(path))
        model_weights.validate_pretrain_weights(str(path), strict=True)
    except (OSError, ValueError, RuntimeError) as error:  # no network, another file, or an HTTP error
        raise files.unavailable(path.name) from error
    return path


def checkpoint(path: Path, entry_id: str) -> tuple[dict[str, torch.Tensor], Classes, int | None]:
    """Tensors by name, classes, and the resolution in a checkpoint, read without unpickling objects.

    Args:
        path: a ``.pth`` of the package (``model``, ``args``), or a ``.ckpt`` of Lightning with the same contents.
        entry_id: the architecture's name in errors.

    Raises:
        ExportFailed: unreadable, or no detector of this package.
    """
    found = checkpoints.read(path, averaged=False)  # the package itself loads the last weights
    state = checkpoints.unwrapped(found.tensors, (_HEAD, *_QUERIES))
    if _HEAD not in state:
        raise _not_of(entry_id, f"{_HEAD!r} is missing")
    names = checkpoints.class_names(found.settings.get("class_names")) or ()
    resolution = found.settings.get("resolution")
    return state, _classes(len(state[_HEAD]), names), resolution if type(resolution) is int else None


def _sizes(size: str, state: Mapping[str, torch.Tensor], resolution: int | None, entry_id: str) -> dict[str, int]:
    """Options of the package's configuration for weights that were trained at another size. Raises ExportFailed.

    The position embeddings have one row for each patch and one more; without a resolution in the checkpoint, it is
    derived from their number.
    """
    plain = _config(size)
    rows = next((len(value[0]) for name, value in state.items() if name.endswith(_POSITIONS)), None)
    side = math.isqrt(rows - 1) if rows else plain.positional_encoding_size
    if resolution is None:
        same = plain.positional_encoding_size in (side, _PRETRAINED)
        resolution = plain.resolution if same else side * plain.patch_size
    block = plain.patch_size * plain.num_windows
    if resolution % block or not 0 < resolution <= _MOST_PIXELS:
        raise ExportFailed(
            f"The weights are said to be trained at {resolution} pixels, which {entry_id} cannot take.",
            hint=f"Its side is a multiple of {block}.",
        )
    if (resolution, side) == (plain.resolution, plain.positional_encoding_size):
        return {}
    return {"resolution": resolution, "positional_encoding_size": side}


def _not_of(entry_id: str, why: str = "") -> ExportFailed:
    """The error for weights of another architecture."""
    return ExportFailed(
        f"The weights are not those of {entry_id}" + (f": {why}." if why else "."),
        hint="Export them under the id of their own size; the older large model of 560 pixels has none.",
    )


def _demand_whole(network: torch.nn.Module, state: Mapping[str, torch.Tensor], entry_id: str) -> None:
    """Raise ExportFailed unless ``network`` and ``state`` have the same tensors, by name and shape.

    The package itself loads the tensors that fit and only warns about the rest.
    """
    compared = []
    for tensors in (network.state_dict(), state):
        # the mask is derived from the configuration and missing in older files; position embeddings are resized
        kept = {n: v for n, v in tensors.items() if n != "_kp_active_mask" and _POSITIONS not in n}
        compared.append(kept | {name: kept[name][0] for name in _QUERIES if name in kept})
    wrong = checkpoints.difference(*compared)
    if wrong:
        raise _not_of(entry_id, wrong)


def _classes(columns: int, names: tuple[str, ...]) -> Classes:
    """The last column of a fine-tuned head stands for no class; of the released head's 91 columns 80 have names."""
    coco = query_networks.coco_columns()
    if columns == _COCO_COLUMNS and names in ((), tuple(coco.values())):
        return Classes(tuple(coco), tuple(coco.values()))
    count = max(columns - 1, 1)
    if len(names) != count:
        return Classes(tuple(range(count)), tuple(f"class {i}" for i in range(count)), named=False)
    return Classes(tuple(range(count)), names)
