"""What is known about a graph that shall be published, whether a folder says it or an ONNX file itself."""

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
    """A graph with all that it takes to serve it.

    Attributes:
        names: of the classes, in the order of the class scores.
        config: how its pictures are prepared, and what follows it.
        task: what it is said to do, or None.
        digest: SHA-256 of everything that decides about what is published.
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
    """What a package's files say. Raises ExportFailed; the sentence names the file and what is wrong in it."""
    names = package.class_names()
    if names is None:
        raise ExportFailed(f"The package has no {NAMES}.", hint="One class a line, in the order of the class ids.")
    config = package.json(INFERENCE, InferenceConfig)
    graph = wrap.read(package.file(WEIGHTS), config.size, WEIGHTS)
    layout = layouts.recognise(graph, len(names), f"Is {NAMES} complete?")
    return Description(graph, layout, names, config, package.config.task_type, package.digest, WEIGHTS)
