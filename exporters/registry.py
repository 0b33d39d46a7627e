"""The families, found by their catalogue name: ``YOLO-World`` is ``families/yolo_world``, a module or a package."""

from __future__ import annotations

import importlib
import re
from importlib import resources
from typing import TYPE_CHECKING

from tritonvision import catalog
from tritonvision.errors import NotSupported

if TYPE_CHECKING:
    from tritonvision.ensembles.model_configs import Step
    from tritonvision.exporters.contract import Family

_FAMILIES = "tritonvision.exporters.families"


def exportable() -> frozenset[str]:
    """Catalogue names of the families that can be exported. Imports none of them."""
    modules = {path.name.removesuffix(".py") for path in resources.files(_FAMILIES).iterdir()}
    names = {entry.family for entry in catalog.entries().values()}
    return frozenset(name for name in names if module_name(name) in modules)


def can_export(entry: catalog.Entry) -> bool:
    """Whether this version exports the model ``entry``."""
    return entry.family in exportable()


def find(name: str) -> Family:
    """The family with this catalogue name; its module, and no other, is imported.

    Raises:
        NotSupported: there is no exporter for it yet.
        ModuleNotFoundError: a package that the family needs is not installed.
    """
    if name not in exportable():
        raise NotSupported(
            f"The {name} family cannot be exported yet.", hint="'tritonvision models' lists what can be exported."
        )
    return importlib.import_module(f"{_FAMILIES}.{module_name(name)}").FAMILY


def shared_steps() -> list[Step]:
    """The steps of all that can be exported, each once; ``make steps`` writes them into the tree.

    A tokenizer is not among them: its vocabulary comes with the weights.
    """
    from tritonvision.ensembles import model_configs

    steps = {
        step.triton_name: step
        for entry in catalog.entries().values()
        if entry.family in exportable()
        for point in find(entry.family).entry_points(entry)
        for step in model_configs.shared_steps(point)
        if not isinstance(step, model_configs.TextPreprocess)
    }
    return list(steps.values())


def module_name(name: str) -> str:
    """``MediaPipe Face`` -> ``mediapipe_face``."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
