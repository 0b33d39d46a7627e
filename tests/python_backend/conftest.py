"""Steps run here without a server: what Triton gives a Python model stands in. tests/served runs the real one."""

from __future__ import annotations

import json
import queue
import sys
import types
from types import SimpleNamespace

import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

FINAL = 1
WORDS = "the quick brown fox jumps over the lazy dog and asks: what is in the picture? Größe, café, naïve."


class Tensor:
    """A named array; bytes are all that an array of objects may hold, as in Triton."""

    def __init__(self, name, value):
        assert isinstance(value, np.ndarray), f"{name} is no array"
        assert value.dtype != object or all(isinstance(item, bytes) for item in value.reshape(-1)), f"{name}: no bytes"
        self._name, self._value = name, value

    def name(self):
        return self._name

    def as_numpy(self):
        return self._value


class TritonError:
    INTERNAL, INVALID_ARG, CANCELLED = "INTERNAL", "INVALID_ARG", "CANCELLED"

    def __init__(self, message, code=INTERNAL):
        self._message, self.code = message, code

    def message(self):
        return self._message


class InferenceResponse:
    def __init__(self, output_tensors=(), error=None):
        self.error_, self.tensors = error, {tensor.name(): tensor.as_numpy() for tensor in output_tensors}

    def has_error(self):
        return self.error_ is not None

    def error(self):
        return self.error_


class InferenceRequest:
    """What a model asks of another: ``answer(model, inputs)`` of the test gives tensors by name, or a TritonError.

    ``ids`` collects the ids of these requests.
    """

    answer = None
    ids: list[str] = []

    def __init__(self, model_name, requested_output_names, inputs, request_id=""):
        self.model, self.names, self.given = model_name, requested_output_names, inputs
        InferenceRequest.ids.append(request_id)

    def exec(self):
        found = InferenceRequest.answer(self.model, {tensor.name(): tensor.as_numpy() for tensor in self.given})
        if isinstance(found, TritonError):
            return InferenceResponse(error=found)
        return InferenceResponse([Tensor(name, found[name]) for name in self.names])


class Sender:
    """Collects the responses to one request."""

    def __init__(self):
        self.responses, self.cancelled = queue.SimpleQueue(), False

    def send(self, response, flags=0):
        self.responses.put((response, flags))

    def is_cancelled(self):
        return self.cancelled

    def wait(self):
        """All responses, the one that is marked as the last included, and no one after it."""
        found = []
        while True:
            response, flags = self.responses.get(timeout=20)
            found.append(response)
            if flags == FINAL:
                assert self.responses.empty()
                return found


class Request:
    def __init__(self, inputs, outputs, request_id=""):
        self._inputs, self._outputs, self._id, self.sender = inputs, outputs, request_id, Sender()

    def request_id(self):
        return self._id

    def inputs(self):
        return [Tensor(name, value) for name, value in self._inputs.items()]

    def requested_output_names(self):
        return self._outputs

    def get_response_sender(self):
        return self.sender


class TritonModelException(Exception):
    pass


LOG: list[str] = []
MODULE = types.ModuleType("triton_python_backend_utils")
MODULE.Tensor, MODULE.TritonError, MODULE.InferenceResponse = Tensor, TritonError, InferenceResponse
MODULE.InferenceRequest, MODULE.TritonModelException = InferenceRequest, TritonModelException
MODULE.get_output_tensor_by_name = lambda response, name: Tensor(name, response.tensors[name])
MODULE.Logger = SimpleNamespace(log_error=LOG.append)
MODULE.TRITONSERVER_RESPONSE_COMPLETE_FINAL = FINAL
sys.modules.setdefault(MODULE.__name__, MODULE)


def args(tmp_path, parameters, **config):
    """What Triton hands to ``initialize``: the model lies in ``tmp_path``, the config has these ``parameters``."""
    texts = {name: {"string_value": value} for name, value in parameters.items()}
    return {
        "model_config": json.dumps({"parameters": texts, **config}), "model_name": "m", "model_version": "1",
        "model_repository": str(tmp_path), "model_instance_name": "m_0_0", "model_instance_kind": "CPU",
    }  # fmt: skip


def texts(*values):
    """BYTES ``[B,1]``."""
    column = np.empty((len(values), 1), dtype=object)
    column[:, 0] = [value if isinstance(value, bytes) else json.dumps(value).encode() for value in values]
    return column


@pytest.fixture(scope="session")
def byte_level():
    """``byte_level(special)``: a byte-level BPE of a sentence whose tokens ``special`` have the ids from 0 on."""

    def make(special):
        made = tokenizers.Tokenizer(models.BPE())
        made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, special_tokens=[*special])
        made.train_from_iterator([WORDS] * 5, trainer)
        return made

    return make


@pytest.fixture
def triton():
    """``args``, ``texts``, ``Request``, ``InferenceRequest``, ``TritonError``, and the ``log`` of this test."""
    LOG.clear()
    yield SimpleNamespace(
        args=args, texts=texts, Request=Request, InferenceRequest=InferenceRequest, TritonError=TritonError, log=LOG,
        TritonModelException=TritonModelException,
    )  # fmt: skip
    InferenceRequest.answer = None
    InferenceRequest.ids.clear()
