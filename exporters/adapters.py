"""LoRA adapters: merged into the weights that they were trained on, before a family sees either.

An adapter is a folder as ``peft`` writes it: ``adapter_config.json`` and ``adapter_model.safetensors``. Merging writes
the base's files into a folder, in which ``W`` became ``W + scale * B @ A``: what every family that takes folders reads.
"""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tritonvision.errors import ExportFailed, InvalidParameter, SetupError
from tritonvision.exporters.contract import Weights
from tritonvision.exporters.sources import hub

if TYPE_CHECKING:
    import torch

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
# The parts of a changed matrix, as peft names them; what is none of these replaces a tensor of the base.
_PART = re.compile(r"(?P<module>.+)\.(?P<part>lora_(?:embedding_)?[AB])(?:\.default)?(?:\.weight)?")
_OTHER_KINDS = {"use_dora": "DoRA", "use_qalora": "QALoRA"}


def is_adapter(path: Path | None) -> bool:
    """Whether ``path`` is the folder of an adapter."""
    return path is not None and (path / CONFIG).is_file()


@contextmanager
def merged(weights: Weights, fetch: Callable[[str], Path]) -> Iterator[Weights]:
    """``weights`` that a family can read: an adapter's merged with its base, which are gone after the block.

    Args:
        weights: ``base`` names a folder or ``hf:...``; by default the adapter says what it was trained on.
        fetch: gives the folder of what ``hf:...`` names.

    Raises:
        InvalidParameter: there is a base and no adapter, or the base cannot be found.
        ExportFailed: it is no LoRA adapter that is read here, or one of another base.
        SetupError: the merged weights cannot be written.
    """
    if weights.path is None or not is_adapter(weights.path):
        if weights.base:
            raise InvalidParameter(
                "--base is for an adapter, and the weights are none.", hint=f"An adapter is a folder with {CONFIG}."
            )
        yield weights
        return
    adapter = _Adapter.read(weights.path)
    base = adapter.base(weights.base, fetch)
    with tempfile.TemporaryDirectory(prefix="tritonvision-merged-") as folder:
        target = Path(folder) / f"{base.name}+{weights.path.name}"
        target.mkdir()
        _merge(adapter, base, target)
        yield replace(weights, path=target, base="")


@dataclass(frozen=True)
class _Adapter:
    """An adapter's folder and its configuration."""

    folder: Path
    config: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> _Adapter:
        """Raises ExportFailed for what is no LoRA adapter, or one of a kind that is not merged here."""
        try:
            config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ExportFailed(f"The adapter's {CONFIG} cannot be read.") from error
        of_lora = isinstance(config, dict) and config.get("peft_type") == "LORA"
        if not of_lora or not _is_number(config.get("lora_alpha")):
            raise ExportFailed("The adapter is no LoRA adapter.", hint=f"{CONFIG} says peft_type LORA, and lora_alpha.")
        for key, kind in _OTHER_KINDS.items():
            if config.get(key):
                raise ExportFailed(
                    f"The adapter is of the kind {kind}, which is not merged here.",
                    hint="Merge it where it was trained: model.merge_and_unload().save_pretrained(folder).",
                )
        if config.get("bias", "none") != "none":
            raise ExportFailed("The adapter changes biases, too, which is not merged here.")
        return cls(folder, config)

    def base(self, given: str, fetch: Callable[[str], Path]) -> Path:
        """The folder of the weights that it was trained on. Raises InvalidParameter, ExportFailed."""
        told = str(self.config.get("base_model_name_or_path") or "")
        of_hub = given.removeprefix(hub.PREFIX).partition("@")[0] if given.startswith(hub.PREFIX) else ""
        if of_hub and _HUB_NAME.fullmatch(told) and of_hub != told:
            raise ExportFailed(f"The adapter was trained on '{told[:80]}', not on '{of_hub[:80]}'.")
        if given and not of_hub:
            if not Path(given).expanduser().is_dir():
                raise InvalidParameter(f"There is no folder '{given[:80]}'.", hint="Name one, or hf:OWNER/NAME.")
            return Path(given).expanduser()
        if not given and told and (self.folder / told).is_dir():  # relative to it, or absolute
            return (self.folder / told).resolve()
        if of_hub or _HUB_NAME.fullmatch(told):
            return fetch(given or f"{hub.PREFIX}{told}")
        raise InvalidParameter("The adapter does not tell what it was trained on.", hint="Name it: --base DIR.")

    def scale(self, module: str, rank: int) -> float:
        """The factor of a module's change; keys of ``alpha_pattern`` are expressions for the end of its name, as peft
        reads them. Raises ExportFailed.
        """
        patterns = self.config.get("alpha_pattern") or {}
        try:
            found = (alpha for key, alpha in patterns.items() if re.fullmatch(rf"(.*\.)?({key})", module))
            alpha = float(next(found, self.config["lora_alpha"]))
        except (re.error, ValueError, TypeError, AttributeError) as error:
            raise ExportFailed(f"The alpha_pattern of {CONFIG} cannot be read.") from error
        return alpha / (math.sqrt(rank) if self.config.get("use_rslora") else rank)

    def changes(self) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
        """The parts of each changed matrix by module and part; the tensors that replace one. Raises ExportFailed."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            tensors = load_file(self.folder / TENSORS)
        except (OSError, SafetensorError) as error:
            raise ExportFailed(f"The adapter's {TENSORS} cannot be read.") from error
        parts: dict[str, dict[str, torch.Tensor]] = defaultdict(dict)
        replaced = {}
        for name, tensor in tensors.items():
            plain = name.removeprefix(_PREFIX)
            found = _PART.fullmatch(plain)
            if found is not None:
                parts[found["module"]][found["part"]] = tensor
            elif "lora_" in plain:
                raise ExportFailed(f"The adapter holds '{plain[:80]}', which is not merged here.")
            else:
                replaced[plain] = tensor
        return parts, replaced


def _merge(adapter: _Adapter, base: Path, target: Path) -> None:
    """Write the base's files into ``target``, with the adapter's changes. Raises ExportFailed, SetupError."""
    from safetensors import SafetensorError, safe_open

    files = sorted(base.glob("*.safetensors"))
    try:
        where: dict[str, Path] = {}
        for file in files:
            with safe_open(file, "pt") as opened:
                where |= dict.fromkeys(opened.keys(), file)
        changes = _changes(adapter, where, base.name)
        for path in base.iterdir():
            if path.is_file() and path not in files:
                (target / path.name).symlink_to(path.resolve())
        for file in files:
            with safe_open(file, "pt") as opened:
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}
                told = opened.metadata()
            for name in tensors.keys() & changes.keys():
                tensors[name] = changes[name](tensors[name]).to(tensors[name].dtype).contiguous()
            _write(tensors, target / file.name, told)
    except (OSError, SafetensorError) as error:
        raise ExportFailed(f"The adapter's base '{base.name}' cannot be read.") from error


def _write(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str] | None) -> None:
    """Raises SetupError."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensors, path, metadata)
    except (OSError, SafetensorError) as error:
        raise SetupError(
            "The adapter merged with its base cannot be written.",
            hint="That takes as much room as the base: let TMPDIR name a folder on a disk that has it.",
        ) from error


def _changes(
    adapter: _Adapter, names: Mapping[str, Path], base: str
) -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
    """What becomes of each tensor that changes, by its name in the base. Raises ExportFailed."""
    parts, replaced = adapter.changes()
    if not parts and not replaced:
        raise ExportFailed("The adapter changes nothing.")
    changes: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {}
    for module, found in parts.items():
        name = _name_of(f"{module}.weight", names, base)
        if name in changes:
            raise ExportFailed(f"The adapter changes '{name[:80]}' twice.")
        changes[name] = _adding(adapter, module, found, base)
    for plain, tensor in replaced.items():
        changes[_name_of(plain, names, base)] = _replacing(plain, tensor, base)
    return changes


def _name_of(plain: str, names: Mapping[str, Path], base: str) -> str:
    """The base's name of a tensor: equal, or, where the library has moved it since, of the longest equal end."""
    ending = plain
    while ending:
        found = [name for name in names if name == ending or name.endswith(f".{ending}")]
        if len(found) == 1:
            return found[0]
        if found:
            break
        ending = ending.partition(".")[2] if ending.count(".") > 1 else ""
    raise _another_base(plain, base)


def _another_base(name: str, base: str) -> ExportFailed:
    return ExportFailed(
        f"The adapter is of another base: '{base[:80]}' has no '{name[:80]}' of its shape.",
        hint="Name the weights that it was trained on: --base DIR.",
    )


def _adding(
    adapter: _Adapter, module: str, parts: Mapping[str, torch.Tensor], base: str
) -> Callable[[torch.Tensor], torch.Tensor]:
    """``W + scale * B @ A`` in float32; of a table of embeddings the product is transposed."""
    table = "lora_embedding_A" in parts
    first, second = ("lora_embedding_A", "lora_embedding_B") if table else ("lora_A", "lora_B")

    def added(weight: torch.Tensor) -> torch.Tensor:
        if set(parts) != {first, second}:
            raise ExportFailed(f"The adapter has one half of '{module[:80]}'.")
        a, b = parts[first].float(), parts[second].float()
        if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:
            raise ExportFailed(f"The adapter's change of '{module[:80]}' is no product of two matrices.")
        change = b @ a
        if table or adapter.config.get("fan_in_fan_out"):
            change = change.T
        if change.shape != weight.shape:
            raise _another_base(f"{module}.weight", base)
        return weight.float() + adapter.scale(module, a.shape[0]) * change

    return added


def _replacing(plain: str, tensor: torch.Tensor, base: str) -> Callable[[torch.Tensor], torch.Tensor]:
    def replaced(weight: torch.Tensor) -> torch.Tensor:
        if tensor.shape != weight.shape:
            raise _another_base(plain, base)
        return tensor

    return replaced


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
