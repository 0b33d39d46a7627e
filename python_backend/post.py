"""The post step: canonical tensors of a head kind to answers in picture pixels."""

from __future__ import annotations

import importlib
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from tritonvision.python_backend.images.resize import Geometry
from tritonvision.python_backend.step import Step, read_parameters
from tritonvision.tasks import resolve

_PADDING = {"class_ids": -1, "masks": b""}


class TritonPythonModel(Step):
    """Runs ``python_backend/postprocess/<head>.py`` on each sample.

    Answers of different length in one request are padded to the longest: with zeros or nothing, and with class id -1.
    """

    def setup(self, parameters: Mapping[str, str], args: Mapping[str, str]) -> None:
        """The postprocessor and its options stand in the config."""
        self.options = json.loads(parameters.get("options", "{}"))
        self.head = importlib.import_module(
            f"tritonvision.python_backend.postprocess.{parameters['head'].replace('-', '_')}"
        )

    def answer(self, tensors: dict[str, np.ndarray], wanted: Collection[str]) -> dict[str, np.ndarray]:
        """Canonical tensors ``[B,...]`` to the head's outputs and ``image_size`` int32 ``[B,2]`` (height, width)."""
        geometries = [Geometry.from_array(row) for row in tensors["geometry"]]
        settings = read_parameters(tensors, len(geometries))
        names = [name for name in tensors if name not in ("geometry", "parameters")]
        answers = []
        for i, (geometry, given) in enumerate(zip(geometries, settings, strict=True)):
            sample = {name: tensors[name][i] for name in names}
            answers.append(self.head.post(sample, geometry, resolve(self.head.TASK.parameters, given), **self.options))
        outputs = stack_padded(answers)
        outputs["image_size"] = np.array([(g.height, g.width) for g in geometries], dtype=np.int32)
        return outputs


def stack_padded(answers: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The answers of one request, batch axis first, each padded to the longest."""
    return {name: _stack([a[name] for a in answers], _PADDING.get(name, 0)) for name in answers[0]}


def _stack(rows: Sequence[np.ndarray], fill: Any) -> np.ndarray:
    if len(rows) == 1:
        return rows[0][None]
    shape = np.max([row.shape for row in rows], axis=0)
    if all(row.shape == tuple(shape) for row in rows):
        return np.stack(rows)
    padded = np.full((len(rows), *shape), fill, dtype=rows[0].dtype)
    for target, row in zip(padded, rows, strict=True):
        target[tuple(slice(length) for length in row.shape)] = row
    return padded
