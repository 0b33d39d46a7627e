"""The Triton step around a composition, which runs networks and models by BLS or in its own process."""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import triton_python_backend_utils as pb_utils

from tritonvision.errors import ServerUnavailable, from_wire
from tritonvision.python_backend.batching import stack_padded
from tritonvision.python_backend.runtime.sequences import CONTROLS, Sequences
from tritonvision.python_backend.runtime.sessions import Sessions, network_files
from tritonvision.python_backend.step import Step, identity, read_parameters
from tritonvision.tasks import resolve


class TritonPythonModel(Step):
    """Runs ``python_backend/compositions/<composition>.py`` on each sample."""

    def setup(self, parameters: Mapping[str, str], args: Mapping[str, str]) -> None:
        """The composition, its constants and the names of its networks stand in the config."""
        cv2.setNumThreads(1)
        name = parameters["composition"].replace("-", "_")
        self.module = importlib.import_module(f"tritonvision.python_backend.compositions.{name}")
        folder = Path(args["model_repository"]) / args["model_version"]
        self.nets: dict[str, str] = json.loads(parameters.get("nets", "{}"))
        files = network_files(folder, parameters.get("sessions", "{}"))
        self.sessions = Sessions(files) if files else None
        assets = {name: (folder / name).read_bytes() for name in json.loads(parameters.get("assets", "[]"))}
        options = {**json.loads(parameters["options"]), "model": identity(args, parameters), "assets": assets}
        self.composition = self.module.Composition(self.call, options)
        sequence = json.loads(parameters.get("sequence", "{}"))
        self.sequences = Sequences(self.composition.begin, **sequence) if sequence else None

    def answer(self, tensors: dict[str, np.ndarray], wanted: Collection[str]) -> dict[str, np.ndarray]:
        """Inputs ``[B,...]`` to what the caller asked for.

        A composition with sequences has ``begin()``, which makes the state of one, and is given that state with each
        of its requests.

        Raises:
            InvalidParameter: answers do not fit a batch, or the sequence of the request is not known here.
        """
        if self.sequences is None:
            return self._answer(tensors, wanted)
        state = self.sequences.of(tensors)
        try:
            return self._answer({n: v for n, v in tensors.items() if n not in CONTROLS}, wanted, state)
        finally:
            self.sequences.end(tensors)

    def _answer(
        self, tensors: dict[str, np.ndarray], wanted: Collection[str], *state: Any
    ) -> dict[str, np.ndarray]:
        wanted = set(wanted)
        count = len(next(iter(tensors.values())))
        answers = []
        for i, given in enumerate(read_parameters(tensors, count)):
            sample = {name: value[i] for name, value in tensors.items() if name != "parameters"}
            if "image" in sample:
                sample["image"] = sample["image"].reshape(-1)[0]
            answers.append(self.composition.answer(sample, resolve(self.module.TASK.parameters, given), wanted, *state))
        return stack_padded([{name: value for name, value in answer.items() if name in wanted} for answer in answers])

    def call(
        self, model: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """Outputs of a network (by role) or a published model (by its Triton name), batch axis first. Raises its error,
        or ServerUnavailable.
        """
        if self.sessions is not None:
            self.heart.step()
            began = time.monotonic_ns()
            found = self.sessions(model, inputs, outputs)
            self.teller.tell(self.request_id, f"net--{self.name}--{model}", began, time.monotonic_ns())
            return found
        request = pb_utils.InferenceRequest(
            model_name=self.nets.get(model, model),
            request_id=self.request_id,
            requested_output_names=list(outputs),
            inputs=[pb_utils.Tensor(name, value) for name, value in inputs.items()],
        )
        with self.heart.waiting():
            response = request.exec()
        if response.has_error():
            text = response.error().message()
            raise from_wire(text) or ServerUnavailable(f"A part of the model does not answer: {self.name}.")
        return {name: pb_utils.get_output_tensor_by_name(response, name).as_numpy() for name in outputs}
