"""Loading weights of ``transformers`` with every tensor checked, and drawing random ones that carry signal."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tritonvision.errors import ExportFailed
from tritonvision.exporters import checkpoints
from tritonvision.exporters import weight_files as files
from tritonvision.exporters.contract import Weights
from tritonvision.exporters.libraries import torch_env
from tritonvision.exporters.synthetic import calibrate

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

_WHOLE, _INDEX = "model.safetensors", "model.safetensors.index.json"  # large weights are several files
_NOISE = 0.1  # standard deviation of what the libraries' initialisers leave constant: gains around 1, biases around 0


@dataclass(frozen=True)
class Loaded:
    """A network with its weights.

    Attributes:
        module: in eval mode.
        folder: of weights and configuration; None for a bare file.
        source, sha256, notes: as :class:`tritonvision.exporters.contract.Network` has them.
    """

    module: PreTrainedModel
    folder: Path | None
    source: str
    sha256: str
    notes: tuple[str, ...] = ()

    @property
    def facts(self) -> dict[str, Any]:
        """The attributes of a :class:`tritonvision.exporters.contract.Network` that depend on the weights."""
        return {"source": self.source, "sha256": self.sha256, "notes": self.notes}


def official(cls: type[PreTrainedModel], repository: str) -> Loaded:
    """Load released weights from the hub's cache or the hub.

    Args:
        cls: the class of ``transformers``.
        repository: hub id of the weights, and the architecture's name in errors.

    Raises:
        ExportFailed: they cannot be downloaded, or have a tensor too few or too many for this architecture.
    """
    folder = files.hub_file(repository, "config.json").parent
    return _from_folder(cls, folder, _of_hub(repository), repository, repository)


def of_user(
    cls: type[PreTrainedModel],
    repository: str,
    weights: Weights,
    config: Callable[[Mapping[str, torch.Tensor]], PretrainedConfig],
) -> Loaded:
    """Load the user's own weights.

    The user names a folder as ``save_pretrained`` writes it (``config.json`` and ``model.safetensors``), or a file
    that :mod:`tritonvision.exporters.checkpoints` reads.

    Args:
        cls, repository: as of :func:`official`.
        config: gives the configuration for a bare file; called with its tensors, whose shapes give the class count.

    Raises:
        ExportFailed: as of :func:`official`.
    """
    if weights.path is not None and weights.path.is_dir():
        return _from_folder(cls, weights.path, _of_folder(weights.path), weights.path.name, repository)
    import torch

    path = files.user_file(weights, checkpoints.SUFFIXES)
    found = checkpoints.read(path)
    with quiet(), torch.device("meta"), torch.random.fork_rng(devices=[]):
        names = cls(config(found.tensors)).state_dict().keys()  # they may have any class count
    state = checkpoints.unwrapped(found.tensors, names)
    module = _loaded(cls, repository, None, config=config(state), state_dict=state)
    return Loaded(module, None, path.name, files.sha256(path), found.notes)


def _of_hub(repository: str) -> list[Path]:
    """The files of released weights: one, or the index of several and those."""
    try:
        return [files.hub_file(repository, _WHOLE)]
    except ExportFailed as missing:
        try:
            index = files.hub_file(repository, _INDEX)
        except ExportFailed:
            raise missing from None
    return [index, *(files.hub_file(repository, name) for name in _parts(index))]


def _of_folder(folder: Path) -> list[Path]:
    """The same of a user's folder."""
    whole, index = folder / _WHOLE, folder / _INDEX
    found = [whole] if whole.is_file() else [index, *(folder / name for name in _parts(index))]
    if not all(path.is_file() for path in (folder / "config.json", *found)):
        raise ExportFailed(
            "The weights folder lacks config.json or model.safetensors.",
            hint="Write it with model.save_pretrained(folder).",
        )
    return found


def _parts(index: Path) -> list[str]:
    """Names of the files that an index of weights lists; none where there is no index.

    Raises:
        ExportFailed: it is no such index, or lists a file of another folder.
    """
    if not index.is_file():
        return []
    try:
        names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
        if all(Path(name).name == name for name in names):
            return names
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    raise ExportFailed(f"'{index.name}' is no index of weights.", hint="Write it with model.save_pretrained(folder).")


def of_tensors(
    cls: type[PreTrainedModel], repository: str, config: PretrainedConfig, tensors: Mapping[str, torch.Tensor]
) -> PreTrainedModel:  # fmt: skip
    """The network with these tensors, by the library's names. The rest is as of :func:`official`."""
    return _loaded(cls, repository, None, config=config, state_dict=tensors)


def _from_folder(cls: type[PreTrainedModel], folder: Path, found: list[Path], source: str, repository: str) -> Loaded:
    module = _loaded(cls, repository, folder, local_files_only=True, use_safetensors=True)
    digests = [files.sha256(path) for path in found]
    # of several files it is that of the list which sha256sum prints of them
    lines = "".join(f"{digest}  {path.name}\n" for digest, path in zip(digests, found, strict=True))
    return Loaded(module, folder, source, digests[0] if len(found) == 1 else sha256(lines.encode()).hexdigest())


def _loaded(cls: type[PreTrainedModel], repository: str, folder: Path | None, **options: Any) -> PreTrainedModel:
    import torch
    from safetensors import SafetensorError

    wrong = ExportFailed(
        f"The weights are not those of {repository}.", hint="They must be saved from transformers' class of that name."
    )
    try:
        with quiet(), torch.random.fork_rng(devices=[]):
            module, report = cls.from_pretrained(
                folder, output_loading_info=True, attn_implementation="eager", dtype=torch.float32, **options
            )
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise wrong from error
    found = _differing(report)
    if found:
        raise ExportFailed(f"The weights are not those of {repository}: {found}.", hint=wrong.hint)
    return module.eval()


def _differing(report: Mapping[str, Any]) -> str:
    """A description of the first tensor that ``from_pretrained`` reports as not fitting; empty where all fit."""
    told = {"mismatched_keys": "has another shape", "missing_keys": "is missing", "unexpected_keys": "is not its own"}
    found = [(key, what) for name, what in told.items() for key in sorted(report[name], key=str)]
    if not found:
        return ""
    (key, what), more = found[0], len(found) - 1
    name = key if isinstance(key, str) else key[0]
    return f"{name[:80]!r} {what}" + (f", and {more} more differ" if more else "")


def random(cls: type[PreTrainedModel], config: PretrainedConfig, seed: int) -> PreTrainedModel:
    """The true architecture with weights drawn by :func:`redraw`, in eval mode."""
    import torch

    torch_env.import_torchvision()
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config._attn_implementation = "eager"  # the graph's reference is eager attention
        module = cls(config).eval()
    redraw(module, seed)
    return module


def redraw(module: torch.nn.Module, seed: int) -> None:
    """Draw every weight anew, in place, so that each of them affects the answer.

    The libraries' initialisers set gates to zero and gains to one, and draw such small weights that the input hardly
    changes the output: an error in such a part would not be noticed. Here matrices and kernels get
    N(0, 1 / sqrt(fan in)), embedding tables and tokens N(0, 1), gains of norms and scales 1 and biases 0, both with
    noise. The numbers depend on the order of the parameters.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)

    def normal(like: torch.Tensor, std: float, mean: float = 0.0) -> None:
        # in place: a table may have gigabytes
        torch.randn(like.shape, generator=generator, out=like.data).mul_(std).add_(mean)

    with torch.no_grad():
        for _, layer in sorted(module.named_modules(), key=lambda named: named[0]):
            for name, parameter in sorted(layer.named_parameters(recurse=False)):
                if isinstance(layer, torch.nn.Embedding) or (parameter.ndim > 1 and "weight" not in name):
                    normal(parameter, 1.0)  # embeddings of positions, queries, tokens
                elif parameter.ndim > 1:
                    normal(parameter, 1 / math.sqrt(_fan_in(layer, parameter)))
                else:
                    normal(parameter, _NOISE, float(parameter.ndim == 1 and "bias" not in name))
            if calibrate.is_batch_norm(layer):
                for name, mean in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0)):
                    normal(getattr(layer, name), _NOISE, mean)
                layer.running_var.fill_(1)


def _fan_in(layer: torch.nn.Module, weight: torch.Tensor) -> int:
    """The number of products that are summed into one output value."""
    import torch

    if isinstance(layer, torch.nn.ConvTranspose2d):  # [in, out, height, width], strides as large as the kernel
        return weight.shape[0]
    return weight[0].numel()


@contextmanager
def quiet():
    """Without the library's progress bars and loading reports."""
    torch_env.import_torchvision()
    from transformers.utils import logging

    level = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
