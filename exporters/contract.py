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
from tritonvision.errors import ExportFailed, InvalidParameter, NotSupported

Tensors = dict[str, np.ndarray]


class NoSignal(ExportFailed):
    """The answers of the network differ too little from each other for a comparison to prove anything.

    Of random weights that is the seed's fault, and the export takes the next one, see
    :func:`tritonvision.exporters.synthetic.seeds.with_signal`.
    """

    sentence = "The random network carries no signal."


@dataclass(frozen=True)
class Weights:
    """Where the numbers of a network come from.

    Attributes:
        kind: ``official``, ``random`` or ``user``.
        path: the file or the folder of user weights.
        source: of user weights that are to be fetched: ``hf:OWNER/NAME[@REVISION][:FILE]``; once they are, repository,
            commit and file.
        license: of user weights, where their source tells it.
        seed: of random weights.
        labels: class names the user gave, or None for the weights' own.
        multi_label: whether a classifier's classes do not exclude each other.
        size: (height, width) of the pictures as the user wants them, or None for the weights' or the id's own.
        head: the file of a last layer that the weights lack, or None.
        base: of an adapter the folder, or ``hf:...``, of what it was trained on; empty where it tells that itself.
        asked_as: see :class:`tritonvision.publication.Manifest`.
        options: of the family's own, name and value, see :class:`Option`.
    """

    kind: str = "official"
    path: Path | None = None
    source: str = ""
    license: str = ""
    seed: int = 0
    labels: tuple[str, ...] | None = None
    multi_label: bool = False
    size: tuple[int, int] | None = None
    head: Path | None = None
    base: str = ""
    asked_as: str = ""
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Option:
    """An option of the authors' own pipeline that decides about what is exported, by the name it has there.

    Attributes:
        default: its value where none is given; empty where that depends on the id.
        choices: the values it can have, or empty where the family tells.
        what: a few words for a person.
    """

    name: str
    default: str
    choices: tuple[str, ...]
    what: str


@dataclass(frozen=True)
class Refusals:
    """Which options of an export a family cannot carry out: the end of a sentence that starts with the model's id.

    An option whose sentence is empty can be given.

    Attributes:
        labels: of ``--labels``.
        own_labels: class names that may be given all the same, because no weights can have others.
        multi_label: of ``--multi-label``.
        size: of ``--size``.
        head: of ``--head``.
    """

    labels: str = ""
    own_labels: tuple[str, ...] = ()
    multi_label: str = "has no multi-label head"
    size: str = "takes pictures of its own size"
    head: str = "has a last layer of its own, or none at all"

    def check(self, model_id: str, weights: Weights) -> None:
        """Raise ExportFailed for labels, NotSupported for the rest, where ``weights`` ask for what is refused."""
        if self.labels and weights.labels not in (None, self.own_labels):
            raise ExportFailed(f"'{model_id}' {self.labels}.", hint="Leave --labels out.")
        if self.multi_label and weights.multi_label:
            raise NotSupported(f"'{model_id}' {self.multi_label}.", hint="Leave --multi-label out.")
        if self.size and weights.size is not None:
            raise NotSupported(f"'{model_id}' {self.size}.", hint="Leave --size out.")
        if self.head and weights.head is not None:
            raise NotSupported(f"'{model_id}' {self.head}.", hint="Leave --head out.")


NO_CLASSES = Refusals(labels="knows no classes")
CLASSES_OF_REQUESTS = Refusals(labels="takes its classes from each request")


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
        source: file name or hub id of the weights; of random ones :meth:`Family.build` says the seed.
        sha256: of the weights file; empty for random weights.
        versions: packages that took part.
        notes: sentences a person should see in the manifest.
        entry_points: its own, where the weights decide about sizes in them; else the family's, see
            :func:`entry_points_of`.
        precision: of the graph's arithmetic: ``fp32``, ``fp16`` or ``int8``.
        map_meaning: of dense maps, where the weights decide about it; else the family's.
        may_be_silent: whether it may find nothing on any test picture, as a detector with a threshold in its graph.
    """

    labels: tuple[str, ...]
    source: str = ""
    sha256: str = ""
    keypoint_labels: tuple[str, ...] = ()
    multi_label: bool = False
    versions: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    entry_points: tuple[EntryPoint, ...] = ()
    precision: str = "fp32"
    map_meaning: str = ""
    may_be_silent: bool = False

    @abstractmethod
    def export(self, path: Path, role: str = "") -> None:
        """Write the ONNX graph of the network ``role``: what its entry point's pre step gives in (``pixels``), the
        head kind's canonical tensors out.
        """

    def map_weights(self, folder: Path) -> None:
        """Let the weights of a large network lie in a file on the disk of ``folder`` from now on, see
        :mod:`tritonvision.exporters.libraries.mapped_weights`; others stay in memory.
        """
        return

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
        """Settings under which a composition is compared with the reference pipeline; the task's defaults if none.
        A chat model without any is asked for a few greedy tokens.
        """
        return [{}]

    def conversations(self) -> list[dict[str, Any]]:
        """What a model that writes is asked where it cannot be asked everything (several pictures, none, a
        conversation): :func:`tritonvision.exporters.parity.checks.chat.sample` of each. Empty where it can.
        """
        return []

    def assets(self, role: str) -> dict[str, bytes]:
        """Files that the pre step of the entry point ``role`` needs beside it, by name."""
        return {}


class Family(ABC):
    """One family. A module in ``families/`` exposes exactly one instance named ``FAMILY``.

    It never asks what kind of weights it gets: :meth:`build` does, and calls the one of :meth:`random_network`,
    :meth:`official_network` and :meth:`network_from_file` that is meant.

    Attributes:
        name: as the catalogue spells it.
        head: of the networks; families with entry points of their own need none.
        tolerance, reference_pipeline: see their classes.
        refusals: which options of an export it cannot carry out, and why.
        choices: options of the authors' own pipeline that an export can be given with ``--option``.
        license_notice: one sentence shown at export when the licence binds the user, or empty.
        map_meaning: of dense maps, see :class:`tritonvision.publication.Manifest`.
        random_note: what the manifest says of random weights.
        fp32_layers: regular expressions of the names of operators that stay in fp32 where a variant's precision is
            another: what numbers of few bits would spoil, as the boxes of detectors with queries.
        engine_only: ids whose weights are too many for a graph: other engines serve them.
        working_memory: bytes that an export takes beside the weights: the libraries, and what is large at any size.
        activation_memory: bytes that its runs take for each pixel and each square root of a byte of weights; 0 where
            ``working_memory`` holds them. It is measured: :mod:`tritonvision.exporters.demand`.
    """

    name: str
    head: Head
    tolerance: Tolerance
    reference_pipeline: ReferencePipeline
    refusals: Refusals = Refusals()
    choices: tuple[Option, ...] = ()
    license_notice: str = ""
    map_meaning: str = ""
    random_note: str = "Random weights, calibrated only to carry signal: what it finds means nothing."
    fp32_layers: tuple[str, ...] = ()
    engine_only: frozenset[str] = frozenset()
    working_memory: int = 700_000_000
    activation_memory: float = 0.22

    def resize(self, entry: Entry) -> Resize:
        """The pre step of one catalogue id; families of one network declare it, and their ``head``."""
        raise NotImplementedError

    def entry_points(self, entry: Entry) -> tuple[EntryPoint, ...]:
        """The entry points of one catalogue id, the model itself first."""
        return (Chain(self.resize(entry), self.head),)

    def architecture(self, entry: Entry) -> str:
        """What the source of random weights calls the network of one catalogue id."""
        return entry.id

    def build(self, entry: Entry, weights: Weights) -> Network:
        """The reference network of one catalogue id.

        Raises:
            ExportFailed: weights cannot be had, are those of something else, or have class names already.
            NotSupported, InvalidParameter: an option that this family does not know.
            SetupError: a package is not installed.
        """
        self.check(entry, weights)
        self.prepare()
        if weights.kind == "official":
            return self.official_network(entry, weights)
        if weights.kind != "random":
            return self.network_from_file(entry, weights)
        network = self.random_network(entry, weights)
        network.source = f"{self.architecture(entry)}, seed {weights.seed}"
        network.notes = (self.random_note, *network.notes)
        return network

    def check(self, entry: Entry, weights: Weights) -> None:
        """Raise ExportFailed, NotSupported or InvalidParameter for what ``weights`` ask for and cannot get."""
        self.refusals.check(entry.id, weights)
        self.chosen(entry, weights)

    def chosen(self, entry: Entry, weights: Weights) -> dict[str, str]:
        """The value of each of the family's options by name.

        Raises:
            InvalidParameter: one is unknown, given twice, or has no such value.
        """
        found = {option.name: option.default for option in self.choices}
        given = dict(weights.options)
        for name, value in given.items():
            if name not in found:
                known = f"It has: {', '.join(found)}." if found else "It has none: leave --option out."
                raise InvalidParameter(f"'{entry.id}' has no option '{name[:40]}'.", hint=known)
            (option,) = (option for option in self.choices if option.name == name)
            if option.choices and value not in option.choices:
                raise InvalidParameter(
                    f"The option {name} of '{entry.id}' cannot be '{value[:40]}'.",
                    hint=f"It can be: {', '.join(option.choices)}.",
                )
        if len(given) < len(weights.options):
            raise InvalidParameter("An option is given twice.", hint="Give each --option once.")
        return found | given

    def prepare(self) -> None:  # noqa: B027 - a family without such libraries has nothing to do
        """Make the libraries importable that the hooks below import. Raises SetupError."""

    def random_network(self, entry: Entry, weights: Weights) -> Network:
        """The true architecture with weights drawn from ``weights.seed``. Raises NoSignal where they prove nothing."""
        raise ExportFailed(
            f"'{entry.id}' has no random variant: its architecture is the released file.",
            hint="Leave --weights out, or name the file with --weights PATH.",
        )

    def official_network(self, entry: Entry, weights: Weights) -> Network:
        """The network with the released weights. Raises ExportFailed when they cannot be had."""
        raise ExportFailed(
            f"No official weights of {entry.id} were ever released.",
            hint="Name your own with --weights PATH, or try the architecture with --weights random.",
        )

    @abstractmethod
    def network_from_file(self, entry: Entry, weights: Weights) -> Network:
        """The network with the user's ``weights.path``. Raises ExportFailed when they are of something else."""


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
