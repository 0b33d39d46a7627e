"""Ensembles as a Python-based backend: the steps around a network run in its process, one after the other.

As ``<backend-directory>/chain/model.py`` it serves the configs that ``tritonvision/server/fusion.py`` makes.
"""

from __future__ import annotations

import importlib
import json
import runpy
import time
from collections.abc import Collection, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from tritonvision.python_backend.step import Step, parameters_of


class TritonPythonModel(Step):
    """A network and the ensembles around it. What a request wants tells which of them it asks: outputs of an ensemble
    have its name before their own, those of the network have none.
    """

    @staticmethod
    def auto_complete_config(config):
        """Configs are complete: they are generated."""
        return config

    def setup(self, parameters: Mapping[str, str], args: Mapping[str, str]) -> None:
        """Open the network by the backend of its engine, and the steps by their own ``model.py``."""
        chain = json.loads(parameters["chain"])
        backend = importlib.import_module(f"tritonvision.python_backend.{chain['engine']}_backend")
        self.steps: dict[str, Step] = {self.name: backend.TritonPythonModel()}
        own = {key: [t for t in self.config[key[:-1]] if t["name"] in chain[key]] for key in ("inputs", "outputs")}
        self.steps[self.name].config = {**self.config, "input": own["inputs"], "output": own["outputs"]}
        self.steps[self.name].setup(parameters, args)
        repository = Path(args["model_repository"]).parent
        for name, config in chain["steps"].items():
            self.steps[name] = _opened(repository / name, config, args)
        self.ensembles: dict[str, dict[str, Any]] = chain["ensembles"]
        self.answered_by = {output: name for name, told in self.ensembles.items() for output in told["outputs"]}

    def answer(self, tensors: dict[str, np.ndarray], wanted: Collection[str]) -> dict[str, np.ndarray]:
        """Outputs of the ensemble that is asked, or of the network."""
        with getattr(self.steps[self.name], "siblings", nullcontext()):  # busy from the first step on
            return self._answer(tensors, wanted)

    def _answer(self, tensors: dict[str, np.ndarray], wanted: Collection[str]) -> dict[str, np.ndarray]:
        asked = next((self.answered_by[name] for name in wanted if name in self.answered_by), None)
        if asked is None:
            return self._run(self.name, tensors)
        found = dict(tensors)
        for step in self.ensembles[asked]["steps"]:
            given = {name: found[source] for name, source in step["inputs"].items() if source in found}
            answer = self._run(step["model"], given)
            found |= {target: answer[name] for name, target in step["outputs"].items() if name in answer}
        return {output: found[tensor] for output, tensor in self.ensembles[asked]["outputs"].items()}

    def _run(self, step: str, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.heart.step()  # each has the whole time
        began = time.monotonic_ns()
        try:
            return self.steps[step].answer(tensors, ())
        finally:
            self.teller.tell(self.request_id, step, began, time.monotonic_ns())

    def tell(self, began: int) -> None:
        """The steps are told of one by one."""


def _opened(folder: Path, config: Mapping[str, Any], args: Mapping[str, str]) -> Step:
    """A shared step as its own process would open it."""
    step: Step = runpy.run_path(str(folder / args["model_version"] / "model.py"))["TritonPythonModel"]()
    step.config, step.name = dict(config), folder.name
    step.setup(parameters_of(config), {**args, "model_repository": str(folder), "model_name": folder.name})
    return step
