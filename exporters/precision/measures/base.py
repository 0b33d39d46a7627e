"""What a measure is: how much of a task a model in reduced precision does as its fp32 graphs do."""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tritonvision.ensembles.entry_points import EntryPoint, TextPreprocess
from tritonvision.errors import ExportFailed
from tritonvision.exporters.contract import Tensors
from tritonvision.exporters.parity.checks.base import TEXTS
from tritonvision.exporters.parity.text_pages import TEXT
from tritonvision.exporters.precision import pictures
from tritonvision.tasks import Task

Answer = Callable[..., Tensors]
DRAWN = 12  # pictures that are asked about where nobody brings any
SAME = 0.99  # share of answers that must be the same
POINTS = 0.5  # of accuracy, in percent, that may be lost over labelled pictures
_TOKENS_A_WORD = 2  # more than those of the sentences here have on average


@dataclass(frozen=True)
class Question:
    """What a model is asked: a picture (or a text, or a conversation), and settings of the task."""

    sample: Any
    given: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """A model of which only the task is known, since a server answers for it: an entry point for :class:`Measure`."""

    task: Task
    role: str = ""


@dataclass(frozen=True)
class Finding:
    """One figure of the gate.

    Attributes:
        name: in the manifest.
        passes: whether it reaches its bar; NaN never does.
        sentence: the figure and the bar in words.
    """

    name: str
    value: float
    passes: bool
    sentence: str


def at_least(name: str, value: float, limit: float, what: str) -> Finding:
    """A finding that passes from ``limit`` on; ``what`` names the figure in a sentence."""
    return Finding(name, value, bool(value >= limit), f"{what} is {value:.5g}, and must be at least {limit:g}.")


def at_most(name: str, value: float, limit: float, what: str) -> Finding:
    """A finding that passes up to ``limit``."""
    return Finding(name, value, bool(value <= limit), f"{what} is {value:.5g}, and may be at most {limit:g}.")


@dataclass(frozen=True)
class Accuracy:
    """One figure of accuracy over labelled pictures, in percent.

    Attributes:
        what: the figure in words.
        worst: what fp32 must be better than, else the labels say nothing about this model.
        higher: whether more is better.
    """

    what: str
    worst: float
    higher: bool = True

    def finding(self, name: str, value: float, base: float) -> Finding:
        """Passes where ``value`` is at most :data:`POINTS` worse than fp32's ``base``.

        Raises:
            ExportFailed: fp32 itself is hardly better than guessing on these labels.
        """
        if not (base > self.worst if self.higher else base < self.worst):
            raise ExportFailed(
                f"The {self.what} of the fp32 model over the labelled pictures is {base:.4g} %: that proves nothing.",
                hint="The pictures and labels must be of the kind that the model was trained for.",
            )
        lost = base - value if self.higher else value - base
        return Finding(
            name, value, bool(lost <= POINTS),
            f"The {self.what} is {value:.2f} %, that of fp32 {base:.2f} %: at most {POINTS:g} points may be lost.",
        )  # fmt: skip


class Measure(ABC):
    """Compares answers of one entry point in reduced precision with those of its fp32 graphs.

    Args:
        labels: class names by class id.
        map_meaning: of dense maps, see :class:`tritonvision.publication.Manifest`.

    Attributes:
        most: pictures that are asked about without labels; few where one takes seconds.
        least: answers that must be compared for their agreement to prove anything.
        accuracies: figures of :meth:`accuracy`; empty where no format of labels is known for the task. Then a folder
            of labelled pictures is a folder of pictures.
    """

    most = 24
    least = 10
    accuracies: Mapping[str, Accuracy] = {}

    def __init__(self, point: EntryPoint | Asked, labels: Sequence[str] = (), map_meaning: str = ""):
        self.point, self.labels, self.map_meaning = point, tuple(labels), map_meaning

    def setting(self, name: str) -> Any:
        """The default of one setting of the task, None where it has no such setting."""
        return next((p.default for p in self.point.task.parameters if p.name == name), None)

    def pictures(self) -> Sequence[np.ndarray]:
        """What is asked about where nobody brings pictures: RGB uint8 ``[h,w,3]``."""
        return pictures.structured()

    def questions(self, given: Sequence[np.ndarray] | None = None) -> list[Question]:
        """Pictures with the settings that they are asked under; texts of a text's entry point.

        Args:
            given: of them at most :attr:`most` are taken; None takes drawn ones, which no calibration has seen.
        """
        pre = getattr(self.point, "pre", None)
        if isinstance(pre, TextPreprocess):
            sentences = [*TEXTS, *(part.strip() for part in TEXT.replace("\n", " ").split(".") if part.strip())]
            words = (pre.context - 2) // _TOKENS_A_WORD
            return [Question(" ".join(text.split()[:words])) for text in sentences]
        most = self.most if given is not None else min(self.most, DRAWN)
        asked = pictures.halves(self.pictures())[1] if given is None else given
        return [self.question(picture) for picture in pictures.some(asked, most)]

    def question(self, picture: np.ndarray) -> Question:
        """One of :meth:`questions`."""
        return Question(picture)

    def observe(self, answer: Answer, questions: Sequence[Question]) -> list[Any]:
        """What :meth:`agreement` compares of each answer."""
        return [answer(question.sample, question.given) for question in questions]

    @abstractmethod
    def agreement(self, base: Sequence[Any], found: Sequence[Any]) -> tuple[int, list[Finding]]:
        """How many answers were compared, and how far those of fp32 (``base``) and the others (``found``) agree: of
        each what :meth:`observe` gave.
        """

    def labelled(self, folder: Path) -> Any:
        """The labelled pictures of a folder, as :meth:`accuracy` reads them. Raises ExportFailed of another format."""
        raise NotImplementedError

    def accuracy(self, answer: Answer, data: Any) -> dict[str, float]:
        """Percentages by the names of :attr:`accuracies`."""
        raise NotImplementedError


def alike(one: Sequence[Any], other: Sequence[Any]) -> tuple[int, int]:
    """Items of two sequences that correspond, as a text comparison finds them, and of how many: the longer one's."""
    matcher = difflib.SequenceMatcher(None, list(one), list(other), autojunk=False)
    return sum(block.size for block in matcher.get_matching_blocks()), max(len(one), len(other))


def share(part: float, whole: float) -> float:
    """``part / whole``, NaN of nothing."""
    return part / whole if whole else float("nan")
