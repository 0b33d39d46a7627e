"""The facade's seam: a data plane in memory that keeps the engine's contract, over a real repository of manifests."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from tritonvision import catalog, tasks
from tritonvision.engine import mask_grid
from tritonvision.engine.golden_check import Verdict
from tritonvision.engine.loaded_models import Memory
from tritonvision.engine.mask_grid import Progress
from tritonvision.engine.model_times import ModelTimes
from tritonvision.errors import InvalidParameter, ModelLoading
from tritonvision.facade.app import create_app
from tritonvision.facade.run import run
from tritonvision.pictures import shown_size
from tritonvision.publication import MANIFEST, Manifest, Repository
from tritonvision.results import (
    ClassificationPrediction,
    Delta,
    DepthMap,
    Detections,
    InstanceDetections,
    InstancesRLEMasks,
    KeyPoints,
    L2CSGazeDetection,
    MultiLabelClassificationPrediction,
    SAMImageEmbeddings,
    SAMPrediction,
)
from tritonvision.settings import Settings

FACE, DETECTOR, CLASSIFIER, MANY_LABELS, SEGMENTER = (
    "mediapipe-face-detection", "yolov8n-640", "resnet18", "mine/weather/1", "yolov8n-seg-640",
)  # fmt: skip
WRITER, PAGES, LINES, PHRASES, EXAMPLES = (
    "smolvlm-256m", "doctr-db_resnet50", "trocr-base-printed", "grounding-dino-tiny", "owlv2-large-patch14",
)  # fmt: skip
TOWERS = "clip/ViT-B-32"
SIZE = (40, 30)  # width, height
POINTS = ("right-eye", "left-eye")


def manifest_of(model: str, task: str, **more: Any) -> Manifest:
    return Manifest(**{
        "id": model, "family": "f", "task": task, "head": "h", "weights": "random", "source": "seed 0", "sha256": "0",
        "license": "Apache-2.0", "precision": "fp32", "labels": ("cat", "dog", "fox"), "input_size": (480, 640),
        "steps": (), **more,
    })  # fmt: skip


MANIFESTS = (
    manifest_of(DETECTOR, "object-detection"),
    manifest_of(FACE, "keypoint-detection", labels=("face",), keypoint_labels=POINTS, input_size=(128, 128)),
    manifest_of(CLASSIFIER, "classification", input_size=(224, 224)),
    manifest_of(MANY_LABELS, "classification", labels=("sunny", "windy"), multi_label=True),
    manifest_of(SEGMENTER, "instance-segmentation"),
    manifest_of(WRITER, "vlm", labels=()),
    manifest_of(PAGES, "structured-ocr", labels=("block", "line", "word")),
    manifest_of(LINES, "text-only-ocr", labels=()),
    manifest_of(PHRASES, "open-vocabulary-object-detection", labels=()),
    manifest_of(EXAMPLES, "open-vocabulary-object-detection", labels=()),
    manifest_of(TOWERS, "embedding", labels=(), roles=("", "text")),
)


def found(metadata: Mapping[str, int]) -> Detections:
    """Two boxes, best first; the second one hangs over the edge of the picture by rounding."""
    boxes = np.array([[1.25, 2.5, 21.75, 22.5], [30.9, 10.0, 40.0, 30.0]], np.float32)
    return Detections(boxes, np.array([1, 2], np.int32), np.array([0.9, 0.6], np.float32), dict(metadata))


def instances(boxes: Detections, mask_format: str) -> InstanceDetections:
    """The boxes with a triangle in the first of them and nothing in the others, as the caller wants it."""
    from pycocotools import mask

    size = boxes.image_metadata["height"], boxes.image_metadata["width"]
    shapes = np.zeros((len(boxes), *size), np.uint8)
    shapes[:1, 3:23, 2:22] = np.tril(np.ones((20, 20), np.uint8))
    triangle, nothing = np.array([[2, 3], [2, 22], [21, 22]], np.int32), np.zeros((0, 2), np.int32)
    found = InstanceDetections(boxes.xyxy, boxes.class_id, boxes.confidence, boxes.image_metadata)
    if mask_format == "rle":
        found.mask = InstancesRLEMasks(size, [mask.encode(np.asfortranarray(shape))["counts"] for shape in shapes])
    if mask_format == "polygon":
        found.polygons = [triangle, *[nothing] * len(boxes)][: len(boxes)]
    return found


def page(metadata: Mapping[str, int]) -> tuple[str, Detections]:
    """Two words in one line of one block, and a word that is in no line."""
    boxes = np.array([[0, 0, 40, 10], [0, 0, 40, 8], [0, 1, 18, 7], [20, 1, 39.5, 7], [1, 20, 9, 28]], np.float32)
    regions = [("two words", -1), ("two words", 0), ("two", 1), ("words", 1), ("alone", -1)]
    more = [{"text": text, "parent": parent} for text, parent in regions]
    kinds, scores = np.array([0, 1, 2, 2, 2], np.int32), np.linspace(0.9, 0.5, 5, dtype=np.float32)
    return "two words\n\nalone", Detections(boxes, kinds, scores, dict(metadata), more)


def vector_of(data: bytes) -> np.ndarray:
    """Any bytes' own float32 ``[1,4]``."""
    return np.random.default_rng(list(data[-64:])).normal(size=(1, 4)).astype(np.float32)


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
                yield Delta(text, np.array([2 * i, 2 * i + 1]), reason, (prompt, 2 * i))
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

    def live(self) -> bool:
        return self.is_live

    def why_not_ready(self) -> str:
        return "" if self.is_ready else "It is starting."

    def _result(self, manifest: Manifest, picture: bytes, settings: Mapping[str, Any]) -> Any:
        if manifest.task == "embedding":
            return vector_of(picture)
        width, height = shown_size(picture)
        metadata = {"height": height, "width": width}
        if manifest.task == "classification":
            return self._classes(manifest, settings, metadata)
        if manifest.task == "structured-ocr":
            return page(metadata)
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


@pytest.fixture(scope="session")
def memory_engine() -> type[MemoryEngine]:
    """The class, for tests that answer in their own way."""
    return MemoryEngine


@pytest.fixture(scope="session")
def whole_engine() -> type[MemoryEngine]:
    """The class that answers about every task."""
    return WholeEngine


@dataclass
class House:
    """A facade over a memory engine."""

    engine: MemoryEngine
    settings: Settings
    client: TestClient = field(repr=False)


class Held(asyncio.Event):
    """An event that tells when somebody waits for it: ``reached``."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = asyncio.Event()

    async def wait(self) -> bool:
        self.reached.set()
        return await super().wait()


@pytest.fixture
def hold():
    """``hold(engine)``: what the engine's answers wait for from now on."""

    def on(engine: MemoryEngine) -> Held:
        engine.held = Held()
        return engine.held

    return on


def publish(root: Path, manifests: Sequence[Manifest] = MANIFESTS) -> None:
    for manifest in manifests:
        folder = root / manifest.triton_name
        folder.mkdir(parents=True)
        (folder / MANIFEST).write_text(manifest.to_json())


def jpeg(size: tuple[int, int] = SIZE) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG")
    return stream.getvalue()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture
def picture() -> bytes:
    """A JPEG of 40 x 30 pixels."""
    return jpeg()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A facade with default settings."""
    yield from _open(tmp_path)


@pytest.fixture
def house_with(tmp_path: Path):
    """A facade with settings of the test's choice: ``house_with(api_key="k")``."""
    opened = []

    def make(**options: Any) -> House:
        opened.append(_open(tmp_path, **options))
        return next(opened[-1])

    yield make
    for house in opened:
        next(house, None)


def _open(root: Path, kind: type[MemoryEngine] = MemoryEngine, **options: Any) -> Iterator[House]:
    if not any(root.iterdir()):
        publish(root)
    settings = Settings(repository=root, **options)
    engine = kind(root)
    with TestClient(create_app(engine, settings), raise_server_exceptions=False) as client:
        yield House(engine, settings, client)

def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.asynccontextmanager
async def _served(house: House, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    settings = Settings(repository=house.settings.repository, port=free_port(), **options)
    app = create_app(house.engine, settings)
    up = asyncio.Event()
    task = asyncio.create_task(run(app, settings, ready=up.set))
    await asyncio.wait_for(up.wait(), 10)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{settings.port}", timeout=20) as client:
            client.service = app.state.service
            yield client
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def served():
    """``async with served(house, **settings) as client``: the house's engine behind a facade on a port."""
    return _served


@pytest.fixture
def until():
    """``await until(condition)``, which fails after some seconds."""

    async def wait(condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.01)

    return wait


# ---- a model for every route -----------------------------------------------------------------------------------------

OTHERS = (
    manifest_of("depth-anything-v2-small", "depth-estimation", labels=(), map_meaning="inverse-depth"),
    manifest_of("sam-vit_b", "interactive-instance-segmentation", labels=(), family="SAM"),
    manifest_of("l2cs-gaze", "gaze-detection", labels=("face",)),
    manifest_of("clip/RN50", "embedding", labels=(), roles=("", "text"), family="CLIP"),
)


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


def selected(size: tuple[int, int], settings: Mapping[str, Any]) -> SAMPrediction:
    """Three proposals or one, each the same rectangle of a picture of that (height, width)."""
    from pycocotools import mask

    count = 3 if settings["multimask"] else 1
    logits = np.full((count, 256, 256), -3.0, np.float32)
    logits[:, 100:121, 50:81] = 3
    result = SAMPrediction(
        np.linspace(0.9, 0.5, count, dtype=np.float32), None, None, logits, {"height": size[0], "width": size[1]}
    )
    if settings["mask_format"] == "polygon":
        result.polygons = [np.array([[5, 5], [5, 9], [20, 9]], np.int32)] * count
    else:
        dense = np.zeros(size, np.uint8, order="F")
        dense[5:9, 5:20] = 1
        result.masks = InstancesRLEMasks(size, [mask.encode(dense)["counts"]] * count)
    return result


@pytest.fixture
def whole_house(tmp_path: Path) -> Iterator[House]:
    """A facade with a model for every route."""
    yield from _open_whole(tmp_path)


@pytest.fixture(scope="module")
def shared_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """The same for all tests of a module, which leave it as it is."""
    yield from _open_whole(tmp_path_factory.mktemp("repository"))


@pytest.fixture
def whole_house_with(tmp_path: Path):
    """The same with settings of the test's choice."""
    opened = []

    def make(**options: Any) -> House:
        opened.append(_open_whole(tmp_path, **options))
        return next(opened[-1])

    yield make
    for house in opened:
        next(house, None)


def _open_whole(root: Path, **options: Any) -> Iterator[House]:
    if not any(root.iterdir()):
        publish(root, (*MANIFESTS, *OTHERS))
    yield from _open(root, WholeEngine, **options)
