"""What the facade calls of the engine; tests put one that answers from memory in its place."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from typing import Any, Protocol

from tritonvision.engine.golden_check import Verdict
from tritonvision.engine.loaded_models import Memory
from tritonvision.engine.mask_grid import Progress
from tritonvision.engine.model_times import ModelTimes
from tritonvision.engine.triton_calls import EndpointFigures
from tritonvision.publication import Manifest, Repository
from tritonvision.results import Delta, SAMPrediction, TrackedMasks


class StreamPlane(Protocol):
    """The methods of :class:`tritonvision.engine.streams.Streams` that the facade calls."""

    async def step(
        self, model: Manifest | str, frame: bytes | None, parameters: Mapping[str, Any], stream: int | None = None
    ) -> tuple[int, TrackedMasks]: ...

    async def end(self, model: Manifest | str, stream: int) -> None: ...

    def knows(self, stream: int) -> bool: ...


class ForwardPlane(Protocol):
    """The methods of :class:`tritonvision.engine.forwarding.Forwarding` that the facade calls."""

    async def infer(self, manifest: Manifest, role: str, request: Any, picture: bytes = b"") -> Any: ...

    def responses(self, manifest: Manifest, role: str, request: Any) -> AsyncGenerator[Any, None]: ...

    async def describe(self, call: str, manifest: Manifest, role: str) -> Any: ...


class DataPlane(Protocol):
    """The methods of :class:`tritonvision.engine.engine.Engine` that the facade calls."""

    repository: Repository
    server_id: str
    exportable: Collection[str] | None

    async def infer(
        self, model: Manifest, pictures: Sequence[bytes], parameters: Mapping[str, Any], *, wait: bool = True,
        regions: Sequence[Sequence[float]] | None = None,
    ) -> tuple[Manifest, list[Any]]: ...  # fmt: skip

    async def ask(
        self, model: Manifest, samples: Sequence[Mapping[str, Any]], parameters: Mapping[str, Any], *, role: str = "",
        outputs: Collection[str] = (), wait: bool = True,
    ) -> tuple[Manifest, list[Any]]: ...  # fmt: skip

    def chat(
        self, model: Manifest, messages: Sequence[Mapping[str, Any]], pictures: Sequence[bytes],
        parameters: Mapping[str, Any], *, wait: bool = True,
    ) -> AsyncGenerator[Delta, None]: ...  # fmt: skip

    def generate_masks(
        self, model: Manifest, picture: bytes, parameters: Mapping[str, Any], *, wait: bool = True
    ) -> AsyncGenerator[Progress | SAMPrediction, None]: ...

    async def load(self, name: str, *, wait: bool = True) -> Manifest: ...

    async def verify(self, name: str) -> Verdict: ...

    async def times(self, name: str) -> tuple[Manifest, list[ModelTimes]]: ...

    async def statistics(self) -> list[ModelTimes]: ...

    async def unload(self, name: str) -> None: ...

    @property
    def streams(self) -> StreamPlane: ...

    @property
    def forwarding(self) -> ForwardPlane: ...

    def loaded(self) -> list[Manifest]: ...

    def memory(self) -> Memory: ...

    def check_room(self, manifest: Manifest, requests: int = 1, role: str = "") -> None: ...

    async def ready(self, manifest: Manifest | None = None) -> bool: ...

    def endpoints(self) -> list[EndpointFigures]: ...

    def losses(self) -> tuple[int, int]: ...

    def live(self) -> bool: ...

    def why_not_ready(self, manifest: Manifest | None = None) -> str: ...

    async def why_model_not_ready(self, manifest: Manifest) -> str: ...
