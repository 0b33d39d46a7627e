"""Where ``predict`` gets its answers: a running facade over HTTP, or a tritonserver of its own for the duration."""

from __future__ import annotations

import asyncio
import base64
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np

from tritonvision import catalog
from tritonvision.errors import (
    DeadlineExceeded,
    InvalidPicture,
    ModelLoading,
    NotSupported,
    Overloaded,
    PictureTooLarge,
    ServerUnavailable,
    TritonVisionError,
    Unauthorized,
    UnknownModel,
)
from tritonvision.results import (
    ClassificationPrediction,
    Detections,
    KeyPoints,
    MultiLabelClassificationPrediction,
    Result,
)
from tritonvision.settings import Settings

_ROUTES = {
    "object-detection": "object_detection",
    "keypoint-detection": "keypoints_detection",
    "classification": "classification",
}
_ERRORS: dict[int, type[TritonVisionError]] = {
    # everything but the picture is checked before it is sent
    400: InvalidPicture, 401: Unauthorized, 404: UnknownModel, 413: PictureTooLarge, 429: Overloaded,
    501: NotSupported, 502: ServerUnavailable, 503: ModelLoading, 504: DeadlineExceeded,
}  # fmt: skip
_BEST_CLASSES = 5
_PATIENCE_SECONDS = 600.0  # an export that the first request began may take minutes


@dataclass(frozen=True)
class Answer:
    """One picture's result with the names of its classes and key points."""

    result: Result
    labels: Sequence[str]
    keypoint_labels: Sequence[str] = ()

    def predictions(self, confidence: float | None) -> list[dict[str, Any]]:
        """Named predictions, best first: what ``--json`` prints.

        A box is ``[left, top, right, bottom]`` in pixels of the oriented picture. Of a classification everything at or
        over ``confidence`` is named, or the best five when it is None.
        """
        if isinstance(self.result, ClassificationPrediction):
            return self._classes(self.result.confidence[0], confidence)
        if isinstance(self.result, MultiLabelClassificationPrediction):
            return self._classes(self.result.confidence, confidence)
        points, detections = self.result if isinstance(self.result, tuple) else (None, self.result)
        return [self._box(detections, points, i) for i in range(len(detections))]

    def _classes(self, scores: np.ndarray, confidence: float | None) -> list[dict[str, Any]]:
        order = np.argsort(-scores, kind="stable")
        kept = order[:_BEST_CLASSES] if confidence is None else order[scores[order] >= confidence]
        return [{"class": self.labels[i], "class_id": int(i), "confidence": float(scores[i])} for i in kept]

    def _box(self, detections: Detections, points: KeyPoints | None, i: int) -> dict[str, Any]:
        class_id = int(detections.class_id[i])
        named: dict[str, Any] = {
            "class": self.labels[class_id], "class_id": class_id, "confidence": float(detections.confidence[i]),
            "box": [round(float(v), 2) for v in detections.xyxy[i]],
        }  # fmt: skip
        if points is not None:
            named["keypoints"] = [
                {"class": name, "x": round(float(x), 2), "y": round(float(y), 2)}
                for name, (x, y) in zip(self.keypoint_labels, points.xy[i], strict=True)
            ]
        return named


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

    def __init__(self, settings: Settings, model_id: str, confidence: float | None, say: Callable[[str], None]):
        self._settings = settings.model_copy(update={"export_missing": False})
        self._model_id = model_id
        self._parameters = {} if confidence is None else {"confidence": confidence}
        self._say = say

    async def __aenter__(self) -> EmbeddedSource:
        from tritonvision.client.engine import Engine
        from tritonvision.publication import Repository
        from tritonvision.server import Embedded

        manifest = Repository(self._settings.repository).resolve(self._model_id)  # before anything is started
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
        manifest, results = await self._engine.infer(self._model_id, [picture], self._parameters)
        return Answer(results[0], manifest.labels, manifest.keypoint_labels)


class FacadeSource(Source):
    """A tritonvision server that already runs, asked through its Roboflow routes.

    Args:
        say: told in one sentence what a person waits for.
    """

    def __init__(
        self, url: str, model_id: str, confidence: float | None, api_key: str | None, say: Callable[[str], None]
    ):
        self._url = url.rstrip("/")
        self._body: dict[str, Any] = {"model_id": model_id, "api_key": api_key}
        self._confidence = confidence
        self._say = say
        self._task = ""
        self._said = ""

    async def __aenter__(self) -> FacadeSource:
        self._http = httpx.AsyncClient(base_url=self._url, timeout=60.0, trust_env=False)
        try:
            self._task = await self._find_task()
        except BaseException:
            await self._http.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def ask(self, picture: bytes) -> Answer:
        # a classifier is asked for everything: its own threshold would hide the best class of a thousand
        confidence = 0.0 if self._task == "classification" else self._confidence
        image = {"type": "base64", "value": base64.b64encode(picture).decode()}
        body = self._body | {"image": image} | ({} if confidence is None else {"confidence": confidence})
        return to_answer(self._task, await self._post(f"/infer/{_ROUTES[self._task]}", body))

    async def _find_task(self) -> str:
        name = self._body["model_id"]
        entry = catalog.entries().get(catalog.canonical(name))
        if entry is None:  # a model of the user's own: the server knows what it does
            listed = (await self._post("/model/add", self._body))["models"]
            names = {name, *catalog.names_of(catalog.canonical(name))}
            task = next((model["task_type"] for model in listed if model["model_id"] in names), "")
        else:
            task = entry.task
        if task not in _ROUTES:
            raise NotSupported(f"'predict' cannot show the answers of {name} yet.")
        return task

    async def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        """The JSON that ``path`` answers; waits while the server loads or exports the model."""
        waited = 0.0
        while True:
            try:
                return _read(await self._http.post(path, json=body))
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


def _read(reply: httpx.Response) -> Any:
    try:
        body = reply.json()
    except ValueError as error:
        raise ServerUnavailable("What answers there is not a tritonvision server.") from error
    if reply.is_success:
        return body
    message = body.get("message") if isinstance(body, dict) else None
    kind = _ERRORS.get(reply.status_code, TritonVisionError)
    wait = reply.headers.get("retry-after", "")
    raise kind(str(message or "The server refused."), retry_after=float(wait) if wait.isdigit() else None)


def to_answer(task: str, body: Mapping[str, Any]) -> Answer:
    """The result types behind the JSON of a Roboflow route, see the inverse in the Roboflow dialect."""
    metadata = {"height": body["image"]["height"], "width": body["image"]["width"]}
    listed = body["predictions"]
    if task == "classification":
        return _to_classification(listed, body, metadata)
    labels = _labels((p["class_id"], p["class"]) for p in listed)
    class_id = np.array([p["class_id"] for p in listed], dtype=np.int32)
    centre = np.array([[p["x"], p["y"]] for p in listed], dtype=np.float32).reshape(-1, 2)
    half = np.array([[p["width"], p["height"]] for p in listed], dtype=np.float32).reshape(-1, 2) / 2
    confidence = np.array([p["confidence"] for p in listed], dtype=np.float32)
    detections = Detections(np.hstack([centre - half, centre + half]), class_id, confidence, metadata)
    if task != "keypoint-detection":
        return Answer(detections, labels)
    names = _labels((k["class_id"], k["class"]) for p in listed for k in p["keypoints"])
    xy = np.zeros((len(listed), len(names), 2), dtype=np.float32)
    sure = np.zeros((len(listed), len(names)), dtype=np.float32)  # a point that was left out stays at 0
    for i, prediction in enumerate(listed):
        for k in prediction["keypoints"]:
            xy[i, k["class_id"]] = k["x"], k["y"]
            sure[i, k["class_id"]] = k["confidence"]
    return Answer((KeyPoints(xy, class_id, sure, metadata), detections), labels, names)


def _to_classification(listed, body: Mapping[str, Any], metadata: dict[str, int]) -> Answer:
    if isinstance(listed, dict):  # several labels may hold: every class, by name
        pairs = [(p["class_id"], name, p["confidence"]) for name, p in listed.items()]
    else:
        pairs = [(p["class_id"], p["class"], p["confidence"]) for p in listed]
    labels = _labels((i, name) for i, name, _ in pairs)
    scores = np.zeros(len(labels), dtype=np.float32)
    for i, _, confidence in pairs:
        scores[i] = confidence
    if isinstance(listed, dict):
        chosen = [listed[name]["class_id"] for name in body["predicted_classes"]]
        return Answer(MultiLabelClassificationPrediction(np.array(chosen, dtype=np.int64), scores, metadata), labels)
    return Answer(ClassificationPrediction(np.array([scores.argmax()]), scores[None], [metadata]), labels)


def _labels(pairs) -> tuple[str, ...]:
    """Names by class id; an id that the answer does not name is called by its number."""
    named = dict(pairs)
    return tuple(named.get(i, str(i)) for i in range(max(named, default=-1) + 1))
