"""The description of a graph that is to be published, from a package's folder or from a bare ONNX file."""

from __future__ import annotations

from dataclasses import dataclass

from tritonvision.errors import ExportFailed
from tritonvision.exporters.packages import layouts, wrap
from tritonvision.exporters.packages.config import InferenceConfig
from tritonvision.exporters.packages.files import INFERENCE, NAMES, WEIGHTS, PackageFolder
from tritonvision.exporters.packages.layouts import Layout
from tritonvision.exporters.packages.wrap import PackageGraph


@dataclass(frozen=True)
class Description:
    """A graph with everything that serving it needs.

    Attributes:
        names: of the classes, in the order of the class scores.
        config: its preprocessing and postprocessing.
        task: as stated by the folder or the file, or None.
        digest: SHA-256 of everything on which the published model depends.
        source: the name of its file.
        notes: sentences for the manifest.
    """

    graph: PackageGraph
    layout: Layout
    names: tuple[str, ...]
    config: InferenceConfig
    task: str | None
    digest: str
    source: str
    notes: tuple[str, ...] = ()


def of_folder(package: PackageFolder) -> Description:
    """The description in a package's files. Raises ExportFailed; the sentence names the file and its fault."""
    names = package.class_names()
    if names is None:
        raise ExportFailed(f"The package has no {NAMES}.", hint="One class a line, in the order of the class ids.")
    config = package.json(INFERENCE, InferenceConfig)
    graph = wrap.read(package.file(WEIGHTS), config.size, WEIGHTS)
    layout = layouts.recognise(graph, len(names), f"Is {NAMES} complete?")
    return Description(graph, layout, names, config, package.config.task_type, package.digest, WEIGHTS)
