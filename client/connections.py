"""The connection protocol of AutoModel, and its implementation over an engine; ``remote`` has the one over HTTP."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tritonvision import catalog
from tritonvision.engine.engine import Engine
from tritonvision.engine.facts import Facts
from tritonvision.engine.mask_grid import Progress
from tritonvision.errors import ModelLoading, TritonVisionError, UnknownModel
from tritonvision.grounding.located import Convention, with_places
from tritonvision.pictures import shown_size
from tritonvision.publication import FEATURES, MANIFEST_PARAMETER, Manifest, Repository
from tritonvision.results import Delta, Result, SAMPrediction, TrackedMasks
from tritonvision.server.control import Control
from tritonvision.tasks import AUTO_ORIENT, CLASSIFICATION

Messages = Sequence[Mapping[str, Any]]
_WAIT_SECONDS = 600.0  # a large model on a busy machine


class Connection(ABC):
    """Runs inference, with the same results over an engine and over HTTP.

    Every method raises the errors of :mod:`tritonvision.errors`. Pictures are encoded, or ``.npy`` bytes (uint8 RGB);
    settings are all those of the model's task, see :func:`tritonvision.tasks.resolve`.
    """

    @abstractmethod
    async def facts(self, name: str) -> Facts:
        """The facts of the model called ``name``, once it is loaded."""

    @abstractmethod
    async def infer(self, facts: Facts, pictures: Sequence[bytes], settings: Mapping[str, Any]) -> list[Result]:
        """One result a picture, in order."""

    @abstractmethod
    async def features(self, facts: Facts, pictures: Sequence[bytes], settings: Mapping[str, Any]) -> np.ndarray:
        """float32 ``[n,D]``: of an embedder its answers, of a classifier what its last layer reads.

        Args:
            settings: all of :data:`tritonvision.tasks.EMBEDDING`.
        """

    @abstractmethod
    async def embed_texts(self, facts: Facts, texts: Sequence[str]) -> np.ndarray:
        """float32 ``[n,D]``."""

    @abstractmethod
    def chat(
        self, facts: Facts, messages: Messages, pictures: Sequence[bytes], settings: Mapping[str, Any]
    ) -> AsyncGenerator[Delta, None]:
        """The pieces of an answer; closing the iterator cancels it. Of a model that writes places, asked about one
        picture, the last piece has them.

        Args:
            messages: ``{"role", "content"}``, the content a list of ``{"type": "text", "text"}`` and
                ``{"type": "image"}``.
            pictures: in the order of the image parts.
        """

    @abstractmethod
    def generate_masks(
        self, facts: Facts, picture: bytes, settings: Mapping[str, Any]
    ) -> AsyncGenerator[Progress | SAMPrediction, None]:
        """Yields the progress of the search for every object, and the masks at the end.

        Args:
            settings: all of :data:`tritonvision.engine.mask_grid.PARAMETERS`.
        """

    @abstractmethod
    async def step(
        self, facts: Facts, frame: bytes | None, settings: Mapping[str, Any], stream: int | None
    ) -> tuple[int, TrackedMasks]:
        """The next request of a stream: its number, and the objects on the frame.

        Args:
            frame: the next one; None for prompts about one before.
            stream: its number, or None for one that begins.
        """

    @abstractmethod
    async def end(self, facts: Facts, stream: int) -> None:
        """Forget a stream."""

    @abstractmethod
    async def close(self) -> None:
        """Close connections."""


class EngineConnection(Connection):
    """Runs inference through a started engine, which is closed with the connection.

    Args:
        say: called with a sentence when the user has to wait.
    """

    def __init__(self, engine: Engine, say: Callable[[str], None]):
        self._engine = engine
        self._say = say

    async def facts(self, name: str) -> Facts:
        waited = 0.0
        while True:
            try:
                return Facts.of(await self._engine.load(name))
            except ModelLoading as error:
                if not waited:
                    self._say(error.message)
                if waited > _WAIT_SECONDS:
                    raise
                await asyncio.sleep(error.retry_after or 1.0)
                waited += error.retry_after or 1.0

    async def infer(self, facts: Facts, pictures: Sequence[bytes], settings: Mapping[str, Any]) -> list[Result]:
        _, results = await self._engine.infer(facts.id, pictures, settings)
        return results

    async def features(self, facts: Facts, pictures: Sequence[bytes], settings: Mapping[str, Any]) -> np.ndarray:
        samples = [{"image": picture} for picture in pictures]
        role = FEATURES if facts.task == CLASSIFICATION.name else ""
        _, vectors = await self._engine.ask(facts.id, samples, settings, role=role)
        return np.concatenate([np.asarray(vector) for vector in vectors])

    async def embed_texts(self, facts: Facts, texts: Sequence[str]) -> np.ndarray:
        _, vectors = await self._engine.ask(facts.id, [{"text": text.encode()} for text in texts], {}, role="text")
        return np.concatenate([np.asarray(vector) for vector in vectors])

    def chat(
        self, facts: Facts, messages: Messages, pictures: Sequence[bytes], settings: Mapping[str, Any]
    ) -> AsyncGenerator[Delta, None]:
        pieces = self._engine.chat(facts.id, messages, pictures, settings)
        if not facts.grounding or len(pictures) != 1:
            return pieces
        size = partial(shown_size, pictures[0], settings[AUTO_ORIENT.name])
        return with_places(pieces, Convention(facts.grounding, facts.grounding_pixels), messages, size)

    def generate_masks(
        self, facts: Facts, picture: bytes, settings: Mapping[str, Any]
    ) -> AsyncGenerator[Progress | SAMPrediction, None]:
        return self._engine.generate_masks(facts.id, picture, settings)

    async def step(
        self, facts: Facts, frame: bytes | None, settings: Mapping[str, Any], stream: int | None
    ) -> tuple[int, TrackedMasks]:
        return await self._engine.streams.step(facts.id, frame, settings, stream)

    async def end(self, facts: Facts, stream: int) -> None:
        await self._engine.streams.end(facts.id, stream)

    async def close(self) -> None:
        await self._engine.close()


class ForeignConnection(EngineConnection):
    """Runs inference on a Triton that we did not start. Manifests come from the local repository or its configs."""

    def __init__(self, engine: Engine, address: str, say: Callable[[str], None]):
        super().__init__(engine, say)
        self._address = address
        self._repository = engine.repository = engine.published.repository = _Learned(engine.repository.root)

    async def facts(self, name: str) -> Facts:
        await self._learn(name)
        return await super().facts(name)

    async def _learn(self, name: str) -> None:
        """Get the manifest of ``name`` and of the models it depends on. Raises UnknownModel."""
        try:
            manifest = self._repository.resolve(name)
        except UnknownModel:
            manifest = await asyncio.to_thread(self._told, name)
            self._repository.learn(manifest)
        for need in manifest.needs:
            await self._learn(need)

    def _told(self, name: str) -> Manifest:
        model_id = catalog.canonical(catalog.check_id(name))
        model, control = catalog.triton_name(model_id), Control(self._address)
        try:
            if not control.ready(model):
                control.load(model)
            return Manifest.from_json(control.parameter(model, MANIFEST_PARAMETER))
        except (TritonVisionError, ValueError, TypeError, KeyError) as error:
            raise UnknownModel(
                f"'{name}' is not published here, and the Triton at {self._address} does not tell what it is.",
                hint="Load it there, or let TRITONVISION_REPOSITORY be the model repository of that Triton.",
            ) from error
        finally:
            control.close()


class _Learned(Repository):
    """A repository with further manifests, from a Triton."""

    def __init__(self, root: Path):
        super().__init__(root)
        self._told: dict[str, Manifest] = {}

    def learn(self, manifest: Manifest) -> None:
        """Add a manifest."""
        self._told[manifest.id] = manifest

    def get(self, model_id: str) -> Manifest | None:
        return super().get(model_id) or self._told.get(model_id)
