"""Admin calls to a tritonserver over gRPC: liveness, load, unload, swap."""

from __future__ import annotations

import json
import threading
from typing import Any

import grpc
from google.protobuf import json_format
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from tritonvision.endpoint import Endpoint, as_endpoint, refusal
from tritonvision.errors import ModelLoading, ServerUnavailable, SetupError, TritonVisionError, from_wire

# gRPC's statuses for a server that is not running, or stopped during the call.
_GONE = ("failed to connect", "connection refused", "socket closed", "connection reset", "goaway", "recvmsg")


class Control:
    """Synchronous admin calls, each with its own deadline, from any thread; ServerUnavailable once it is closed.

    Args:
        address: gRPC ``host:port``, or ``unix:`` and the path of a socket; an endpoint where it wants a token or TLS.
    """

    def __init__(self, address: str | Endpoint):
        endpoint = as_endpoint(address)
        self._metadata = endpoint.metadata()
        self._channel = endpoint.channel()
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._lock = threading.Lock()  # a call on a closed channel is a ValueError of gRPC's
        self._closed = False

    def close(self) -> None:
        """Close the connection; running calls end with ServerUnavailable."""
        with self._lock:
            self._closed = True
            self._channel.close()

    def live(self, timeout: float = 1.0) -> bool:
        """Whether the server answers at all."""
        try:
            return self._call(self._stub.ServerLive, pb.ServerLiveRequest(), timeout).live
        except TritonVisionError:
            return False

    def version(self) -> str:
        """The server's version."""
        return self._call(self._stub.ServerMetadata, pb.ServerMetadataRequest()).version

    def ready(self, model: str) -> bool:
        """Whether Triton calls ``model`` ready; it does so even when a process of it is dead."""
        return self._call(self._stub.ModelReady, pb.ModelReadyRequest(name=model)).ready

    def load(self, model: str, config: str | None = None, timeout: float = 120.0) -> None:
        """Load ``model``, or load it again where its files changed; ``config`` (JSON) replaces its ``config.pbtxt``."""
        request = pb.RepositoryModelLoadRequest(model_name=model)
        if config is not None:
            request.parameters["config"].string_param = config
        self._call(self._stub.RepositoryModelLoad, request, timeout)

    def unload(self, model: str) -> None:
        """Begin to unload ``model``; running requests are finished first."""
        self._call(self._stub.RepositoryModelUnload, pb.RepositoryModelUnloadRequest(model_name=model))

    def config(self, model: str) -> Any:
        """The ``ModelConfig`` that Triton runs a loaded model with."""
        return self._call(self._stub.ModelConfig, pb.ModelConfigRequest(name=model)).config

    def parameter(self, model: str, name: str) -> str:
        """A parameter of the config of ``model``, empty where it has none."""
        return self.config(model).parameters[name].string_value

    def swap(self, model: str, generation: int) -> None:
        """Start new processes of ``model`` beside the old ones, then stop the old; its dependents stay loaded.

        Triton ignores a load without changes, so a parameter of the config counts generations.
        """
        config = json_format.MessageToDict(self.config(model), preserving_proto_field_name=True)
        config.setdefault("parameters", {})["generation"] = {"string_value": str(generation)}
        self.load(model, json.dumps(config))

    def _call(self, method: Any, request: Any, timeout: float = 10.0) -> Any:
        with self._lock:
            if self._closed:
                raise ServerUnavailable("The inference server is being restarted.", retry_after=2)
            answer = method.future(request, timeout=timeout, metadata=self._metadata)
        try:
            return answer.result()
        except (grpc.RpcError, grpc.FutureCancelledError) as error:
            raise admin_error(answer) from error


def processes_of(config: Any) -> int:
    """How many processes of ours serve a model with this ``ModelConfig``: none for an ensemble."""
    return sum(group.count for group in config.instance_group)


def admin_error(error: grpc.RpcError) -> TritonVisionError:
    """The error of a failed admin call."""
    code, details = error.code(), error.details() or ""
    spoken = from_wire(details)
    if spoken is not None:  # the error of a step of ours
        return spoken
    refused = refusal(error)
    if refused is not None:
        return refused
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        return ModelLoading("The model takes longer to load than expected.", retry_after=5)
    if code == grpc.StatusCode.CANCELLED or (
        code == grpc.StatusCode.UNAVAILABLE and any(sign in details.lower() for sign in _GONE)
    ):
        return ServerUnavailable("The inference server cannot be reached.", retry_after=2)
    if "explicit" in details or "polling is enabled" in details:
        return SetupError(
            "The tritonserver does not let models be loaded.", hint="Start it with --model-control-mode=explicit."
        )
    return ServerUnavailable("The inference server could not load or unload the model.", hint="Its log tells why.")
