"""The Triton step of a model that writes: many responses a request, many requests at once in one process."""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import triton_python_backend_utils as pb_utils

from tritonvision.errors import InvalidParameter, TritonVisionError, one_of_several, to_wire
from tritonvision.heartbeat import Heart
from tritonvision.pictures import decode
from tritonvision.python_backend.generation.engine import Messages, VlmEngine
from tritonvision.python_backend.generation.prompt import ROLES
from tritonvision.python_backend.generation.scheduler import Cancelled
from tritonvision.python_backend.runtime.sessions import Sessions
from tritonvision.python_backend.step import read_parameters
from tritonvision.results import Delta
from tritonvision.tasks import VLM, resolve

_MOST_PICTURES = 32  # of one conversation


class TritonPythonModel:
    """Takes requests, leaves the work to the threads of a :class:`VlmEngine`, and sends what they say."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Triton's hook: open the networks, then beat until the server goes."""
        cv2.setNumThreads(1)
        self.name = args["model_name"]
        config = json.loads(args["model_config"])["parameters"]
        parameters = {key: value["string_value"] for key, value in config.items()}
        folder = Path(args["model_repository"]) / args["model_version"]
        sessions = Sessions({role: folder / file for role, file in json.loads(parameters["sessions"]).items()})
        assets = {name: (folder / name).read_bytes() for name in json.loads(parameters["assets"])}
        self.heart = Heart()
        options = json.loads(parameters["options"])
        self.vlm_engine = VlmEngine(sessions, parameters["module"], options, assets, lambda: self.heart)

    def execute(self, requests: list) -> None:
        """Triton's hook: begin each answer and return; the responses follow."""
        for request in requests:
            sender = request.get_response_sender()
            failed = partial(self._refuse, sender)
            try:
                inputs = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
                (given,) = read_parameters(inputs, 1)
                settings = resolve(VLM.parameters, given)
                images = [bytes(image) for image in inputs.get("image", np.empty(0, dtype=object)).reshape(-1)]
                messages = read_messages(inputs, len(images))
            except TritonVisionError as error:
                failed(error)
                continue
            load = partial(_load, images, settings["auto_orient"])
            self.vlm_engine.start(messages, load, settings, partial(_send, sender), failed, sender.is_cancelled)

    def finalize(self) -> None:
        """Triton's hook: the model is unloaded."""
        self.vlm_engine.close()

    def _refuse(self, sender: Any, error: Exception) -> None:
        if isinstance(error, Cancelled):  # nobody reads it, but a request without an end is kept for ever
            refusal = pb_utils.TritonError("cancelled", pb_utils.TritonError.CANCELLED)
        elif isinstance(error, TritonVisionError):
            refusal = pb_utils.TritonError(to_wire(error), pb_utils.TritonError.INVALID_ARG)
        else:  # the trace goes to the log, never to the caller
            pb_utils.Logger.log_error(f"{self.name}: {''.join(traceback.format_exception(error))}")
            refusal = pb_utils.TritonError(to_wire(TritonVisionError("The model failed on this input.")))
        sender.send(pb_utils.InferenceResponse(error=refusal), flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


def read_messages(inputs: Mapping[str, np.ndarray], pictures: int) -> Messages:
    """The conversation of a request: ``messages`` (JSON), or ``prompt``, a question about all the pictures.

    Raises:
        InvalidParameter: there is neither, or both, or the parts are not what they should be.
    """
    if ("messages" in inputs) == ("prompt" in inputs):
        raise InvalidParameter("There must be either a prompt or messages.")
    if pictures > _MOST_PICTURES:
        raise InvalidParameter(f"One conversation may hold {_MOST_PICTURES} pictures, not {pictures}.")
    if "prompt" in inputs:
        text = _text(inputs["prompt"])
        return [{"role": "user", "content": [*[{"type": "image"}] * pictures, {"type": "text", "text": text}]}]
    try:
        messages = json.loads(_text(inputs["messages"]))
    except ValueError as error:
        raise InvalidParameter("'messages' is not JSON.") from error
    if not isinstance(messages, list) or not messages or not all(_is_message(message) for message in messages):
        raise InvalidParameter("'messages' must be a list of roles and contents.")
    return messages


def _is_message(message: Any) -> bool:
    return (
        isinstance(message, dict)
        and message.get("role") in ROLES
        and isinstance(message.get("content"), list)
        and all(_is_part(part) for part in message["content"])
    )


def _is_part(part: Any) -> bool:
    if not isinstance(part, dict):
        return False
    return part.get("type") == "image" or (part.get("type") == "text" and isinstance(part.get("text"), str))


def _text(value: np.ndarray) -> str:
    try:
        return bytes(value.reshape(-1)[0]).decode()
    except UnicodeDecodeError as error:
        raise InvalidParameter("The text is not UTF-8.") from error


def _load(images: list[bytes], auto_orient: bool) -> list[np.ndarray]:
    pictures = []
    for number, image in enumerate(images, 1):
        with one_of_several(number, len(images)):
            pictures.append(decode(image, auto_orient))
    return pictures


def _send(sender: Any, delta: Delta) -> None:
    tensors = [
        pb_utils.Tensor("text", np.array([delta.text.encode()], dtype=object)),
        pb_utils.Tensor("token_ids", delta.token_ids),
        pb_utils.Tensor("finish_reason", np.array([delta.finish_reason.encode()], dtype=object)),
        pb_utils.Tensor("usage", np.array(delta.usage, dtype=np.int32)),
    ]
    flags = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if delta.finish_reason else 0
    sender.send(pb_utils.InferenceResponse(tensors), flags=flags)
