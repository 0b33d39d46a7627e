"""What a family of architectures declares: the contract between one file in ``families/`` and the export pipeline."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tritonvision.catalog import Entry
from tritonvision.ensembles.heads import HeadKind
from tritonvision.ensembles.resize import Resize


@dataclass(frozen=True)
class Weights:
    """Where the numbers of a network come from.

    Attributes:
        kind: ``official``, ``random`` or ``user``.
        path: the file of user weights.
        seed: of random weights.
        labels: class names the user gave, or None for the weights' own.
    """

    kind: str = "official"
    path: Path | None = None
    seed: int = 0
    labels: tuple[str, ...] | None = None
    multi_label: bool = False


@dataclass(frozen=True)
class Tolerance:
    """How far the graph may be from the reference network.

    Attributes:
        tensors: largest absolute difference a canonical tensor, by name.
        pipeline_pixels, pipeline_scores: largest difference of the whole pipeline's boxes (pixels) and scores.
    """

    tensors: Mapping[str, float]
    pipeline_pixels: float = 0.01
    pipeline_scores: float = 1e-5


@dataclass(frozen=True)
class Oracle:
    """The author's own pipeline that a family is measured against.

    Attributes:
        package, version: what to install.
        call: the call and its options, in words a person can type.
    """

    package: str
    version: str
    call: str


@dataclass
class Network(ABC):
    """A built reference network with its weights, ready to be exported and asked.

    Attributes:
        labels: class names by class id.
        source: file name or hub id of the weights, or ``seed N``.
        sha256: of the weights file; empty for random weights.
        versions: packages that took part.
        notes: sentences a person should see in the manifest.
    """

    labels: tuple[str, ...]
    source: str
    sha256: str = ""
    keypoint_labels: tuple[str, ...] = ()
    multi_label: bool = False
    versions: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @abstractmethod
    def export(self, path: Path) -> None:
        """Write the ONNX graph: ``pixels`` uint8 ``[B,H,W,3]`` RGB in, the head kind's canonical tensors out."""

    @abstractmethod
    def tensors(self, pixels: np.ndarray, double: bool = False) -> dict[str, np.ndarray]:
        """The reference network's canonical tensors for uint8 ``[B,H,W,3]``; in float64 when ``double``."""

    @abstractmethod
    def predict(self, picture: np.ndarray, parameters: Mapping[str, Any]) -> dict[str, np.ndarray] | None:
        """The oracle's whole pipeline on RGB uint8 ``[h,w,3]``: the head kind's public outputs in picture pixels.

        ``parameters`` are resolved settings of the task. None where the oracle cannot be installed beside the
        exporter: then :meth:`golden` stands in.
        """

    def golden(self) -> list[tuple[np.ndarray, dict[str, Any], dict[str, np.ndarray]]]:
        """Recorded answers of the oracle: (picture RGB uint8, parameters, public outputs)."""
        return []


class Family(ABC):
    """One family. A module in ``families/`` exposes exactly one instance named ``FAMILY``.

    Attributes:
        name: as the catalogue spells it.
        tolerance, oracle: see their classes.
        license_notice: one sentence shown at export when the licence binds the user, or empty.
    """

    name: str
    head: HeadKind
    tolerance: Tolerance
    oracle: Oracle
    license_notice: str = ""

    @abstractmethod
    def resize(self, entry: Entry) -> Resize:
        """The pre step of one catalogue id."""

    @abstractmethod
    def build(self, entry: Entry, weights: Weights) -> Network:
        """The reference network of one catalogue id. Raises ExportFailed with a hint when weights cannot be had."""
