"""A tritonserver with one model that does what an attacker would want, for the tests in ``tests/attacks/server``."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tritonclient.grpc import service_pb2_grpc

from tritonvision.engine import codec
from tritonvision.server import Embedded

SECRET = "k3y-that-nobody-may-see"
PROBE = "probe"
CONFIG = """
name: "probe" backend: "python" max_batch_size: 0
input { name: "code" data_type: TYPE_STRING dims: [ -1 ] }
output { name: "told" data_type: TYPE_STRING dims: [ -1 ] }
instance_group { count: 1 kind: KIND_CPU }
"""
# Runs the code of a request, as a process does that an attacker has taken over. It begins as models of ours do.
MODEL_PY = '''
from tritonvision.python_backend.pre import TritonPythonModel as Ours
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.obey(request) for request in requests]

    def obey(self, request):
        scope = {}
        code = pb_utils.get_input_tensor_by_name(request, "code").as_numpy().reshape(-1)[0]
        try:
            exec(code.decode(), scope)
            told = repr(scope.get("told"))
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
        return pb_utils.InferenceResponse([pb_utils.Tensor("told", np.array([told.encode()], dtype=object))])
'''

@dataclass
class Walled:
    """A running server that holds the model ``probe``."""

    server: Embedded
    log: Path
    stub: service_pb2_grpc.GRPCInferenceServiceStub

    def inside(self, code: str) -> str:
        """Run ``code`` in a Python process of the server. Returns the ``repr`` of its ``told``, or its error."""
        given = {"code": np.array([textwrap.dedent(code).encode()], object)}
        answer = self.stub.ModelInfer(codec.encode_tensors(PROBE, given, ("told",)), timeout=10)
        return codec.decode_tensors(answer)["told"][0].decode()

    def unharmed(self) -> bool:
        """Whether the server that was started first still answers, with all of its processes."""
        return self.inside("told = 1 + 1") == "2" and self.server.starts == 1 and self.server.deaths == 0


def publish_probe(root: Path) -> None:
    """Write the model that obeys into the repository ``root``."""
    (root / PROBE / "1").mkdir(parents=True)
    (root / PROBE / "config.pbtxt").write_text(CONFIG)
    (root / PROBE / "1" / "model.py").write_text(MODEL_PY)
