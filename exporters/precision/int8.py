"""Networks of a model to int8, with as few layers in fp32 as its gate asks for."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tritonvision.exporters.contract import Tensors
from tritonvision.exporters.pipeline import Progress
from tritonvision.exporters.precision import blame, quantize
from tritonvision.exporters.precision.gate import GateResult, Imprecise

MOST_KEPT = 0.5  # share of the layers in fp32 beyond which little would be left of int8


@dataclass(frozen=True)
class Quantised:
    """What passed.

    Attributes:
        files: the ``.xml`` of each network, by role; its ``.bin`` lies beside it.
        kept_fp32: names of the layers that the gate wants in fp32; with ``<role>: `` before those of a network that has
            a role.
        result: of the gate.
    """

    files: Mapping[str, Path]
    kept_fp32: tuple[str, ...]
    result: GateResult


def quantised(
    graphs: Mapping[str, Path], inputs: Mapping[str, Sequence[Tensors]], folder: Path,
    judge: Callable[[Mapping[str, Path]], GateResult], progress: Progress, tries: int = blame.TRIES,
) -> Quantised:  # fmt: skip
    """Quantise networks, and keep the layers in fp32 that the gate blames.

    Args:
        graphs: the ONNX file of each network, by role.
        inputs: what each is calibrated with, see :mod:`~tritonvision.exporters.precision.calibration`.
        folder: where to write: ``<role or model>.xml`` and ``.bin``.
        judge: the gate over the files so far, by role; raises Imprecise where they miss a bar.
        tries: how often, at most, networks are quantised anew to find the layers to blame; 0 blames none.

    Raises:
        Imprecise: the gate fails, and would with half of the layers in fp32, too.
        ExportFailed: a network cannot be quantised, or the pictures prove nothing.
    """
    started = time.monotonic()
    work = _Work(graphs, inputs, folder)
    work.build(())
    try:
        return Quantised(work.files, (), judge(work.files))
    except Imprecise as error:
        if not tries:
            raise
        refused = error
    progress.notice(
        f"{refused.message} Looking for the layers to keep in fp32: {tries} tries at most, some "
        f"{time.monotonic() - started:.0f} seconds each."
    )

    def passes(kept: tuple[str, ...]) -> bool:
        work.build(kept)
        try:
            judge(work.files)
        except Imprecise:
            return False
        return True

    found = blame.layers_to_keep(work.layers, passes, tries)
    if found is None or len(found) > MOST_KEPT * len(work.layers):
        progress.notice(f"No more than {MOST_KEPT:.0%} of the layers in fp32 were found to be enough.")
        raise refused
    work.build(found)
    return Quantised(work.files, found, judge(work.files))


class _Work:
    """The files so far; a network whose kept layers are the same is not quantised again.

    Attributes:
        layers: names of all layers that compute in int8 where none is kept.
    """

    def __init__(self, graphs: Mapping[str, Path], inputs: Mapping[str, Sequence[Tensors]], folder: Path):
        self._graphs, self._inputs = graphs, inputs
        self.files = {role: folder / f"{role or 'model'}.xml" for role in graphs}
        self.layers: tuple[str, ...] = ()
        self._places: dict[str, tuple[str, str]] = {}  # role and own name of each layer
        self._built: dict[str, tuple[str, ...]] = {}

    def build(self, kept: Sequence[str]) -> None:
        """Write the files with these layers in fp32; none the first time."""
        for role, graph in self._graphs.items():
            own = tuple(name for where, name in map(self._places.__getitem__, kept) if where == role)
            if self._built.get(role) != own:
                found = quantize.int8(graph, self._inputs[role], self.files[role], own)
                self._built[role] = own
                if not kept:
                    self._places |= {f"{role}: {name}" if role else name: (role, name) for name in found}
        self.layers = self.layers or tuple(self._places)
