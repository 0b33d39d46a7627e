"""What the networks of a model are asked while it answers: the inputs that int8 is calibrated with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tritonvision.ensembles.entry_points import Chain, EntryPoint
from tritonvision.exporters.contract import Tensors
from tritonvision.exporters.precision import pictures
from tritonvision.exporters.precision.measures.registry import MEASURES

if TYPE_CHECKING:
    from tritonvision.ensembles.in_process import LocalChat, LocalComposition, LocalNet, LocalPipeline

_MOST = 64  # inputs of a network
_BYTES = 512 << 20  # that those of a network may take
"""Beyond these, every further input costs time and memory and moves no range of values."""


def sets(folder: Path | None) -> tuple[Sequence[np.ndarray] | None, Sequence[np.ndarray] | None]:
    """Pictures of the folder to calibrate with, and others of it to judge by; None and None without a folder: the
    drawn pictures of each task. Raises ExportFailed where the folder holds none.
    """
    return (None, None) if folder is None else pictures.halves(pictures.of_folder(folder))


def inputs(
    points: Sequence[EntryPoint], base: Mapping[str, LocalPipeline | LocalComposition | LocalChat],
    given: Sequence[np.ndarray] | None = None,
) -> dict[str, list[Tensors]]:  # fmt: skip
    """Ask the fp32 model about pictures, and keep what each of its networks reads.

    Args:
        points: the entry points.
        base: their pipelines in this process, by role.
        given: pictures, or None for drawn ones.

    Returns:
        By role of a network: at most 64 inputs by name, batch axis first.
    """
    found: dict[str, list[Tensors]] = {}
    for point in points:
        local, measure = base[point.role], MEASURES[point.name](point)
        nets = {point.role: local} if isinstance(point, Chain) else local.nets
        asked = measure.questions(given if given is not None else pictures.halves(measure.pictures())[0])
        with ExitStack() as recording:
            records = {role: recording.enter_context(_recorded(net)) for role, net in nets.items()}
            for question in asked:
                local(question.sample, question.given)
        for role, record in records.items():
            found.setdefault(role, []).extend(record)
    return {role: _some(record) for role, record in found.items()}


@contextmanager
def _recorded(net: LocalNet) -> Iterator[list[Tensors]]:
    """What ``net`` is asked meanwhile."""
    record, ask = [], net.tensors

    def tensors(asked: Mapping[str, np.ndarray]) -> Tensors:
        record.append({name: np.array(value) for name, value in asked.items()})
        return ask(asked)

    net.tensors = tensors  # type: ignore[method-assign]
    try:
        yield record
    finally:
        del net.tensors


def _some(record: Sequence[Tensors]) -> list[Tensors]:
    """Evenly spread over the record."""
    largest = max((sum(value.nbytes for value in one.values()) for one in record), default=1)
    count = min(len(record), _MOST, max(_BYTES // max(largest, 1), 1))
    return [record[i * len(record) // count] for i in range(count)]
