"""Packages without code: their graph is wrapped and passes the same pipeline as every export, gate included."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from tritonvision.catalog import Entry
from tritonvision.ensembles.preprocessing import Resize
from tritonvision.errors import ExportFailed
from tritonvision.exporters import pipeline
from tritonvision.exporters.contract import Family, Network, ReferencePipeline, Tensors, Weights
from tritonvision.exporters.packages import heads, reference
from tritonvision.exporters.packages import wrap as graphs
from tritonvision.exporters.packages.description import Description
from tritonvision.exporters.packages.files import FAMILY
from tritonvision.publication import Manifest


class PackageFamily(Family):
    """One package as a family: what families declare in code comes from its description.

    Raises:
        ExportFailed: the package is not valid or not supported; the sentence says why.
    """

    name = FAMILY
    reference_pipeline = ReferencePipeline(
        "the package's own graph and description", "", "onnxruntime on the given graph, numpy around it"
    )

    def __init__(self, description: Description):
        self.description = description
        self.config, self.graph = description.config, description.graph
        self.size = self.graph.size
        self.kind = heads.choose(
            self.graph, description.layout, description.names, self.config, description.task
        )  # fmt: skip
        self.head, self.tolerance = self.kind.head, self.kind.tolerance
        pre = self.config.resize(self.kind.grey)
        if self.head.name == "query-boxes" and pre.rule != "stretch":
            raise ExportFailed(
                "A network whose boxes are fractions of the picture is stretched, not fitted or cut.",
                hint="It is resized by 'stretch'.",
            )
        self._resize = pre

    def resize(self, entry: Entry) -> Resize:
        """As the package's description says."""
        return self._resize

    def network_from_file(self, entry: Entry, weights: Weights) -> PackageNetwork:
        """The package's own graph."""
        return PackageNetwork(self)


class PackageNetwork(Network):
    """The given graph in onnxruntime is the reference; the reference pipeline adds inference-models' steps."""

    def __init__(self, family: PackageFamily):
        kind = family.kind
        super().__init__(
            labels=kind.labels, source=family.description.source, sha256=family.description.digest,
            multi_label=kind.multi_label, versions={"onnx": metadata.version("onnx")}, notes=family.description.notes,
            precision=family.graph.precision, may_be_silent=family.graph.suppresses,
        )  # fmt: skip
        self._described, self._config, self._graph, self._kind = family.description, family.config, family.graph, kind

    def export(self, path: Path, role: str = "") -> None:
        """See :meth:`Network.export`."""
        before = heads.before(self._config, self._graph)
        graphs.wrap(self._graph, before, self._kind.after, path)

    def tensors(self, inputs: Mapping[str, np.ndarray], double: bool = False, role: str = "") -> Tensors:
        """See :meth:`Network.tensors`. The graph cannot run in float64, so ``double`` makes no difference."""
        outputs = self._graph(reference.normalised(inputs["pixels"], self._config))
        return self._kind.canonical(list(outputs.values()))

    def predict(self, sample: np.ndarray, parameters: Mapping[str, Any], role: str = "") -> Tensors:
        """See :meth:`Network.predict`."""
        return reference.predict(sample, parameters, self._described)


def publish_graph(
    description: Description, public_id: str, repository: Path, progress: pipeline.Progress
) -> Manifest:  # fmt: skip
    """Publish a graph with its description under ``public_id``, replacing what is published there.

    Raises:
        ExportFailed: it is not valid, or the published model would not compute what the graph computes.
        SetupError: the repository cannot be written.
    """
    family = PackageFamily(description)
    entry = Entry(public_id, FAMILY, family.kind.task, family.size, "user", "", "unsure", None, ())
    return pipeline.publish_family(family, entry, Weights("user"), repository, public_id, progress)
