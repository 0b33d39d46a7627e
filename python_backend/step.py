"""The base of our Triton steps: settings from the config, an answer or error for each request, a heartbeat."""

from __future__ import annotations

import hashlib
import json
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from tritonvision.errors import (
    OUT_OF_MEMORY,
    InvalidParameter,
    NoRoom,
    TritonVisionError,
    is_out_of_memory,
    to_wire,
)
from tritonvision.heartbeat import Heart, longest_work
from tritonvision.publication import MANIFEST, VARIANT_PARAMETER
from tritonvision.step_reports import Teller


class Step(ABC):
    """Base of the Python models: subclasses fill :meth:`setup` and :meth:`answer`.

    Requests are answered or refused one by one; a refusal does not affect others and has no traceback for the caller.

    Attributes:
        weights: the folder whose size decides how long one answer may take, see :func:`heartbeat.longest_work`.
        teller: tells how long this process worked on each request.
        request_id: of the request that is being answered.
    """

    def initialize(self, args: Mapping[str, str]) -> None:
        """Triton's hook: read the config, then touch the heartbeat file until the server stops."""
        self.config = json.loads(args["model_config"])
        self.name = args["model_name"]
        self.weights = Path(args["model_repository"]) / args["model_version"]
        with refusing_to_load():
            self.setup(parameters_of(self.config), args)
        self.heart = Heart(longest_work(self.weights))
        self.teller, self.request_id = Teller(), ""

    @abstractmethod
    def setup(self, parameters: Mapping[str, str], args: Mapping[str, str]) -> None:
        """Prepare from the ``parameters`` of ``config.pbtxt`` and Triton's own arguments.

        A TritonVisionError is told to whoever asked for the model.
        """

    @abstractmethod
    def answer(self, tensors: dict[str, np.ndarray], wanted: Collection[str]) -> dict[str, np.ndarray]:
        """Output tensors of one request, batch axis first. Raises TritonVisionError to refuse it.

        Args:
            wanted: names of the outputs the caller asked for; others may be left out.
        """

    def execute(self, requests: list) -> list:
        """Triton's hook: one response a request."""
        with self.heart:
            return [self._respond(request) for request in requests]

    def _respond(self, request):
        self.heart.step()
        self.request_id, began = request.request_id(), time.monotonic_ns()
        # is_cancelled() is not called: it is a round trip to the server, and tells nothing within an ensemble
        try:
            inputs = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
            outputs = self.answer(inputs, request.requested_output_names())
            return pb_utils.InferenceResponse([pb_utils.Tensor(name, value) for name, value in outputs.items()])
        except Exception as error:  # the boundary of the process
            return pb_utils.InferenceResponse(error=refusal_of(error, self.name))
        finally:
            self.tell(began)

    def tell(self, began: int) -> None:
        """Tell how long this process worked on the request, since ``began``, nanoseconds of the monotonic clock."""
        self.teller.tell(self.request_id, self.name, began, time.monotonic_ns())


def parameters_of(config: Mapping[str, Any]) -> dict[str, str]:
    """The ``parameters`` of a config, as the JSON of Triton has it."""
    return {key: value["string_value"] for key, value in config.get("parameters", {}).items()}


@contextmanager
def refusing_to_load() -> Iterator[None]:
    """A TritonVisionError in here is why the model is not loaded, and its sentence is all that is said of it."""
    try:
        yield
    except TritonVisionError as error:
        raise pb_utils.TritonModelException(to_wire(error)) from None


def identity(args: Mapping[str, str], parameters: Mapping[str, str]) -> str:
    """A key for cached results: changes with the model, with each publication of it and with the variant that runs."""
    manifest = Path(args["model_repository"]) / MANIFEST
    published = hashlib.sha256(manifest.read_bytes()).hexdigest()
    return f"{args['model_name']} {published} {parameters.get(VARIANT_PARAMETER, '')}"


def refusal_of(error: Exception, model: str) -> Any:
    """The Triton error for the caller.

    A TritonVisionError is its code and sentence. Any other error is a bug, or memory did not suffice: its traceback
    goes to the log of ``model``, and the caller gets a general sentence.
    """
    if isinstance(error, TritonVisionError):
        return pb_utils.TritonError(to_wire(error), pb_utils.TritonError.INVALID_ARG)
    pb_utils.Logger.log_error(f"{model}: {''.join(traceback.format_exception(error))}")
    failure = TritonVisionError("The model failed on this input.")
    if isinstance(error, MemoryError) or is_out_of_memory(str(error)):
        failure = NoRoom(OUT_OF_MEMORY)
    return pb_utils.TritonError(to_wire(failure), pb_utils.TritonError.INTERNAL)


def read_parameters(tensors: Mapping[str, np.ndarray], batch: int) -> list[dict[str, Any]]:
    """The settings of each sample: the JSON objects of the optional ``parameters`` BYTES ``[B,1]`` input."""
    given = tensors.get("parameters")
    if given is None:
        return [{}] * batch
    return [_json_object(text) for text in given.reshape(-1)]


def _json_object(text: bytes) -> dict[str, Any]:
    value = read_json(text or b"{}", "parameters")
    if not isinstance(value, dict):
        raise InvalidParameter("'parameters' must be a JSON object.")
    return value


def read_json(text: str | bytes, name: str) -> Any:
    """The JSON value that a caller sent as ``name``. Raises InvalidParameter."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidParameter(f"'{name}' is not JSON.") from error
    except RecursionError as error:  # a few kilobytes of brackets are enough
        raise InvalidParameter(f"'{name}' is nested too deeply.") from error
