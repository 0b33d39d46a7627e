"""The admin side of a tritonserver over gRPC: is it alive, load, unload, swap."""

from __future__ import annotations

import json

import grpc
from google.protobuf import json_format
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from tritonvision.errors import ModelLoading, ServerUnavailable, SetupError, TritonVisionError, from_wire

# Largest message either way: a big picture in, a big mask out.
MESSAGE_BYTES = 256 * 1024 * 1024
CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    # A tritonserver that somebody named is asked directly: a proxy in the environment is for the web.
    ("grpc.enable_http_proxy", 0),
    # A network that swallows packets is noticed after the timeout and connected anew (gRPC sets TCP_USER_TIMEOUT only
    # with keepalive on). Servers end connections that ping more often than every five minutes, Triton's too.
    ("grpc.keepalive_time_ms", 330_000),
    ("grpc.keepalive_timeout_ms", 20_000),
)


class Control:
    """Synchronous admin calls, each with its own deadline.

    Args:
        address: gRPC ``host:port``, or ``unix:`` and the path of a socket.
    """

    def __init__(self, address: str):
        self._channel = grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    def close(self) -> None:
        """Drop the connection."""
        self._channel.close()

    def live(self, timeout: float = 1.0) -> bool:
        """Whether the server answers at all."""
        try:
            return self._stub.ServerLive(pb.ServerLiveRequest(), timeout=timeout).live
        except grpc.RpcError:
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
        """Begin to unload ``model``; what is under way is finished first."""
        self._call(self._stub.RepositoryModelUnload, pb.RepositoryModelUnloadRequest(model_name=model))

    def instances(self, model: str) -> int:
        """How many processes of ours serve ``model``: none for an ensemble."""
        groups = self._config(model).instance_group
        return sum(group.count for group in groups)

    def parameter(self, model: str, name: str) -> str:
        """A parameter of the config of ``model``, empty where it has none."""
        return self._config(model).parameters[name].string_value

    def swap(self, model: str, generation: int) -> None:
        """Bring up new processes of ``model`` beside the old ones, then drop the old: dependents never leave.

        A plain load is a no-op while the files are the same, so one parameter of the config counts generations.
        """
        config = json_format.MessageToDict(self._config(model), preserving_proto_field_name=True)
        config.setdefault("parameters", {})["generation"] = {"string_value": str(generation)}
        self.load(model, json.dumps(config))

    def _config(self, model: str):
        return self._call(self._stub.ModelConfig, pb.ModelConfigRequest(name=model)).config

    def _call(self, method, request, timeout: float = 10.0):
        try:
            return method(request, timeout=timeout)
        except grpc.RpcError as error:
            raise admin_error(error) from error


def admin_error(error: grpc.RpcError) -> TritonVisionError:
    """What an admin call's failure means to a person."""
    code, details = error.code(), error.details() or ""
    spoken = from_wire(details)
    if spoken is not None:  # a step of ours says why it cannot be loaded
        return spoken
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        return ModelLoading("The model takes longer to load than expected.", retry_after=5)
    if code == grpc.StatusCode.UNAVAILABLE and "failed to connect" in details.lower():
        return ServerUnavailable("The inference server cannot be reached.", retry_after=2)
    if "explicit" in details or "polling is enabled" in details:
        return SetupError(
            "The tritonserver does not let models be loaded.", hint="Start it with --model-control-mode=explicit."
        )
    return ServerUnavailable("The inference server could not load or unload the model.", hint="Its log tells why.")
