"""The post step: canonical tensors of a head kind to answers in picture pixels."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence

import numpy as np

from tritonvision.python_backend.resize import Geometry
from tritonvision.python_backend.step import Step, read_parameters
from tritonvision.tasks import resolve


class TritonPythonModel(Step):
    """Runs ``python_backend/heads/<head>.py`` on each sample.

    Answers of different length in one request are padded to the longest: with zeros, and with class id -1.
    """

    def setup(self, parameters: Mapping[str, str], args: Mapping[str, str]) -> None:
        """The head kind stands in the config."""
        self.head = importlib.import_module(f"tritonvision.python_backend.heads.{parameters['head'].replace('-', '_')}")

    def answer(self, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Canonical tensors ``[B,...]`` to the head's outputs and ``image_size`` int32 ``[B,2]`` (height, width)."""
        geometries = [Geometry.from_array(row) for row in tensors["geometry"]]
        settings = read_parameters(tensors, len(geometries))
        names = [name for name in tensors if name not in ("geometry", "parameters")]
        answers = []
        for i, (geometry, given) in enumerate(zip(geometries, settings, strict=True)):
            sample = {name: tensors[name][i] for name in names}
            answers.append(self.head.post(sample, geometry, resolve(self.head.TASK.parameters, given)))
        outputs = {name: _stack([a[name] for a in answers], -1 if name == "class_ids" else 0) for name in answers[0]}
        outputs["image_size"] = np.array([(g.height, g.width) for g in geometries], dtype=np.int32)
        return outputs


def _stack(rows: Sequence[np.ndarray], fill: int) -> np.ndarray:
    longest = max(len(row) for row in rows)
    if all(len(row) == longest for row in rows):
        return np.stack(rows)
    padded = np.full((len(rows), longest, *rows[0].shape[1:]), fill, dtype=rows[0].dtype)
    for target, row in zip(padded, rows, strict=True):
        target[: len(row)] = row
    return padded
