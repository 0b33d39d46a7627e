"""How classes in reduced precision are compared with fp32's: by the best of each picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tritonvision.exporters.precision import labelled
from tritonvision.exporters.precision.measures.base import SAME, Accuracy, Answer, Finding, Measure, at_least, share

_TIE = 0.99  # of the best score: a class that has so much of it may be the best as well


class Classes(Measure):
    """The best class of each picture, also where classes do not exclude each other.

    It is the same answer when fp32 gives that class at least 99 % of its own best score: such a tie is decided by
    rounding.
    """

    accuracies = {"top1": Accuracy("accuracy of the best class", 5)}

    def agreement(self, base: Sequence[Any], found: Sequence[Any]) -> tuple[int, list[Finding]]:
        """``top1``: the share of pictures whose best class is the same."""
        same = sum(
            ours["scores"][int(theirs["scores"].argmax())] >= _TIE * ours["scores"].max()
            for ours, theirs in zip(base, found, strict=True)
            if np.isfinite(theirs["scores"]).all()
        )
        what = "The share of pictures with the same best class as in fp32"
        return len(base), [at_least("top1", share(float(same), len(base)), SAME, what)]

    def labelled(self, folder: Path) -> list[tuple[Path, int]]:
        """A folder a class."""
        return labelled.class_folders(folder, self.labels)

    def accuracy(self, answer: Answer, data: list[tuple[Path, int]]) -> dict[str, float]:
        """``top1`` and ``top5``: percent of pictures whose folder's class is the best, or among the five best."""
        best = [np.argsort(-answer(labelled.read(path), {})["scores"], kind="stable")[:5] for path, _ in data]
        pairs = zip(best, data, strict=True)
        places = [ranks.tolist().index(label) if label in ranks else 5 for ranks, (_, label) in pairs]
        return {f"top{n}": 100 * share(sum(place < n for place in places), len(data)) for n in (1, 5)}
