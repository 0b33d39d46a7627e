"""Engines that answer from memory and keep the contract of the real one (tests/facade/test_contract.py)."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from answers import found, instances, page, regions, selected, vector_of
from manifests import SIZE
from PIL import Image
from tritonclient.grpc import service_pb2 as pb

from tritonvision import catalog, tasks
from tritonvision.engine import mask_grid
from tritonvision.engine.golden_check import Verdict
from tritonvision.engine.loaded_models import Memory
from tritonvision.engine.mask_grid import Progress
from tritonvision.engine.model_times import ModelTimes
from tritonvision.engine.triton_calls import EndpointFigures
from tritonvision.errors import InvalidParameter, ModelLoading, ServerUnavailable
from tritonvision.pictures import shown_size
from tritonvision.publication import FEATURES, Manifest, Repository
from tritonvision.results import (
    ClassificationPrediction,
    Delta,
    DepthMap,
    Detections,
    KeyPoints,
    L2CSGazeDetection,
    MultiLabelClassificationPrediction,
    SAMImageEmbeddings,
    SAMPrediction,
    TrackedMasks,
)


class MemoryStreams:
    """Streams in which the object 3 is wherever a box is, or was.

    Attributes:
        asked: (model, frame, parameters, stream) of each request.
        open: how many frames each stream has had, by number.
        ended: numbers of those that ended.
        failure: what the next request raises.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, bytes | None, dict[str, Any], int | None]] = []
        self.open: dict[int, int] = {}
        self.ended: list[int] = []
        self.failure: Exception | None = None

    async def step(
        self, model: Manifest | str, frame: bytes | None, parameters: Mapping[str, Any], stream: int | None = None
    ) -> tuple[int, TrackedMasks]:
        self.asked.append((str(model), frame, dict(parameters), stream))
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure
        if stream is None and not parameters["boxes"]:
            raise InvalidParameter("There is nothing to follow yet.", hint="Begin with a box.")
        number = len(self.open) + len(self.ended) + 1 if stream is None else stream
        count = self.open[number] = self.open.get(number, 0) + (frame is not None)
        shown = selected((SIZE[1], SIZE[0]), {"multimask": False, "mask_format": parameters["mask_format"]})
        size = {"height": SIZE[1], "width": SIZE[0]}
        return number, TrackedMasks(
            count - 1, np.int64([3]), np.float32([0.75]), shown.masks, shown.polygons, size, 1000 * count
        )

    async def end(self, model: Manifest | str, stream: int) -> None:
        if self.open.pop(stream, None) is not None:
            self.ended.append(stream)

    def knows(self, stream: int) -> bool:
        return stream in self.open


class MemoryForwarding:
    """Passes requests of the v2 protocol on to an engine in memory, whose models answer one score a picture.

    Attributes:
        asked: (model, role, message) of each.
    """

    def __init__(self, engine: MemoryEngine):
        self._engine = engine
        self.asked: list[tuple[str, str, Any]] = []

    async def infer(self, manifest: Manifest, role: str, request: Any, picture: bytes = b"") -> Any:
        await self._engine.load(manifest.id)
        message = pb.ModelInferRequest.FromString(request.SerializeToString())
        self.asked.append((manifest.id, role, message))
        engine = self._engine
        if engine.held is not None:
            try:
                await engine.held.wait()
            except asyncio.CancelledError:
                engine.cancelled += 1
                raise
        if engine.failure is not None:
            raise engine.failure
        answer = pb.ModelInferResponse(model_name=manifest.entry_point(role), model_version="1", id=request.id)
        for name, kind, raw in (("scores", "FP32", np.float32([0.75, 0.5]).tobytes()), ("label", "BYTES", _CAT)):
            if not request.outputs or any(output.name == name for output in request.outputs):
                answer.outputs.add(name=name, datatype=kind, shape=[1, 2 if kind == "FP32" else 1])
                answer.raw_output_contents.append(raw)
        return answer

    async def responses(self, manifest: Manifest, role: str, request: Any) -> AsyncGenerator[Any, None]:
        for piece in range(3):
            if piece and self._engine.late_failure is not None:
                raise self._engine.late_failure
            yield await self.infer(manifest, role, request)

    async def describe(self, call: str, manifest: Manifest, role: str) -> Any:
        await self._engine.load(manifest.id)
        name = manifest.entry_point(role)
        if call == "ModelConfig":
            return pb.ModelConfigResponse(config={"name": name, "platform": "ensemble", "max_batch_size": 8})
        if call == "ModelStatistics":
            return pb.ModelStatisticsResponse(model_stats=[{"name": name, "version": "1", "inference_count": 3}])
        return pb.ModelMetadataResponse(
            name=name, versions=["1"], platform="ensemble",
            inputs=[{"name": "image", "datatype": "BYTES", "shape": [-1, 1]}],
            outputs=[{"name": "scores", "datatype": "FP32", "shape": [-1, -1]}],
        )  # fmt: skip


_CAT = b"\x03\x00\x00\x00cat"


class MemoryEngine:
    """Answers from memory, as :class:`tritonvision.engine.engine.Engine` would from Triton.

    Attributes:
        asked: (model, pictures, parameters, wait) of each inference with a picture.
        samples: (model, samples, parameters) of each inference of something else than a picture.
        chats: (model, messages, pictures, parameters) of each conversation.
        pieces: what answers of a conversation are made of; each has two tokens.
        last: why answers of a conversation end.
        regions: of the last inference that had some.
        held: an event that inferences, and every piece but the first of a conversation, wait for, when set by a test.
        cancelled: inferences and conversations whose caller went.
        failure: what the next inferences and conversations raise.
        no_room: what every question raises before its pictures are read.
        late_failure: what the next conversations raise after their first piece.
    """

    server_id = "5b0c9a0e-0000-4000-8000-000000000000"
    exportable = None

    def __init__(self, root: Path):
        self.repository = Repository(root)
        self.asked: list[tuple[str, list[bytes], dict[str, Any], bool]] = []
        self.samples: list[tuple[str, list[Mapping[str, Any]], dict[str, Any]]] = []
        self.chats: list[tuple[str, list[Any], list[bytes], dict[str, Any]]] = []
        self.pieces = ["A cat", ", ", "\u732b", " \U0001f408", "."]
        self.last = "stop"
        self.late_failure: Exception | None = None
        self.regions: list[Sequence[float]] = []
        self.held: asyncio.Event | None = None
        self.cancelled = 0
        self.failure: Exception | None = None
        self.no_room: Exception | None = None
        self.is_ready = self.is_live = True
        self._loaded: dict[str, Manifest] = {}
        self._streams = MemoryStreams()
        self._forwarding = MemoryForwarding(self)

    @property
    def streams(self) -> MemoryStreams:
        return self._streams

    @property
    def forwarding(self) -> MemoryForwarding:
        return self._forwarding

    async def infer(
        self, model: Manifest, pictures: Sequence[bytes], parameters: Mapping[str, Any], *, wait: bool = True,
        regions: Sequence[Sequence[float]] | None = None,
    ) -> tuple[Manifest, list[Any]]:  # fmt: skip
        manifest = await self.load(model.id, wait=wait)
        self.asked.append((manifest.id, list(pictures), dict(parameters), wait))
        if self.held is not None:
            try:
                await self.held.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        if self.failure is not None:
            raise self.failure
        region = {} if regions is None else {"region": list(regions[0])}
        settings = tasks.resolve(tasks.TASKS[manifest.task].parameters, {**parameters, **region})
        if regions is not None:
            self.regions = list(regions)
            pictures = [pictures[0] for _ in regions]
        return manifest, [self._result(manifest, picture, settings) for picture in pictures]

    async def ask(
        self, model: Manifest, samples: Sequence[Mapping[str, Any]], parameters: Mapping[str, Any], *, role: str = "",
        outputs: Collection[str] = (), wait: bool = True,
    ) -> tuple[Manifest, list[Any]]:  # fmt: skip
        if role not in model.roles:
            raise InvalidParameter(f"'{model.id}' does not take {role}.")
        manifest = await self.load(model.id, wait=wait)
        self.samples.append((manifest.id, list(samples), dict(parameters)))
        if self.failure is not None:
            raise self.failure
        if role == FEATURES:
            tasks.resolve(tasks.EMBEDDING.parameters, parameters)
            return manifest, [vector_of(sample["image"]) for sample in samples]
        more = (tasks.TRUNCATE,) if role == "text" else ()
        settings = tasks.resolve((*tasks.TASKS[manifest.task].parameters, *more), parameters)
        return manifest, [self._result(manifest, sample["text" if role else "image"], settings) for sample in samples]

    async def chat(
        self, model: Manifest, messages: Sequence[Mapping[str, Any]], pictures: Sequence[bytes],
        parameters: Mapping[str, Any], *, wait: bool = True,
    ) -> AsyncGenerator[Delta, None]:  # fmt: skip
        manifest = await self._load_for(tasks.VLM, model, wait)
        self.chats.append((manifest.id, list(messages), list(pictures), dict(parameters)))
        tasks.resolve(tasks.VLM.parameters, parameters)
        if self.failure is not None:
            raise self.failure
        prompt = 7 + 64 * len(pictures)
        try:
            for i, text in enumerate(self.pieces, 1):
                if self.held is not None and i > 1:
                    await self.held.wait()
                if self.late_failure is not None and i > 1:
                    raise self.late_failure
                reason = self.last if i == len(self.pieces) else ""
                told = {"token": text, "bytes": list(text.encode()), "logprob": -0.25, "top_logprobs": []}
                likelihoods = () if parameters.get("top_logprobs") is None else (told,)
                yield Delta(text, np.array([2 * i, 2 * i + 1]), reason, (prompt, 2 * i), cached_tokens=prompt - 7,
                            logprobs=likelihoods)  # fmt: skip
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled += 1
            raise

    async def generate_masks(
        self, model: Manifest, picture: bytes, parameters: Mapping[str, Any], *, wait: bool = True
    ) -> AsyncGenerator[Progress | SAMPrediction, None]:
        manifest = await self._load_for(tasks.PROMPTABLE, model, wait)
        self.asked.append((manifest.id, [picture], dict(parameters), wait))
        given = tasks.resolve(mask_grid.PARAMETERS, parameters)
        if self.failure is not None:
            raise self.failure
        total = given["points_per_side"] ** 2
        try:
            for done in (*range(0, total, given["points_per_batch"]), total):
                if self.held is not None and done:
                    await self.held.wait()
                if self.late_failure is not None and done:
                    raise self.late_failure
                yield Progress(done, total)
            width, height = Image.open(io.BytesIO(picture)).size
            yield selected((height, width), {"multimask": True, "mask_format": "rle"})
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled += 1
            raise

    async def _load_for(self, task: tasks.Task, model: Manifest, wait: bool) -> Manifest:
        if model.task != task.name:
            raise InvalidParameter(f"'{model.id}' does {model.task}, not {task.name}.")
        return await self.load(model.id, wait=wait)

    async def load(self, name: str, *, wait: bool = True) -> Manifest:
        manifest = self.repository.resolve(name)
        if manifest.id not in self._loaded:
            self._loaded[manifest.id] = manifest
            if not wait:
                raise ModelLoading(f"Model {manifest.id} is currently loading.", retry_after=2)
        return manifest

    async def verify(self, name: str) -> Verdict:
        return Verdict(self.repository.resolve(name).id, "onnxruntime-fp32", asked=False)

    async def times(self, name: str) -> tuple[Manifest, list[ModelTimes]]:
        return self.repository.resolve(name), []

    async def statistics(self) -> list[ModelTimes]:
        if not self.is_live:
            raise ServerUnavailable()
        return [ModelTimes(name, 3, 2, 2, 0.5, 0.25, 1.5, 0.125, 2.5, "1", 1) for name in self._loaded]

    async def why_model_not_ready(self, manifest: Manifest) -> str:
        return "" if manifest.id in self._loaded else f"'{manifest.id}' is not loaded."

    async def unload(self, name: str) -> None:
        self._loaded.pop(name, None) or self._loaded.pop(catalog.canonical(name), None)

    def loaded(self) -> list[Manifest]:
        return list(self._loaded.values())

    def memory(self) -> Memory:
        return Memory(dict.fromkeys(self._loaded, 2**20), dict.fromkeys(self._loaded, 1.0))

    def check_room(self, manifest: Manifest, requests: int = 1, role: str = "") -> None:
        if self.no_room is not None:
            raise self.no_room

    async def ready(self, manifest: Manifest | None = None) -> bool:
        return self.is_ready

    def endpoints(self) -> list[EndpointFigures]:
        return [EndpointFigures("gpu-1:8001", True, 7, 1, 2), EndpointFigures("gpu-2:8001", False, 3, 3, 0)]

    def losses(self) -> tuple[int, int]:
        return 2, 1

    def live(self) -> bool:
        return self.is_live

    def why_not_ready(self, manifest: Manifest | None = None) -> str:
        return "" if self.is_ready else "It is starting."

    def _result(self, manifest: Manifest, picture: bytes, settings: Mapping[str, Any]) -> Any:
        if manifest.task == "embedding":
            return vector_of(picture)
        width, height = shown_size(picture)
        metadata = {"height": height, "width": width}
        if manifest.task == "classification":
            return self._classes(manifest, settings, metadata)
        if manifest.task == "structured-ocr":
            return regions(metadata) if manifest.family == "EasyOCR" else page(metadata)
        if manifest.task == "text-only-ocr":
            return "a line"
        boxes = found(metadata)
        kept = boxes.confidence > settings["confidence"]
        if manifest.task == "open-vocabulary-object-detection":
            classes = len(settings["texts"] or set(settings["example_classes"]))
            ids = np.minimum(boxes.class_id, classes - 1)[kept].astype(np.int32)
            return Detections(boxes.xyxy[kept], ids, boxes.confidence[kept], metadata)
        if settings["classes"] is not None:
            kept &= np.isin(boxes.class_id, settings["classes"])
        rows = np.flatnonzero(kept)[: settings["max_detections"]]
        boxes = Detections(boxes.xyxy[rows], boxes.class_id[rows], boxes.confidence[rows], metadata)
        if manifest.task == "object-detection":
            return boxes
        if manifest.task == "instance-segmentation":
            return instances(boxes, settings["mask_format"])
        boxes.class_id = np.zeros(len(rows), np.int32)
        points = np.stack([boxes.xyxy[:, :2] + 1, boxes.xyxy[:, :2] + 2], axis=1)
        certain = np.tile(np.array([1.0, 0.4], np.float32), (len(rows), 1))
        return KeyPoints(points, boxes.class_id, certain, metadata), boxes

    def _classes(self, manifest: Manifest, settings: Mapping[str, Any], metadata: dict[str, int]) -> Any:
        if manifest.multi_label:
            return MultiLabelClassificationPrediction(np.array([0]), np.array([0.75, 0.125], np.float32), metadata)
        scores = np.array([0.25, 0.62504, 0.12496], np.float32)
        if settings["function"] == "sigmoid":
            scores = np.array([0.5, 0.9, 0.25], np.float32)
        return ClassificationPrediction(np.array([1]), scores[None], [metadata])


class WholeEngine(MemoryEngine):
    """The memory engine with something to say about every task; ``held`` holds questions about samples, too."""

    async def ask(
        self, model: Manifest, samples: Sequence[Mapping[str, Any]], parameters: Mapping[str, Any], *, role: str = "",
        outputs: Collection[str] = (), wait: bool = True,
    ) -> tuple[Manifest, list[Any]]:  # fmt: skip
        if self.held is not None:
            try:
                await self.held.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        if "image" in samples[0] or "embeddings" not in samples[0]:
            manifest, found = await super().ask(
                model, samples, parameters, role=role, outputs=outputs, wait=wait
            )  # fmt: skip
        else:  # what SAM is asked about a picture that it has seen
            manifest = await self.load(model.id, wait=wait)
            found = [selected((SIZE[1], SIZE[0]), parameters)]
        if "embeddings" in outputs:
            found = [SAMImageEmbeddings(np.zeros((256, 64, 64), np.float32), (SIZE[1], SIZE[0])) for _ in found]
        return manifest, found

    def _result(self, manifest: Manifest, picture: bytes, settings: Mapping[str, Any]) -> Any:
        if manifest.task == "interactive-instance-segmentation":
            width, height = Image.open(io.BytesIO(picture)).size
            return selected((height, width), settings)
        if manifest.task == "depth-estimation":
            width, height = Image.open(io.BytesIO(picture)).size
            ramp = np.linspace(0, 1, height * width, dtype=np.float32).reshape(height, width)
            return DepthMap(ramp, manifest.map_meaning, {"height": height, "width": width})
        if manifest.task == "gaze-detection":
            width, height = Image.open(io.BytesIO(picture)).size
            metadata = {"height": height, "width": width, "seconds": [0.25, 0.5]}
            faces = Detections(np.float32([[1, 2, 11, 22]]), np.zeros(1, np.int32), np.float32([0.75]), metadata)
            points = KeyPoints(np.ones((1, 6, 2), np.float32), faces.class_id, np.ones((1, 6), np.float32), metadata)
            return points, faces, L2CSGazeDetection(np.float32([0.5]), np.float32([-0.25]))
        return super()._result(manifest, picture, settings)
