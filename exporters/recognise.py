"""Which id of a family some weights are of: the user names the family, the weights tell the size."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from tritonvision import catalog
from tritonvision.catalog import Entry
from tritonvision.errors import ExportFailed, InvalidParameter, NotSupported
from tritonvision.exporters import registry
from tritonvision.exporters.checkpoints import SUFFIXES
from tritonvision.exporters.contract import Weights

_BYTES = (4, 2)  # of a parameter in a file: float32, float16


def family(text: str) -> str:
    """The catalogue's name of a family that is spelt as a person may: ``yolov8-seg`` is ``YOLOv8 Seg``.

    Raises:
        InvalidParameter: there is none of that name.
    """
    names = {registry.module_name(entry.family): entry.family for entry in catalog.entries().values()}
    found = names.get(registry.module_name(text))
    if found is None:
        near = catalog.similar(text, names.values()) or sorted(registry.exportable())
        raise InvalidParameter(f"No family is called '{text[:40]}'.", hint=f"There are: {', '.join(near)}.")
    return found


def entry_of(name: str, weights: Weights) -> Entry:
    """The id of the family ``name`` whose network these weights of the user's fit.

    The networks are built one by one, those first whose size is nearest to the file's.

    Raises:
        ExportFailed: they fit none of them, with what is wrong about the nearest.
        NotSupported: there is no exporter for the family.
    """
    found = registry.find(name)
    refusals: list[ExportFailed | NotSupported] = []
    for entry in sorted(_architectures(name), key=lambda entry: _distance(entry, weights.path)):
        try:
            found.build(entry, weights)
        except (ExportFailed, NotSupported) as error:
            refusals.append(error)
        else:
            return entry
    if not refusals:
        raise NotSupported(f"No id of {name} can be exported.", hint="'tritonvision models' lists what can be.")
    nearest = next((e for e in refusals if "not those of" not in e.message), refusals[0])
    raise ExportFailed(f"The weights fit no id of {name}: {nearest.message}", hint=nearest.hint) from nearest


def _architectures(name: str) -> Iterator[Entry]:
    """An id for each network of a family; several ids may share one, for pictures of different sizes."""
    seen = set()
    for entry in catalog.entries().values():
        if entry.family != name or not registry.can_export(entry):
            continue
        architecture = registry.find(name).architecture(entry)
        if architecture not in seen:
            seen.add(architecture)
            yield entry


def _distance(entry: Entry, path: Path | None) -> float:
    """How far a file is from the size that the network of ``entry`` would have: 0 where it is that size."""
    if not entry.params_m or path is None or not path.exists():
        return math.inf
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.name.endswith(SUFFIXES) and p.is_file()]
    size = max(sum(file.stat().st_size for file in files), 1)
    return min(abs(math.log(size / (entry.params_m * 1e6 * count))) for count in _BYTES)
