"""What a family of architectures declares: the contract between one file in ``families/`` and the export pipeline."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tritonvision.catalog import Entry
from tritonvision.ensembles.entry_points import Chain, EntryPoint
from tritonvision.ensembles.preprocessing import Resize
from tritonvision.ensembles.schemas import Head
from tritonvision.errors import ExportFailed

Tensors = dict[str, np.ndarray]


class NoSignal(ExportFailed):
    """The answers of the network differ too little from each other for a comparison to prove anything.

    Of random weights that is the seed's fault, and the export takes the next one, see
    :func:`tritonvision.exporters.synthetic.seeds.with_signal`.
    """


@dataclass(frozen=True)
class Weights:
    """Where the numbers of a network come from.

    Attributes:
        kind: ``official``, ``random`` or ``user``.
        path: the file of user weights.
        seed: of random weights.
        labels: class names the user gave, or None for the weights' own.
        multi_label: whether a classifier's classes do not exclude each other.
        size: (height, width) of the pictures as the user wants them, or None for the weights' or the id's own.
    """

    kind: str = "official"
    path: Path | None = None
    seed: int = 0
    labels: tuple[str, ...] | None = None
    multi_label: bool = False
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Tolerance:
    """How far the graphs may be from the reference network, and the answers from the reference pipeline's.

    Attributes:
        tensors: largest absolute difference of a network's outputs, by name; see :func:`kind` for those of layers.
        answers: largest difference of the whole pipeline's answers: ``pixels`` and ``scores`` of boxes and classes,
            ``masks`` (1 - IoU), ``map`` (relative to the largest value), ``embeddings`` (relative to their spread
            between samples), ``degrees``, ``tokens`` and ``words`` (how many differ). What is absent here keeps its
            default.
        relative: names of outputs whose difference is taken relative to the largest value of the reference.
        causes: of limits over thirty times the largest difference in ``benchmarks/PARITY.md``, by name: why so much.
    """

    tensors: Mapping[str, float]
    answers: Mapping[str, float] = field(default_factory=dict)
    relative: frozenset[str] = frozenset()
    causes: Mapping[str, str] = field(default_factory=dict)

    DEFAULTS = {
        "pixels": 0.01, "scores": 1e-5, "masks": 0.01, "map": 1e-3, "embeddings": 1e-3, "degrees": 0.01, "tokens": 0,
        "words": 0,
    }  # fmt: skip

    def tensor(self, name: str) -> float:
        """The limit of one output, or of its :func:`kind`."""
        return self.tensors[name] if name in self.tensors else self.tensors[kind(name)]

    def is_relative(self, name: str) -> bool:
        """Whether the difference of that output, or of its :func:`kind`, is relative."""
        return name in self.relative or kind(name) in self.relative

    def answer(self, figure: str) -> float:
        """The limit of one figure of the answers."""
        return self.answers.get(figure, self.DEFAULTS[figure])


def kind(name: str) -> str:
    """What outputs of the same kind of each layer have in common: ``present.17.key`` is a ``present.key``."""
    return re.sub(r"\.\d+\.", ".", name)


@dataclass(frozen=True)
class ReferencePipeline:
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
        entry_points: its own, where the weights decide about sizes in them; else the family's, see
            :func:`entry_points_of`.
        precision: of the graph's arithmetic: ``fp32``, ``fp16`` or ``int8``.
        map_meaning: of dense maps, where the weights decide about it; else the family's.
    """

    labels: tuple[str, ...]
    source: str
    sha256: str = ""
    keypoint_labels: tuple[str, ...] = ()
    multi_label: bool = False
    versions: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    entry_points: tuple[EntryPoint, ...] = ()
    precision: str = "fp32"
    map_meaning: str = ""

    @abstractmethod
    def export(self, path: Path, role: str = "") -> None:
        """Write the ONNX graph of the network ``role``: what its entry point's pre step gives in (``pixels``), the
        head kind's canonical tensors out.
        """

    @abstractmethod
    def tensors(self, inputs: Mapping[str, np.ndarray], double: bool = False, role: str = "") -> Tensors:
        """What the reference network answers to the inputs of the graph ``role``; in float64 when ``double``."""

    @abstractmethod
    def predict(self, sample: Any, parameters: Mapping[str, Any], role: str = "") -> Tensors | None:
        """The reference pipeline's whole pipeline: public outputs of the entry point ``role``, in picture pixels.

        ``sample`` is RGB uint8 ``[h,w,3]``, or a text; ``parameters`` are resolved settings of the task. None where
        the reference pipeline cannot be installed beside the exporter: then :meth:`golden` stands in.
        """

    def golden(self) -> list[tuple[np.ndarray, dict[str, Any], Tensors]]:
        """Recorded answers of the reference pipeline: (picture RGB uint8, parameters, public outputs)."""
        return []

    def examples(self, role: str) -> dict[str, Tensors]:
        """Inputs, batch axis first, on which a composition's graph ``role`` is compared, by what they are."""
        return {}

    def questions(self) -> list[dict[str, Any]]:
        """Settings under which a composition is compared with the reference pipeline; the task's defaults if none."""
        return [{}]

    def assets(self, role: str) -> dict[str, bytes]:
        """Files that the pre step of the entry point ``role`` needs beside it, by name."""
        return {}


class Family(ABC):
    """One family. A module in ``families/`` exposes exactly one instance named ``FAMILY``.

    Attributes:
        name: as the catalogue spells it.
        tolerance, reference pipeline: see their classes.
        license_notice: one sentence shown at export when the licence binds the user, or empty.
        map_meaning: of dense maps, see :class:`tritonvision.publication.Manifest`.
        any_size: whether its networks can be exported for another size than the id's.
        fp32_layers: regular expressions of the names of operators that stay in fp32 where a variant's precision is
            another: what numbers of few bits would spoil, as the boxes of detectors with queries.
    """

    name: str
    head: Head
    tolerance: Tolerance
    reference_pipeline: ReferencePipeline
    license_notice: str = ""
    map_meaning: str = ""
    any_size: bool = False
    fp32_layers: tuple[str, ...] = ()

    def resize(self, entry: Entry) -> Resize:
        """The pre step of one catalogue id; families of one network declare it, and their ``head``."""
        raise NotImplementedError

    def entry_points(self, entry: Entry) -> tuple[EntryPoint, ...]:
        """The entry points of one catalogue id, the model itself first."""
        return (Chain(self.resize(entry), self.head),)

    @abstractmethod
    def build(self, entry: Entry, weights: Weights) -> Network:
        """The reference network of one catalogue id. Raises ExportFailed with a hint when weights cannot be had."""


def entry_points_of(family: Family, entry: Entry, network: Network) -> tuple[EntryPoint, ...]:
    """The entry points of a built network, the model itself first.

    Raises:
        ExportFailed: two of their networks have one role: there is one graph a role.
    """
    points = network.entry_points or family.entry_points(entry)
    roles = [net.role for point in points for net in point.nets]
    twice = {role for role in roles if roles.count(role) > 1}
    if twice:
        raise ExportFailed(f"Two networks of '{entry.id}' have the role '{min(twice)}'.")
    return points
