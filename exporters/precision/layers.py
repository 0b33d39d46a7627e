"""Networks of a model in reduced precision, with as few layers in fp32 as its gate asks for."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tritonvision.exporters.pipeline import Progress
from tritonvision.exporters.precision import blame
from tritonvision.exporters.precision.gate import GateResult, Imprecise

MOST_KEPT = 0.5  # share of the layers in fp32 beyond which little would be left of the reduced precision

Write = Callable[[str, Path, Sequence[str]], Sequence[str]]
"""``write(role, target, kept)`` writes the file of a network, and what belongs to it beside that, with the layers
``kept`` in fp32; returns the names of those that are not, in the order of the graph.
"""


@dataclass(frozen=True)
class Reduced:
    """What passed.

    Attributes:
        files: of each network, by role; what belongs to it lies beside it.
        kept_fp32: names of the layers that the gate wants in fp32; with ``<role>: `` before those of a network that has
            a role.
        result: of the gate.
    """

    files: Mapping[str, Path]
    kept_fp32: tuple[str, ...]
    result: GateResult


def reduced(
    write: Write, roles: Collection[str], folder: Path, judge: Callable[[Mapping[str, Path]], GateResult],
    progress: Progress, tries: int = blame.TRIES, control: Callable[[Imprecise], None] = lambda refused: None,
    name: Callable[[str], str] = lambda role: f"{role or 'model'}.xml",
) -> Reduced:  # fmt: skip
    """Write networks in reduced precision, and keep the layers in fp32 that the gate blames.

    Args:
        write: see :data:`Write`.
        roles: of the networks.
        folder: where to write.
        judge: the gate over the files so far, by role; raises Imprecise where they miss a bar.
        tries: how often, at most, networks are written anew to find the layers to blame; 0 blames none.
        control: told why the first try was refused, before the search begins; raises where no search can help.
        name: of the file of a network, by its role.

    Raises:
        Imprecise: the gate fails, and would with half of the layers in fp32, too.
        ExportFailed: a network cannot be written, or the pictures prove nothing.
    """
    started = time.monotonic()
    work = _Work(write, {role: folder / name(role) for role in roles})
    work.build(())
    try:
        return Reduced(work.files, (), judge(work.files))
    except Imprecise as error:
        if not tries:
            raise
        refused = error
    seconds = time.monotonic() - started
    control(refused)
    progress.notice(
        f"{refused.message} Looking for the layers to keep in fp32: {tries} tries at most, some {seconds:.0f} seconds "
        "each."
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
    return Reduced(work.files, found, judge(work.files))


class _Work:
    """The files so far; a network whose kept layers are the same is not written again.

    Attributes:
        layers: names of all layers that are in reduced precision where none is kept.
    """

    def __init__(self, write: Write, files: Mapping[str, Path]):
        self._write = write
        self.files = files
        self.layers: tuple[str, ...] = ()
        self._places: dict[str, tuple[str, str]] = {}  # role and own name of each layer
        self._built: dict[str, tuple[str, ...]] = {}

    def build(self, kept: Sequence[str]) -> None:
        """Write the files with these layers in fp32; none the first time."""
        for role, file in self.files.items():
            own = tuple(name for where, name in map(self._places.__getitem__, kept) if where == role)
            if self._built.get(role) != own:
                found = self._write(role, file, own)
                self._built[role] = own
                if not kept:
                    self._places |= {f"{role}: {name}" if role else name: (role, name) for name in found}
        self.layers = self.layers or tuple(self._places)
