"""The Triton step before a vLLM engine: the tensors of our models that write, and a question to ``backend: "vllm"``.

It writes the prompt by the chat template of the model's authors, hands pictures over as PNG files in base64, and passes
the pieces of the answer on. The engine is another Triton model of the same server, asked by BLS.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import cv2
import numpy as np
import triton_python_backend_utils as pb_utils

from tritonvision.errors import InvalidParameter, NotSupported, ServerUnavailable, from_wire, one_of_several
from tritonvision.heartbeat import Heart
from tritonvision.pictures import decode, shown_size
from tritonvision.python_backend.chat import read_messages, refuse
from tritonvision.python_backend.generation.prompt import check, details
from tritonvision.python_backend.images import total
from tritonvision.python_backend.step import read_parameters, refusing_to_load
from tritonvision.tasks import LOW, VLM, resolve

_AT_ONCE = 64  # answers under way; each waits for the engine in a thread
_OUTPUTS = ("text_output", "finish_reason", "num_input_tokens", "num_output_tokens")
_RETURNED = ("return_finish_reason", "return_num_input_tokens", "return_num_output_tokens", "stream")
_REASONS = {"stop": "stop", "length": "length"}


class TritonPythonModel:
    """One thread an answer; the engine batches them."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Triton's hook: read the template."""
        self.name = args["model_name"]
        parameters = json.loads(args["model_config"])["parameters"]
        self.engine = parameters["engine"]["string_value"]
        with refusing_to_load():
            self.prompt = Prompts(json.loads(parameters["options"]["string_value"]))
        self.heart = Heart()
        self.threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="answers")

    def execute(self, requests: list) -> None:
        """Triton's hook: begin each answer and return. Every request gets a final response."""
        for request in requests:
            self.threads.submit(self._answer, request, request.get_response_sender())

    def finalize(self) -> None:
        """Triton's hook: the model is unloaded."""
        self.threads.shutdown(cancel_futures=True)

    def _answer(self, request: Any, sender: Any) -> None:
        try:
            inputs = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
            for response in self._pieces(inputs, sender):
                sender.send(response)
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        except Exception as error:  # the boundary of the process: what is no refusal goes to the log
            refuse(self.name, sender, error)

    def _pieces(self, inputs: Mapping[str, np.ndarray], sender: Any) -> Iterator[Any]:
        """The engine's responses in our tensors."""
        (given,) = read_parameters(inputs, 1)
        settings = resolve(VLM.parameters, given)
        encoded = [bytes(image) for image in inputs.get("image", np.empty(0, dtype=object)).reshape(-1)]
        messages = read_messages(inputs, len(encoded))
        check(messages, len(encoded))
        text, sampling = self.prompt.text(messages), sampling_of(settings)
        pictures = [*as_png(encoded, settings["auto_orient"])]
        asked = question(self.engine, text, pictures, sampling)
        prompt = answer = 0
        for found in self._responses(asked):
            if sender.is_cancelled():
                return
            if found.has_error():
                told = found.error().message()
                raise from_wire(told) or ServerUnavailable("The engine behind the model does not answer.")
            tensors = {tensor.name(): tensor.as_numpy() for tensor in found.output_tensors()}
            if "text_output" not in tensors:  # the last response may be empty
                continue
            prompt = int(tensors["num_input_tokens"].reshape(-1)[0])
            answer += int(tensors["num_output_tokens"].reshape(-1)[0])
            reason = bytes(tensors["finish_reason"].reshape(-1)[0]).decode()
            yield response(bytes(tensors["text_output"].reshape(-1)[0]), _REASONS.get(reason, ""), (prompt, answer))

    def _responses(self, asked: Any) -> Iterator[Any]:
        """What the engine answers. Raises ServerUnavailable where there is none."""
        try:
            yield from asked.exec(decoupled=True)
        except pb_utils.TritonModelException as error:
            pb_utils.Logger.log_error(f"{self.name}: {error}")
            raise ServerUnavailable("The engine behind the model does not answer.") from error


class Prompts:
    """Writes prompts by the template of a checkpoint.

    Args:
        options: ``template`` (Jinja, as transformers reads it), ``tokens`` (``bos_token`` and others that it names) and
            ``special`` (texts of special tokens).

    Raises:
        NotSupported: Jinja is not installed.
    """

    def __init__(self, options: Mapping[str, Any]):
        try:
            from jinja2.exceptions import TemplateError
            from jinja2.sandbox import ImmutableSandboxedEnvironment
        except ImportError as error:
            raise NotSupported("Models behind vLLM need the package 'jinja2', which the server lacks.") from error
        self._failure: type[Exception] = TemplateError
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.globals["raise_exception"] = self._refuse
        environment.filters["tojson"] = lambda value, **_: json.dumps(value, ensure_ascii=False)
        self._template = environment.from_string(options["template"])
        self._tokens, self._special = options["tokens"], tuple(options["special"])

    def text(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """The prompt of a conversation, with a place for each picture.

        Raises:
            InvalidParameter: the template refuses it, or a text spells a special token, which the engine would read
                as one.
            NotSupported: a picture's ``detail`` is low: the engine reads all of every picture.
        """
        if LOW in details(messages):
            raise NotSupported("The engine of this model reads all of every picture: its 'detail' cannot be low.")
        for part in (part for message in messages for part in message["content"]):
            spelt = [token for token in self._special if token in part.get("text", "")]
            if spelt:
                raise InvalidParameter(f"A text spells {spelt[0]!r}, which is a mark of the model's own.")
        try:
            return self._template.render(messages=messages, add_generation_prompt=True, **self._tokens)
        except self._failure as error:
            raise InvalidParameter("The model's template has no place for such a conversation.") from error

    def _refuse(self, reason: str) -> None:
        raise self._failure(reason)


def sampling_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the task under vLLM's names. Raises NotSupported for what the engine does not tell."""
    if settings["top_logprobs"] is not None:
        raise NotSupported("The engine of this model tells no likelihoods.")
    if (settings["num_beams"] or 1) > 1:
        raise NotSupported("The engine of this model writes without beams.")
    found = {
        "max_tokens": settings["max_new_tokens"],
        **{name: settings[name] for name in ("temperature", "top_p", "repetition_penalty", "seed", "stop")},
        "top_k": settings["top_k"] or None,
    }  # fmt: skip
    if settings["schema"] is not None:
        found["guided_decoding"] = json.dumps({"json": settings["schema"]})
    return {name: value for name, value in found.items() if value is not None}


def as_png(encoded: Sequence[bytes], auto_orient: bool) -> Iterator[str]:
    """Pictures as the engine reads them: upright, PNG, base64. Raises InvalidPicture, PictureTooLarge."""
    numbered = list(enumerate(encoded, 1))
    sizes = []
    for number, data in numbered:
        with one_of_several(number, len(encoded)):
            sizes.append(shown_size(data, auto_orient)[::-1])
    total.check(sizes)
    for number, data in numbered:
        with one_of_several(number, len(encoded)):
            pixels = decode(data, auto_orient)
        _, png = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 1])
        yield base64.b64encode(png.tobytes()).decode()


def question(engine: str, text: str, pictures: Sequence[str], sampling: Mapping[str, Any]) -> Any:
    """The request to the engine, in the tensors of Triton's vLLM backend."""
    strings = {"text_input": [text], "sampling_parameters": [json.dumps(sampling)]} | (
        {"image": pictures} if pictures else {}
    )
    tensor = partial(np.array, dtype=object)
    inputs = [pb_utils.Tensor(name, tensor([value.encode() for value in values])) for name, values in strings.items()]
    flags = {name: True for name in _RETURNED} | {"exclude_input_in_output": True}
    inputs += [pb_utils.Tensor(name, np.array([value])) for name, value in flags.items()]
    return pb_utils.InferenceRequest(model_name=engine, requested_output_names=list(_OUTPUTS), inputs=inputs)


def response(text: bytes, reason: str, usage: tuple[int, int]) -> Any:
    """One piece of an answer. The engine tells no token ids."""
    return pb_utils.InferenceResponse([
        pb_utils.Tensor("text", np.array([text], dtype=object)),
        pb_utils.Tensor("token_ids", np.zeros(0, dtype=np.int64)),
        pb_utils.Tensor("finish_reason", np.array([reason.encode()], dtype=object)),
        pb_utils.Tensor("usage", np.array(usage, dtype=np.int32)),
    ])  # fmt: skip
