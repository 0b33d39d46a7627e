"""The precision gate: nothing in reduced precision is published that does not do the task as its fp32 graphs do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tritonvision.ensembles.entry_points import EntryPoint
from tritonvision.errors import ExportFailed
from tritonvision.exporters.precision import pictures as picture_sets
from tritonvision.exporters.precision.measures.base import Answer, Finding, Measure, Question
from tritonvision.exporters.precision.measures.registry import MEASURES

LABELLED, AGREEMENT = "labelled", "agreement"


class Imprecise(ExportFailed):
    """A reduced precision misses its bar: the sentence names the figure and the bar.

    Args:
        findings: all figures, those that pass included.
    """

    def __init__(self, name: str, findings: Sequence[Finding]):
        missed = " ".join(finding.sentence for finding in findings if not finding.passes)
        super().__init__(
            f"{name} does not do what fp32 does: {missed}",
            hint="The fp32 model stays as it is. Another precision, or calibration with pictures of the kind that the "
            "model is for (--calibrate FOLDER), may pass.",
        )
        self.findings = tuple(findings)


@dataclass(frozen=True)
class GateResult:
    """What a passed gate has shown.

    Attributes:
        figures: name to number; with ``<role>_`` before those of further entry points. Of accuracies, ``<name>_fp32``
            is what the fp32 graphs reach.
        shown: ``labelled``: accuracy over labelled pictures; or ``agreement``: with the fp32 pipeline.
    """

    figures: Mapping[str, float]
    shown: str


@dataclass(frozen=True)
class Gate:
    """The fp32 pipelines of a model, ready to be compared with as many candidates as come.

    Args:
        base: how to ask each entry point of the fp32 model, by role.
        points: the entry points whose networks change.
        labelled: folder of labelled pictures, see :mod:`~tritonvision.exporters.precision.labelled`; None shows
            agreement instead.
        pictures: RGB uint8 ``[h,w,3]`` to show agreement on; None takes drawn ones.
        labels: class names by class id.
        map_meaning: of dense maps, see :class:`tritonvision.publication.Manifest`.
    """

    base: Mapping[str, Answer]
    points: Sequence[EntryPoint]
    labelled: Path | None = None
    pictures: Sequence[np.ndarray] | None = None
    labels: Sequence[str] = ()
    map_meaning: str = ""

    def check(self, candidate: Mapping[str, Answer], name: str = "The reduced precision") -> GateResult:
        """Compare ``candidate``, asked as ``base``, with it.

        Args:
            name: of the candidate, to begin a sentence with.

        Raises:
            Imprecise: it misses a bar.
            ExportFailed: the pictures prove nothing, or the labelled folder is of another format.
        """
        findings: list[Finding] = []
        figures: dict[str, float] = {}
        for trial in self._trials:
            role = trial.measure.point.role
            for finding in trial.findings(candidate[role]):
                findings.append(finding)
                figures[f"{role}_{finding.name}" if role else finding.name] = finding.value
            figures |= {f"{role}_{key}" if role else key: value for key, value in trial.reached.items()}
        if not all(finding.passes for finding in findings):
            raise Imprecise(name, findings)
        return GateResult(figures, LABELLED if any(isinstance(t, _OverLabels) for t in self._trials) else AGREEMENT)

    def prepare(self) -> None:
        """Read the names of pictures and the labels. Raises ExportFailed of a folder that holds none, or others."""
        _ = self._trials

    @cached_property
    def _trials(self) -> list[_Agreement | _OverLabels]:
        trials: list[_Agreement | _OverLabels] = []
        for point in self.points:
            measure, base = MEASURES[point.name](point, self.labels, self.map_meaning), self.base[point.role]
            if self.labelled is not None and measure.accuracies:
                trials.append(_OverLabels(measure, base, measure.labelled(self.labelled)))
                continue
            given = self.pictures if self.labelled is None else picture_sets.of_folder(self.labelled)
            trials.append(_Agreement(measure, base, measure.questions(given)))
        return trials


@dataclass(frozen=True)
class _Agreement:
    """One entry point without labels. What fp32 answers is asked once."""

    measure: Measure
    base: Answer
    questions: Sequence[Question]
    reached: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def _wanted(self) -> list[Any]:
        return self.measure.observe(self.base, self.questions)

    def findings(self, candidate: Answer) -> list[Finding]:
        """Raises ExportFailed where there is too little to compare."""
        count, findings = self.measure.agreement(self._wanted, self.measure.observe(candidate, self.questions))
        if count < self.measure.least:
            raise ExportFailed(
                f"On {len(self.questions)} questions about pictures the model gives {count} answers to compare, at "
                f"least {self.measure.least} must be: that proves nothing.",
                hint="Bring pictures of the kind that the model is for: --calibrate FOLDER, or labelled ones with "
                "--gate-data FOLDER.",
            )
        return findings


@dataclass(frozen=True)
class _OverLabels:
    """One entry point over labelled pictures. What fp32 reaches is measured once."""

    measure: Measure
    base: Answer
    data: Any

    @cached_property
    def _wanted(self) -> dict[str, float]:
        return self.measure.accuracy(self.base, self.data)

    @property
    def reached(self) -> dict[str, float]:
        """What fp32 reaches, by figure."""
        return {f"{name}_fp32": self._wanted[name] for name in self.measure.accuracies}

    def findings(self, candidate: Answer) -> list[Finding]:
        """Raises ExportFailed where fp32 itself is no better than guessing."""
        found = self.measure.accuracy(candidate, self.data)
        return [
            accuracy.finding(name, found[name], self._wanted[name])
            for name, accuracy in self.measure.accuracies.items()
        ]
