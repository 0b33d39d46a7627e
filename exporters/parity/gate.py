"""The parity gate: nothing is published that does not compute what its reference computes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from tritonvision.catalog import Entry
from tritonvision.ensembles.entry_points import Chain, EntryPoint, Net, TextPreprocess
from tritonvision.ensembles.in_process import (
    Ask,
    LocalChat,
    LocalComposition,
    LocalNet,
    LocalPipeline,
    open_entry_points,
)
from tritonvision.errors import BrokenModel, ExportFailed
from tritonvision.exporters.contract import Family, Network, NoSignal, Tensors, entry_points_of, kind
from tritonvision.exporters.parity import compare, golden, sample_pictures
from tritonvision.exporters.parity.checks.base import TEXTS, Case, ParityCheck
from tritonvision.exporters.parity.checks.registry import CHECKS
from tritonvision.publication import Manifest
from tritonvision.python_backend.runtime import onnxruntime_session

_FLOAT64_FACTOR = 3
Local = LocalPipeline | LocalComposition | LocalChat


@contextmanager
def refusing_what_cannot_run(what: str = "the exported graph") -> Iterator[None]:
    """Turn errors of onnxruntime into an ExportFailed."""
    try:
        yield
    except (*onnxruntime_session.ERRORS, BrokenModel) as error:
        raise ExportFailed(f"onnxruntime cannot run {what}.") from error


@dataclass(frozen=True)
class Gate:
    """One export before its parity checks.

    Attributes:
        graphs: the ONNX files, by role.
        weights: ``official``, ``random`` or ``user``.
        needs: functions that run the published models this one depends on, by public id.
    """

    family: Family
    entry: Entry
    network: Network
    graphs: Mapping[str, Path]
    weights: str
    needs: Mapping[str, Ask] = field(default_factory=dict)

    @cached_property
    def points(self) -> tuple[EntryPoint, ...]:
        """The entry points of the network, the model itself first."""
        return entry_points_of(self.family, self.entry, self.network)

    @cached_property
    def opened(self) -> dict[str, Local]:
        """The entry points in this process, by role. Raises ExportFailed where a graph cannot be loaded."""
        with refusing_what_cannot_run():
            return open_entry_points(
                self.graphs, self.points, lambda point: self.network.assets(point.role), self.needs
            )  # fmt: skip

    def golden(self, parity: Mapping[str, float], manifest: Manifest) -> dict[str, bytes]:
        """The golden questions of the model and the answers of its graphs, as files by name.

        Args:
            parity: what :meth:`check` returned.
        """
        checks = {point.role: self._parity_check(point) for point in self.points}
        return golden.record(self.points, self.opened, checks, parity, manifest)

    def _parity_check(self, point: EntryPoint) -> ParityCheck:
        return CHECKS[point.name](point, self.network, self.family.tolerance, self.weights)

    def check(self) -> dict[str, float]:
        """Compare graphs with networks and answers with the reference pipeline's.

        Returns:
            The largest differences: ``tensor_<name>`` of each output, ``pipeline_<figure>`` of the public answers, and
            ``pipeline_answers``, how many of them were compared; with ``<role>_`` before further entry points'.

        Raises:
            ExportFailed: something differs by more than the family allows; the sentence says what, and by how much.
            NoSignal: the random network's answers do not differ from each other, or by rounding as much as from ours.
        """
        found: dict[str, float] = {}
        for point in self.points:
            local = self.opened[point.role]
            figures = self._check_tensors(point, local) | self._check_answers(point, local)
            found |= {f"{point.role}_{name}" if point.role else name: value for name, value in figures.items()}
        return found

    def _check_tensors(self, point: EntryPoint, local: Local) -> dict[str, float]:
        worst: dict[str, float] = {}
        if not point.nets:  # its network is that of another entry point, and compared there
            return worst
        for net in [local] if isinstance(local, LocalPipeline) else local.nets.values():
            role = point.role if isinstance(local, LocalPipeline) else net.net.role
            if isinstance(point, Chain) and isinstance(local, LocalPipeline):
                batches = examples(point, local)
            else:
                batches = self.network.examples(role)
            _demand_batches(net.net, batches)
            for what, inputs in batches.items():
                for name, difference in self._differences(point.name, net, role, inputs, what).items():
                    figure = f"tensor_{kind(name)}"
                    worst[figure] = max(worst.get(figure, 0.0), difference)
        return worst

    def _differences(self, head: str, net: LocalNet, role: str, inputs: Tensors, what: str) -> dict[str, float]:
        """Differences on one batch, each within its tolerance or within three times float32's own error."""
        tolerance = self.family.tolerance
        with refusing_what_cannot_run():
            graph = net.tensors(inputs)
        reference = self._reference(net, role, inputs)
        allowed = {name: tolerance.tensor(name) for name in reference}
        relative = {name for name in reference if tolerance.is_relative(name)}
        found = compare.tensor_differences(head, graph, reference, allowed, relative)
        over = [name for name, difference in found.items() if not difference <= allowed[name]]
        if over:
            exact = self._reference(net, role, inputs, double=True)
            own = compare.tensor_differences(head, reference, exact, allowed, relative)
            ours = compare.tensor_differences(head, graph, exact, allowed, relative)
            for name in over:
                if name == "class_ids":
                    passes = compare.class_difference(head, graph, reference, exact, allowed) <= allowed[name]
                else:
                    passes = _is_real(graph[name]) and ours[name] <= _FLOAT64_FACTOR * own[name]
                if not passes and self.weights == "random" and own[name] > allowed[name] and name != "class_ids":
                    raise NoSignal(
                        f"On {what}, float32 and float64 give a '{name}' of the random network that differs by "
                        f"{own[name]:.3g}: it is mostly rounding."
                    )
                if not passes:
                    raise ExportFailed(
                        f"On {what}, '{name}' of the graph differs from the reference network by {found[name]:.3g}, "
                        f"allowed are {allowed[name]:g} (float32 itself is off by {own[name]:.3g})."
                    )
        return found

    def _reference(self, net: LocalNet, role: str, inputs: Tensors, double: bool = False) -> Tensors:
        """The outputs of the reference network, checked to be the declared ones: a missing one would not be compared.
        """
        found = self.network.tensors(inputs, double=double, role=role)
        declared = {tensor.name for tensor in net.net.outputs}
        if found.keys() != declared:
            raise ExportFailed(
                f"The reference of the network '{role or 'model'}' answers {_listed(found)}, the network declares "
                f"{_listed(declared)}."
            )
        return found

    def _check_answers(self, point: EntryPoint, local: Local) -> dict[str, float]:
        parity_check = self._parity_check(point)
        count, missing, worst = parity_check.run(local)
        package = self.family.reference_pipeline.package
        if missing:
            raise ExportFailed(f"The pipeline and {package} disagree about {missing} answers.")
        over = [name for name, difference in worst.items() if not difference <= self.family.tolerance.answer(name)]
        own = self._rounding(local, parity_check) if over else {}
        for name in over:
            if not worst[name] <= _FLOAT64_FACTOR * own.get(name, 0.0):
                raise ExportFailed(
                    f"The pipeline's {name} differ from {package}'s by {worst[name]:.3g}, allowed are "
                    f"{self.family.tolerance.answer(name):g}."
                )
        return {"pipeline_answers": float(count)} | {f"pipeline_{name}": value for name, value in worst.items()}

    def _rounding(self, local: Local, check: ParityCheck) -> dict[str, float]:
        """How far answers with the reference network in float32, between our pre and post step, are from those with
        it in float64. Nothing of pipelines of several networks, and where an answer has no partner.
        """
        if not isinstance(local, LocalPipeline):
            return {}
        graph = local.session
        try:
            local.session = _Reference(self.network, local.net, double=True)
            exact = [
                Case(sample, given, local(sample, given)) for given in check.settings for sample in check.samples()
            ]
            local.session = _Reference(self.network, local.net, double=False)
            _, missing, own = check.compare_all(local, exact)
        finally:
            local.session = graph
        return {} if missing else own


class _Reference:
    """The reference network as a session of a pipeline."""

    def __init__(self, network: Network, net: Net, double: bool):
        self._network, self._net, self._double = network, net, double

    def run(self, outputs: Sequence[str], inputs: Mapping[str, np.ndarray], /) -> list[np.ndarray]:
        """As a session's; float64 is rounded to what the post step reads."""
        found = self._network.tensors(inputs, double=self._double, role=self._net.role)
        return [found[name].astype(np.float32) if _is_real(found[name]) else found[name] for name in outputs]


def _demand_batches(net: Net, batches: Mapping[str, Tensors]) -> None:
    """Raise ExportFailed unless one of the batches is of one sample and another of several, if the network is published
    for several: tracing with one sample can write a batch of one into the graph.
    """
    sizes = {len(next(iter(inputs.values()))) for inputs in batches.values()}
    if 1 not in sizes or (net.max_batch > 1 and sizes == {1}):
        raise ExportFailed(
            f"The network '{net.role or 'model'}' must be compared on one sample and on a batch of several; its "
            f"examples have {_listed(sizes) or 'none'}."
        )


def _is_real(values: np.ndarray) -> bool:
    """Whether the values are floats, which rounding changes."""
    return np.issubdtype(values.dtype, np.floating)


def _listed(things: Iterable[object]) -> str:
    return ", ".join(sorted(map(str, things)))


def examples(chain: Chain, local: LocalPipeline) -> dict[str, Tensors]:
    """Inputs of a chain's network by name, batch axis first: one sample, another, both in one batch."""
    if isinstance(chain.pre, TextPreprocess):
        ids = np.stack([local.inputs(text)[0]["input_ids"] for text in TEXTS])
        return {"one text": {"input_ids": ids[:1]}, "a batch of texts": {"input_ids": ids}}
    photo, _ = local.inputs(sample_pictures.photo())
    pixels = photo["pixels"]
    noise = sample_pictures.noise(*pixels.shape[:2])
    if pixels.dtype == np.float32:
        noise = (noise / 255).astype(np.float32)
    batches = {
        "the photo": {"pixels": pixels[None]}, "noise": {"pixels": noise[None]},
        "a batch of both": {"pixels": np.stack([pixels, noise])},
    }  # fmt: skip
    if "valid_size" in photo:
        height, width = photo["valid_size"].tolist()
        for batch in batches.values():
            batch["valid_size"] = np.array([(height, width)] * len(batch["pixels"]), dtype=np.int32)
        batches["a batch of both"]["valid_size"][1] = height * 3 // 4, width * 5 // 8  # the rest of it is padding
    return batches
