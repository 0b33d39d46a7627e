"""A server of Triton's gRPC service whose health, models and answers a test decides. What lies between is real gRPC."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from tritonvision.publication import MANIFEST_PARAMETER, Manifest


class ScriptedTriton(service_pb2_grpc.GRPCInferenceServiceServicer):
    """One server, in the running event loop. An async context manager.

    Attributes:
        address: where it listens.
        models: what it has ready, and the manifest that its config tells, or None.
        can_load: names that it loads when told to.
        is_ready: what it says of itself.
        hangs: an event that every call waits for while it is not set.
        asked: names of the models of all inferences.
        loads: names of all loads.
        failure: (code, details) of the next inferences.
    """

    def __init__(self, *models: str, address: str = "127.0.0.1:0"):
        self.address, self.models = address, dict[str, Manifest | None].fromkeys(models)
        self.can_load: set[str] = set()
        self.is_ready, self.failure = True, None
        self.hangs = asyncio.Event()
        self.hangs.set()
        self.held = asyncio.Event()
        self.held.set()
        self.asked: list[str] = []
        self.sequences: list[int] = []
        self.loads: list[str] = []

    async def __aenter__(self) -> ScriptedTriton:
        self.server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self.server)
        port = self.server.add_insecure_port(self.address)
        self.address = f"{self.address.rpartition(':')[0]}:{port}"
        await self.server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()

    async def kill(self) -> None:
        """End at once, as a process does that is killed."""
        self.hangs.set()
        await self.server.stop(None)

    async def ServerReady(self, request: Any, context: Any) -> Any:
        await self.hangs.wait()
        return pb.ServerReadyResponse(ready=self.is_ready)

    async def ServerLive(self, request: Any, context: Any) -> Any:
        await self.hangs.wait()
        return pb.ServerLiveResponse(live=True)

    async def ModelReady(self, request: Any, context: Any) -> Any:
        await self.hangs.wait()
        return pb.ModelReadyResponse(ready=request.name in self.models)

    async def ModelConfig(self, request: Any, context: Any) -> Any:
        await self.hangs.wait()
        answer = pb.ModelConfigResponse()
        if manifest := self.models.get(request.name):
            answer.config.parameters[MANIFEST_PARAMETER].string_value = manifest.to_json()
        return answer

    async def ModelStatistics(self, request: Any, context: Any) -> Any:
        await self.hangs.wait()
        count = len(self.asked)
        told = {"name": request.name, "version": "1", "inference_count": count, "execution_count": count}
        return pb.ModelStatisticsResponse(model_stats=[told])

    async def RepositoryModelLoad(self, request: Any, context: Any) -> Any:
        await self.hangs.wait()
        self.loads.append(request.model_name)
        if request.model_name not in self.can_load:
            await context.abort(grpc.StatusCode.INTERNAL, "it cannot be loaded")
        self.models.setdefault(request.model_name, None)
        return pb.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(self, request: Any, context: Any) -> Any:
        self.models.pop(request.model_name, None)
        return pb.RepositoryModelUnloadResponse()

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        self.asked.append(request.model_name)
        await self.hangs.wait()
        await self.held.wait()
        if self.failure is not None:
            await context.abort(*self.failure)
        if request.model_name not in self.models:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"Request for unknown model: '{request.model_name}'")
        if "sequence_id" in request.parameters:
            self.sequences.append(request.parameters["sequence_id"].int64_param)
        return pb.ModelInferResponse(model_name=request.model_name, id=self.address)

    async def ModelStreamInfer(self, requests: Any, context: Any) -> Any:
        async for request in requests:
            self.asked.append(request.model_name)
            for number in range(3):
                await self.hangs.wait()
                yield pb.ModelStreamInferResponse(infer_response={"id": f"{self.address} {number}"})
                await self.held.wait()
