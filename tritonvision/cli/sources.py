"""Where ``predict`` gets its answers: a running facade over HTTP, or a tritonserver of its own for the duration."""

from __future__ import annotations

import asyncio
import base64
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import numpy as np

from tritonvision import catalog
from tritonvision.cli import readings
from tritonvision.cli.answers import Answer
from tritonvision.cli.question import Question
from tritonvision.errors import (
    DeadlineExceeded,
    InvalidPicture,
    ModelLoading,
    NoRoom,
    NotSupported,
    Overloaded,
    PictureTooLarge,
    ServerUnavailable,
    TritonVisionError,
    Unauthorized,
    UnknownModel,
)
from tritonvision.pictures import read_header
from tritonvision.results import ClassificationPrediction
from tritonvision.settings import Settings

_ERRORS: dict[int, type[TritonVisionError]] = {
    # everything but the picture is checked before it is sent
    400: InvalidPicture, 401: Unauthorized, 404: UnknownModel, 413: PictureTooLarge, 429: Overloaded,
    501: NotSupported, 502: ServerUnavailable, 503: ModelLoading, 504: DeadlineExceeded, 507: NoRoom,
}  # fmt: skip
_PATIENCE_SECONDS = 600.0  # an export that the first request began may take minutes


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
        self._settings = settings.model_copy(update={"export_missing": False})
        self._model_id = model_id
        self._question = question
        self._say = say

    async def __aenter__(self) -> EmbeddedSource:
        from tritonvision.client.engine import Engine
        from tritonvision.publication import Repository
        from tritonvision.server import Embedded

        manifest = Repository(self._settings.repository).resolve(self._model_id)  # before anything is started
        self._question.check(self._model_id, manifest.task)
        if manifest.weights == "random":
            self._say(f"The weights of {manifest.id} are random: its answers mean nothing.")
        self._server = Embedded(self._settings)
        try:
            await asyncio.to_thread(self._server.start)
            self._engine = Engine(self._settings, self._server)
            await self._engine.start()
        except BaseException:  # Ctrl-C too: a server must not stay behind
            await asyncio.to_thread(self._server.stop)
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self._engine.close()
        finally:
            await asyncio.to_thread(self._server.stop)

    async def ask(self, picture: bytes) -> Answer:
        manifest = self._engine.repository.resolve(self._model_id)
        parameters = self._question.parameters(manifest.task)
        manifest, (result,) = await self._engine.infer(self._model_id, [picture], parameters)
        texts = self._question.texts
        if not texts:
            return Answer(result, manifest.labels, manifest.keypoint_labels)
        samples = [{"text": text.encode()} for text in texts]
        _, vectors = await self._engine.ask(self._model_id, samples, {}, role="text")
        return _comparison(_cosines(result, np.concatenate(vectors)), texts, picture)


class FacadeSource(Source):
    """A tritonvision server that already runs, asked through its Roboflow routes.

    Args:
        say: told in one sentence what a person waits for.
    """

    def __init__(
        self, url: str, model_id: str, question: Question, api_key: str | None, say: Callable[[str], None]
    ):
        self._url = url.rstrip("/")
        self._body: dict[str, Any] = {"model_id": model_id, "api_key": api_key}
        self._question = question
        self._say = say
        self._task = ""
        self._said = ""

    async def __aenter__(self) -> FacadeSource:
        self._http = httpx.AsyncClient(base_url=self._url, timeout=60.0, trust_env=False)
        try:
            self._task = await self._find_task()
            self._question.check(self._body["model_id"], self._task)
        except BaseException:
            await self._http.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def ask(self, picture: bytes) -> Answer:
        image = {"type": "base64", "value": base64.b64encode(picture).decode()}
        return await _ASK[self._task](self, self._body | {"image": image}, picture)

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
        return readings.to_answer(self._task, await self._json(f"/infer/{route}", body))

    async def _depth(self, body: dict[str, Any], _: bytes) -> Answer:
        return readings.to_depth(await self._json("/infer/depth-estimation", body | {"depth_map_format": "png16"}))

    async def _gaze(self, body: dict[str, Any], picture: bytes) -> Answer:
        header = read_header(picture)
        size = {"height": header.height, "width": header.width}
        return readings.to_gaze((await self._json("/gaze/gaze_detection", body))[0], size)

    async def _masks(self, body: dict[str, Any], _: bytes) -> Answer:
        asked = self._question
        body |= {"format": "binary", "multimask_output": True}
        if asked.points:
            body["point_coords"] = [[x, y] for x, y, _ in asked.points]
            body["point_labels"] = [label for _, _, label in asked.points]
        if asked.box is not None:
            body["box"] = list(asked.box)
        reply = await self._post("/sam/segment_image", body)
        return readings.to_masks(reply.content)

    async def _vectors(self, body: dict[str, Any], picture: bytes) -> Answer:
        texts = self._question.texts
        if not texts:
            found = await self._json("/clip/embed_image", body)
            return Answer(np.array(found["embeddings"], dtype=np.float32), ())
        scores = np.zeros(len(texts), dtype=np.float32)
        for first in range(0, len(texts), 8):  # as many prompts as the route takes at once
            compared = body | {"subject": body["image"], "prompt": list(texts[first : first + 8])}
            scores[first : first + 8] = (await self._json("/clip/compare", compared))["similarity"]
        return _comparison(scores, texts, picture)

    async def _find_task(self) -> str:
        name = self._body["model_id"]
        entry = catalog.entries().get(catalog.canonical(name))
        if entry is None:  # a model of the user's own: the server knows what it does
            listed = (await self._json("/model/add", self._body))["models"]
            names = {name, *catalog.names_of(catalog.canonical(name))}
            task = next((model["task_type"] for model in listed if model["model_id"] in names), "")
        else:
            task = entry.task
        if task not in _ASK:
            raise NotSupported(f"'predict' cannot show the answers of {name} yet.")
        return task

    async def _json(self, path: str, body: Mapping[str, Any]) -> Any:
        return (await self._post(path, body)).json()

    async def _post(self, path: str, body: Mapping[str, Any]) -> httpx.Response:
        """What ``path`` answers; waits while the server loads or exports the model."""
        waited = 0.0
        while True:
            try:
                return _checked(await self._http.post(path, json=body))
            except ModelLoading as error:
                if error.message != self._said:
                    self._said = error.message
                    self._say(error.message)
                pause = min(max(error.retry_after or 2.0, 1.0), 10.0)
                if waited > _PATIENCE_SECONDS:
                    raise
            except httpx.TimeoutException as error:
                raise DeadlineExceeded("The server did not answer within a minute.") from error
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise ServerUnavailable(
                    f"No server answers at {self._url}.", hint="Start one with: tritonvision serve"
                ) from error
            await asyncio.sleep(pause)
            waited += pause


_ASK = {
    "object-detection": FacadeSource._boxes,
    "keypoint-detection": FacadeSource._boxes,
    "instance-segmentation": FacadeSource._boxes,
    "classification": FacadeSource._boxes,
    "depth-estimation": FacadeSource._depth,
    "gaze-detection": FacadeSource._gaze,
    "interactive-instance-segmentation": FacadeSource._masks,
    "embedding": FacadeSource._vectors,
}


def _checked(reply: httpx.Response) -> httpx.Response:
    if reply.is_success and reply.headers.get("content-type", "").startswith("application/octet-stream"):
        return reply
    try:
        body = reply.json()
    except ValueError as error:
        raise ServerUnavailable("What answers there is not a tritonvision server.") from error
    if reply.is_success:
        return reply
    message = body.get("message") if isinstance(body, dict) else None
    kind = _ERRORS.get(reply.status_code, TritonVisionError)
    wait = reply.headers.get("retry-after", "")
    raise kind(str(message or "The server refused."), retry_after=float(wait) if wait.isdigit() else None)


def _cosines(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Cosine of a vector (1, D) and each of (n, D)."""
    return (others @ one[0]) / (np.linalg.norm(others, axis=1) * np.linalg.norm(one[0]))


def _comparison(scores: np.ndarray, texts: tuple[str, ...], picture: bytes) -> Answer:
    header = read_header(picture)
    metadata = {"height": header.height, "width": header.width}
    best = np.array([scores.argmax()], dtype=np.int64)
    return Answer(ClassificationPrediction(best, scores[None], [metadata]), texts)
