"""Where ``predict`` gets its answers: a running facade over HTTP, or a tritonserver of its own for the duration."""

from __future__ import annotations

import asyncio
import base64
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from tritonvision import tasks
from tritonvision.cli import readings
from tritonvision.cli.answers import Answer
from tritonvision.cli.question import Question
from tritonvision.cli.running import RunningFacade
from tritonvision.errors import NotSupported
from tritonvision.pictures import read_header
from tritonvision.publication import Manifest, Repository
from tritonvision.results import ClassificationPrediction
from tritonvision.settings import Settings

if TYPE_CHECKING:
    from tritonvision.client.engine import Engine

WRITING_SECONDS = 600.0  # a long answer, word by word, on a processor


class Source(AbstractAsyncContextManager, ABC):
    """Something that answers questions about pictures, open while its ``async with`` block runs."""

    @abstractmethod
    async def ask(self, picture: bytes) -> Answer:
        """The answer about one encoded picture. Raises the errors of :mod:`tritonvision.errors`."""


class EmbeddedSource(Source):
    """A tritonserver started for the duration, without any HTTP.

    Args:
        say: told in one sentence what a person should know before reading the answers.
    """

    def __init__(self, settings: Settings, model_id: str, question: Question, say: Callable[[str], None]):
        self._settings = settings
        self._model_id = model_id
        self._question = question
        self._say = say

    async def __aenter__(self) -> EmbeddedSource:
        manifest = published(self._settings, self._model_id, self._say)
        self._question.check(self._model_id, manifest.task)
        self._own = own_engine(self._settings)
        self._engine = await self._own.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._own.__aexit__(*error)

    async def ask(self, picture: bytes) -> Answer:
        manifest = self._engine.repository.resolve(self._model_id)
        parameters = self._question.parameters(manifest.task)
        texts = self._question.texts
        if manifest.task == tasks.VLM.name:
            said = self._engine.chat(self._model_id, asked_about_one(texts[0]), [picture], parameters)
            return Answer("".join([delta.text async for delta in said]), ())
        manifest, (result,) = await self._engine.infer(self._model_id, [picture], parameters)
        if manifest.task == tasks.OPEN_VOCABULARY.name:
            return Answer(result, texts)
        if not texts:
            return Answer(result, manifest.labels, manifest.keypoint_labels)
        samples = [{"text": text.encode()} for text in texts]
        _, vectors = await self._engine.ask(self._model_id, samples, {}, role="text")
        return _comparison(_cosines(result, np.concatenate(vectors)), texts, picture)


def published(settings: Settings, model_id: str, say: Callable[[str], None]) -> Manifest:
    """The model in the repository; of random weights a person is told. Raises UnknownModel."""
    manifest = Repository(settings.repository).resolve(model_id)
    if manifest.weights == "random":
        say(f"The weights of {manifest.id} are random: its answers mean nothing.")
    return manifest


@asynccontextmanager
async def own_engine(settings: Settings) -> AsyncIterator[Engine]:
    """``async with`` an engine on a tritonserver of its own; models that are not published stay unpublished."""
    from tritonvision.client.engine import Engine
    from tritonvision.server import Embedded

    settings = settings.model_copy(update={"export_missing": False})
    server = Embedded(settings)
    try:
        await asyncio.to_thread(server.start)
        engine = Engine(settings, server)
        await engine.start()
        try:
            yield engine
        finally:
            await engine.close()
    finally:  # after Ctrl-C too: a server must not stay behind
        await asyncio.to_thread(server.stop)


def asked_about_one(text: str) -> list[dict[str, Any]]:
    """The messages that ask a writing model ``text`` about one picture."""
    return [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}]


class FacadeSource(Source):
    """A tritonvision server that already runs, asked through its Roboflow routes.

    Args:
        say: told in one sentence what a person waits for.
    """

    def __init__(
        self, url: str, model_id: str, question: Question, api_key: str | None, say: Callable[[str], None]
    ):
        self._facade = RunningFacade(url, api_key, say)
        self._model_id = model_id
        self._question = question
        self._task = ""

    async def __aenter__(self) -> FacadeSource:
        await self._facade.__aenter__()
        try:
            self._task = await self._facade.task_of(self._model_id)
            if self._task not in _ASK:
                raise NotSupported(f"'predict' cannot show the answers of {self._model_id} yet.")
            self._question.check(self._model_id, self._task)
        except BaseException:
            await self._facade.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._facade.__aexit__()

    async def ask(self, picture: bytes) -> Answer:
        image = {"type": "base64", "value": base64.b64encode(picture).decode()}
        return await _ASK[self._task](self, {"model_id": self._model_id, "image": image}, picture)

    async def _boxes(self, body: dict[str, Any], _: bytes) -> Answer:
        # a classifier is asked for everything: its own threshold would hide the best class of a thousand
        confidence = 0.0 if self._task == "classification" else self._question.confidence
        body |= {} if confidence is None else {"confidence": confidence}
        route = {
            "object-detection": "object_detection", "keypoint-detection": "keypoints_detection",
            "instance-segmentation": "instance_segmentation", "classification": "classification",
        }[self._task]  # fmt: skip
        if self._task == "instance-segmentation":
            body["response_mask_format"] = "rle"
        return readings.to_answer(self._task, await self._facade.json(f"/infer/{route}", body))

    async def _depth(self, body: dict[str, Any], _: bytes) -> Answer:
        found = await self._facade.json("/infer/depth-estimation", body | {"depth_map_format": "png16"})
        return readings.to_depth(found)

    async def _gaze(self, body: dict[str, Any], picture: bytes) -> Answer:
        header = read_header(picture)
        size = {"height": header.height, "width": header.width}
        return readings.to_gaze((await self._facade.json("/gaze/gaze_detection", body))[0], size)

    async def _masks(self, body: dict[str, Any], _: bytes) -> Answer:
        asked = self._question
        body |= {"format": "binary", "multimask_output": True}
        if asked.points:
            body["point_coords"] = [[x, y] for x, y, _ in asked.points]
            body["point_labels"] = [label for _, _, label in asked.points]
        if asked.box is not None:
            body["box"] = list(asked.box)
        return readings.to_masks(await self._facade.bytes("/sam/segment_image", body))

    async def _vectors(self, body: dict[str, Any], picture: bytes) -> Answer:
        texts = self._question.texts
        if not texts:
            found = await self._facade.json("/clip/embed_image", body)
            return Answer(np.array(found["embeddings"], dtype=np.float32), ())
        scores = np.zeros(len(texts), dtype=np.float32)
        for first in range(0, len(texts), 8):  # as many prompts as the route takes at once
            compared = body | {"subject": body["image"], "prompt": list(texts[first : first + 8])}
            scores[first : first + 8] = (await self._facade.json("/clip/compare", compared))["similarity"]
        return _comparison(scores, texts, picture)

    async def _named(self, body: dict[str, Any], _: bytes) -> Answer:
        # with texts this route takes every model of the task and keeps to the task's own defaults; Grounding DINO's
        # has thresholds of another server
        asked = {"text": list(self._question.texts), "confidence": self._question.confidence}
        return readings.to_named(await self._facade.json("/owlv2/infer", body | asked), self._question.texts)

    async def _page(self, body: dict[str, Any], _: bytes) -> Answer:
        return readings.to_page(await self._facade.json("/doctr/ocr", body | {"generate_bounding_boxes": True}))

    async def _line(self, body: dict[str, Any], _: bytes) -> Answer:
        return Answer((await self._facade.json("/ocr/trocr", body))["result"], ())

    async def _written(self, body: dict[str, Any], _: bytes) -> Answer:
        asked = body | {"prompt": self._question.texts[0]}
        said = (await self._facade.json("/infer/lmm", asked, WRITING_SECONDS))["response"]
        return Answer(said if isinstance(said, str) else json.dumps(said, ensure_ascii=False), ())


_ASK = {
    tasks.OBJECT_DETECTION.name: FacadeSource._boxes,
    tasks.KEYPOINT_DETECTION.name: FacadeSource._boxes,
    tasks.INSTANCE_SEGMENTATION.name: FacadeSource._boxes,
    tasks.CLASSIFICATION.name: FacadeSource._boxes,
    tasks.DEPTH_ESTIMATION.name: FacadeSource._depth,
    tasks.GAZE.name: FacadeSource._gaze,
    tasks.PROMPTABLE.name: FacadeSource._masks,
    tasks.EMBEDDING.name: FacadeSource._vectors,
    tasks.OPEN_VOCABULARY.name: FacadeSource._named,
    tasks.STRUCTURED_OCR.name: FacadeSource._page,
    tasks.TEXT_OCR.name: FacadeSource._line,
    tasks.VLM.name: FacadeSource._written,
}


def _cosines(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Cosine of a vector (1, D) and each of (n, D)."""
    return (others @ one[0]) / (np.linalg.norm(others, axis=1) * np.linalg.norm(one[0]))


def _comparison(scores: np.ndarray, texts: tuple[str, ...], picture: bytes) -> Answer:
    header = read_header(picture)
    metadata = {"height": header.height, "width": header.width}
    best = np.array([scores.argmax()], dtype=np.int64)
    return Answer(ClassificationPrediction(best, scores[None], [metadata]), texts)
