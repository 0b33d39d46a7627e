"""How embeddings and dense maps in reduced precision are compared with fp32's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tritonvision.exporters.contract import NoSignal, Tensors
from tritonvision.exporters.precision import labelled
from tritonvision.exporters.precision.measures.base import (
    POINTS,
    Accuracy,
    Answer,
    Finding,
    Measure,
    Question,
    at_least,
    at_most,
)
from tritonvision.publication import FEATURES

_COSINE = 0.999
_COSINE_OF_FEATURES = 0.98  # of a classifier: int8 that names the same classes moves its features by up to that
_MAP = POINTS  # percent: if every difference from fp32 were an error, that much would be lost


class Embeddings(Measure):
    """Vectors of pictures or of texts: each must point where fp32's does."""

    def agreement(self, base: Sequence[Any], found: Sequence[Any]) -> tuple[int, list[Finding]]:
        """``cosine``: the smallest. Raises NoSignal where those of fp32 all point the same way to within the bar."""
        ours, theirs = (_unit(np.stack([one["embeddings"] for one in side])) for side in (base, found))
        bar = _COSINE_OF_FEATURES if self.point.role == FEATURES else _COSINE
        if float((ours @ ours.T).min()) >= bar:
            raise NoSignal("Every question gives the same vector in fp32; that proves nothing.")
        smallest = float((ours * theirs).sum(1).min())
        return len(base), [at_least("cosine", smallest, bar, "The smallest cosine between a vector and fp32's")]


def _unit(vectors: np.ndarray) -> np.ndarray:
    wide = vectors.astype(np.float64)
    return wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-30)


class Map(Measure):
    """Dense maps: their mean difference in percent of the mean value; over labels, by how much their error grows."""

    most = 12
    accuracies = {"absrel": Accuracy("mean error of depth", 100, higher=False)}

    def observe(self, answer: Answer, questions: Sequence[Question]) -> list[np.ndarray]:
        """The maps in their own unit, float32."""
        return [_values(answer(question.sample, question.given)) for question in questions]

    def agreement(self, base: Sequence[Any], found: Sequence[Any]) -> tuple[int, list[Finding]]:
        """``absrel``: the mean over pictures, in percent."""
        apart = [
            100 * float(np.abs(theirs - ours).mean() / max(float(np.abs(ours).mean()), 1e-30))
            for ours, theirs in zip(base, found, strict=True)
        ]
        what = "The mean difference from the map of fp32, in percent of its mean value,"
        return len(apart), [at_most("absrel", float(np.mean(apart)), _MAP, what)]

    def labelled(self, folder: Path) -> list[tuple[Path, Path]]:
        """Pictures, and beside each a ``.npy`` or a 16-bit ``.png`` of its depth."""
        return labelled.depth_pairs(folder)

    def accuracy(self, answer: Answer, data: list[tuple[Path, Path]]) -> dict[str, float]:
        """``absrel``: mean of ``|found - true| / true`` where the truth is known, in percent.

        Maps of inverse depth know neither scale nor offset: both are fitted to each picture.
        """
        errors = []
        for picture, depth in data:
            found = _values(answer(labelled.read(picture), {}))
            truth = labelled.depth(depth, found.shape)
            known = np.isfinite(truth) & (truth > 0)
            errors.append(100 * _relative_error(found[known], truth[known], self.map_meaning == "inverse-depth"))
        return {"absrel": float(np.mean(errors))}


def _values(answer: Tensors) -> np.ndarray:
    """The map in its own unit; a client of a server has it as ``values``."""
    if "values" in answer:
        return answer["values"]
    low, high = (float(v) for v in answer["range"])
    return (low + answer["map"].astype(np.float32) * ((high - low) / 65535)).astype(np.float32)


def _relative_error(found: np.ndarray, truth: np.ndarray, inverse: bool) -> float:
    """Mean of ``|found - true| / true``; of inverse depth after the best scale and offset, and at most 1 a pixel; NaN
    of what is not a number anywhere.
    """
    if not np.isfinite(found).all():
        return float("nan")
    if inverse:
        scale, offset = np.polyfit(found.astype(np.float64), 1 / truth.astype(np.float64), 1)
        found = 1 / np.maximum(scale * found + offset, 1e-6)
    return float(np.minimum(np.abs(found - truth) / truth, 1).mean())
