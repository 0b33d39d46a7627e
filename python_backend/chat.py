"""The Triton step of a model that generates text: many responses a request, many requests at once in one process."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import triton_python_backend_utils as pb_utils

from tritonvision import kept_prompts
from tritonvision.errors import InvalidParameter, NotSupported, one_of_several
from tritonvision.heartbeat import Heart, longest_work
from tritonvision.pictures import decode, shown_size
from tritonvision.python_backend.generation.answering import Messages
from tritonvision.python_backend.generation.engines import open_engine
from tritonvision.python_backend.generation.prefixes import LIMIT
from tritonvision.python_backend.generation.prompt import ROLES, Picture
from tritonvision.python_backend.generation.scheduler import Cancelled
from tritonvision.python_backend.runtime.sessions import Sessions, network_files
from tritonvision.python_backend.step import identity, read_json, read_parameters, refusal_of, refusing_to_load
from tritonvision.results import Delta
from tritonvision.tasks import VLM, resolve

_MOST_PICTURES = 32  # of one conversation


class TritonPythonModel:
    """Passes requests to the threads of an engine (:func:`open_engine`) and sends what they generate."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Triton's hook: open the networks, then touch the heartbeat file until the server stops."""
        cv2.setNumThreads(1)
        self.name = args["model_name"]
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
        self.detailed = any(output["name"] == "details" for output in config.get("output", ()))
        folder = Path(args["model_repository"]) / args["model_version"]
        with refusing_to_load():
            sessions = Sessions(network_files(folder, parameters["sessions"]))
        assets = {name: (folder / name).read_bytes() for name in json.loads(parameters["assets"])}
        self.heart = Heart(longest_work(folder))
        options, kept = json.loads(parameters["options"]), kept_prompts.told()
        self.vlm_engine = open_engine(
            sessions, parameters["module"], options, assets, lambda: self.heart, identity(args, parameters),
            LIMIT if kept is None else kept,
        )  # fmt: skip

    def execute(self, requests: list) -> None:
        """Triton's hook: begin each answer and return; the responses follow. Every request gets a final response."""
        for request in requests:
            sender = request.get_response_sender()
            failed = partial(refuse, self.name, sender)
            try:
                self._start(request, sender, failed)
            except Exception as error:  # the boundary of the process: what is no refusal goes to the log
                failed(error)

    def _start(self, request: Any, sender: Any, failed: Callable[[Exception], None]) -> None:
        inputs = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        (given,) = read_parameters(inputs, 1)
        settings = resolve(VLM.parameters, given)
        if settings["top_logprobs"] is not None and not self.detailed:
            raise NotSupported("The model was published by a version that told no likelihoods; publish it again.")
        images = [bytes(image) for image in inputs.get("image", np.empty(0, dtype=object)).reshape(-1)]
        messages = read_messages(inputs, len(images))
        encoded = [picture(image, settings["auto_orient"], n, len(images)) for n, image in enumerate(images, 1)]
        send = partial(_send, sender, self.detailed)
        self.vlm_engine.start(messages, encoded, settings, send, failed, sender.is_cancelled)

    def finalize(self) -> None:
        """Triton's hook: the model is unloaded."""
        self.vlm_engine.close()


def refuse(model: str, sender: Any, error: Exception) -> None:
    """End an answer of ``model`` with ``error``. What Triton refuses of that goes to the log; other answers go on."""
    if isinstance(error, Cancelled):  # nobody reads it, but Triton keeps a request without a final response
        refusal = pb_utils.TritonError("cancelled", pb_utils.TritonError.CANCELLED)
    else:
        refusal = refusal_of(error, model)
    response = pb_utils.InferenceResponse(error=refusal)
    try:
        sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
    except Exception as failure:  # the boundary of the process
        pb_utils.Logger.log_error(f"{model}: an answer could not be ended: {failure}")


def picture(data: bytes, auto_orient: bool, number: int = 1, count: int = 1) -> Picture:
    """An encoded picture: the engine reads its header first and decodes it just before it is encoded.

    Args:
        number, count: its place among the pictures, for the error when it cannot be read.
    """

    def read(reader: Callable[[bytes, bool], Any]) -> Any:
        with one_of_several(number, count):
            return reader(data, auto_orient)

    def digest() -> bytes:
        return hashlib.sha256(bytes([auto_orient]) + data).digest()

    return Picture(lambda: read(shown_size)[::-1], lambda: read(decode), digest)


def read_messages(inputs: Mapping[str, np.ndarray], count: int) -> Messages:
    """The conversation of a request: ``messages`` (JSON), or ``prompt``, a question about all the pictures.

    Raises:
        InvalidParameter: both are missing, both are there, or a part is malformed.
    """
    if ("messages" in inputs) == ("prompt" in inputs):
        raise InvalidParameter("There must be either a prompt or messages.")
    if count > _MOST_PICTURES:
        raise InvalidParameter(f"One conversation may hold {_MOST_PICTURES} pictures, not {count}.")
    if "prompt" in inputs:
        text = _text(inputs["prompt"])
        return [{"role": "user", "content": [*[{"type": "image"}] * count, {"type": "text", "text": text}]}]
    messages = read_json(_text(inputs["messages"]), "messages")
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
    return part.get("type") == "image" or (part.get("type") == "text" and _is_text(part.get("text")))


def _is_text(value: Any) -> bool:
    """Whether it is a string without lone surrogates, which JSON can contain and no tokenizer reads."""
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)


def _text(value: np.ndarray) -> str:
    try:
        return bytes(value.reshape(-1)[0]).decode()
    except UnicodeDecodeError as error:
        raise InvalidParameter("The text is not UTF-8.") from error


def _send(sender: Any, detailed: bool, delta: Delta) -> None:
    tensors = [
        pb_utils.Tensor("text", np.array([delta.text.encode()], dtype=object)),
        pb_utils.Tensor("token_ids", delta.token_ids),
        pb_utils.Tensor("finish_reason", np.array([delta.finish_reason.encode()], dtype=object)),
        pb_utils.Tensor("usage", np.array(delta.usage, dtype=np.int32)),
    ]
    if detailed:
        details = json.dumps({"cached_tokens": delta.cached_tokens, "logprobs": delta.logprobs})
        tensors.append(pb_utils.Tensor("details", np.array([details.encode()], dtype=object)))
    if delta.masks is not None:
        tensors.append(pb_utils.Tensor("masks", delta.masks))
    flags = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if delta.finish_reason else 0
    sender.send(pb_utils.InferenceResponse(tensors), flags=flags)
