"""What the networks of a model are asked while it answers: the inputs that int8 is calibrated with."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from tritonvision.ensembles.entry_points import EntryPoint
from tritonvision.ensembles.in_process import LocalChat, LocalComposition, LocalNet, LocalPipeline
from tritonvision.exporters.contract import Tensors
from tritonvision.exporters.precision import pictures
from tritonvision.exporters.precision.measures.registry import MEASURES
from tritonvision.python_backend.runtime.engines import NetworkSession

Local = LocalPipeline | LocalComposition | LocalChat

# Beyond these, every further input costs time and memory and moves no range of values.
_MOST = 64  # inputs of a network
_BYTES = 512 << 20  # that those of a network may take


def sets(folder: Path | None) -> tuple[Sequence[np.ndarray] | None, Sequence[np.ndarray] | None]:
    """Pictures of the folder to calibrate with, and others of it to judge by; None and None without a folder: the
    drawn pictures of each task. Raises ExportFailed where the folder holds none.
    """
    return (None, None) if folder is None else pictures.halves(pictures.of_folder(folder))


def inputs(
    points: Sequence[EntryPoint], base: Mapping[str, Local], given: Sequence[np.ndarray] | None = None,
    roles: Collection[str] | None = None,
) -> dict[str, list[Tensors]]:  # fmt: skip
    """Ask the fp32 model about pictures, and keep what each of its networks reads.

    Args:
        points: the entry points.
        base: their pipelines in this process, by role.
        given: pictures, or None for drawn ones.
        roles: of the networks that are of interest; None for all.

    Returns:
        By role of a network: at least one and at most 64 inputs by name, batch axis first.
    """
    found: dict[str, list[Tensors]] = {}
    for point in points:
        local, measure = base[point.role], MEASURES[point.name](point)
        wanted = [net.role for net in point.nets if roles is None or net.role in roles]
        if not wanted:
            continue
        asked = measure.questions(given if given is not None else pictures.halves(measure.pictures())[0])
        with ExitStack() as recording:
            records = {role: recording.enter_context(_recorded(local, role)) for role in wanted}
            for question in asked:
                local(question.sample, question.given)
            if not all(records.values()):
                # a network behind another one found nothing to do, or a picture was encoded before and is kept
                mirrored = [np.ascontiguousarray(picture[:, ::-1]) for picture in measure.pictures()[:1]]
                for question in measure.questions(mirrored):
                    local(question.sample, question.given)
        for role, record in records.items():
            found.setdefault(role, []).extend(record)
    return {role: _some(record) for role, record in found.items()}


class _Recorder:
    """A session that keeps what it is asked."""

    def __init__(self, session: NetworkSession):
        self._session = session
        self.record: list[Tensors] = []

    def run(self, outputs: Sequence[str], inputs: Mapping[str, np.ndarray], /) -> list[np.ndarray]:
        """As the session's."""
        self.record.append({name: np.array(value) for name, value in inputs.items()})
        return self._session.run(outputs, inputs)


@contextmanager
def _recorded(local: Local, role: str) -> Iterator[list[Tensors]]:
    """What one network of ``local`` is asked meanwhile."""
    net = local if isinstance(local, LocalPipeline) else local.nets[role]
    session, recorder = net.session, _Recorder(net.session)
    _answers(local, net, role, recorder)
    try:
        yield recorder.record
    finally:
        _answers(local, net, role, session)


def _answers(local: Local, net: LocalNet, role: str, session: NetworkSession) -> None:
    """Let ``session`` answer for a network."""
    net.session = session
    if isinstance(local, LocalChat):
        local.sessions.replace(role, session)


def _some(record: Sequence[Tensors]) -> list[Tensors]:
    """Evenly spread over the record."""
    largest = max((sum(value.nbytes for value in one.values()) for one in record), default=1)
    count = min(len(record), _MOST, max(_BYTES // max(largest, 1), 1))
    return [record[i * len(record) // count] for i in range(count)]
