"""The post step: canonical tensors of a head kind to answers in picture pixels."""

from __future__ import annotations

import importlib
import json
from collections.abc import Collection, Mapping

import numpy as np

from tritonvision.python_backend.batching import stack_padded
from tritonvision.python_backend.images.resize import Geometry
from tritonvision.python_backend.step import Step, read_parameters
from tritonvision.tasks import resolve


class TritonPythonModel(Step):
    """Runs ``python_backend/postprocess/<head>.py`` on each sample; answers of different length are padded."""

    def setup(self, parameters: Mapping[str, str], args: Mapping[str, str]) -> None:
        """The postprocessor and its options stand in the config."""
        self.options = json.loads(parameters.get("options", "{}"))
        self.head = importlib.import_module(
            f"tritonvision.python_backend.postprocess.{parameters['head'].replace('-', '_')}"
        )

    def answer(self, tensors: dict[str, np.ndarray], wanted: Collection[str]) -> dict[str, np.ndarray]:
        """Canonical tensors ``[B,...]`` to the head's outputs and ``image_size`` int32 ``[B,2]`` (height, width).

        Raises:
            InvalidParameter: a setting is wrong, or the answers do not fit one batch.
        """
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
