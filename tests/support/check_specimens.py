"""An answer of each output schema, for a reference pipeline and ours at once, and what makes it wrong by field."""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from zlib import crc32

import numpy as np
from pycocotools import mask as coco

from tritonvision import tasks
from tritonvision.exporters.contract import Network, Tolerance
from tritonvision.python_backend.ocr import page_layout

TOLERANCE = Tolerance(
    {"logits": 1e-4, "embeddings": 2e-5, "low_res_masks": 1e-3}, {"scores": 1e-4}, frozenset({"low_res_masks"})
)
PIXELS, SCORES, MASKS, MAP = (2 * TOLERANCE.answer(name) for name in ("pixels", "scores", "masks", "map"))
DEGREES, EMBEDDINGS = 2 * TOLERANCE.answer("degrees"), 2 * TOLERANCE.answer("embeddings")
Change = Callable[[dict], dict]


@dataclass
class Specimen:
    """One output schema.

    Attributes:
        answer: ``answer(sample, parameters)``, another one for each question.
        changes: what makes an answer wrong, by name.
        questions: of compositions.
        served: how the pipeline says what the reference says, where that is not the same.
    """

    task: tasks.Task
    answer: Callable
    changes: dict[str, Change]
    questions: list = field(default_factory=lambda: [{}])
    served: Change = lambda answer: answer


class Recorded(Network):
    """The specimen as a reference."""

    def __init__(self, specimen):
        super().__init__(labels=(), source="")
        self._specimen = specimen

    def export(self, path, role=""):
        raise NotImplementedError

    def tensors(self, inputs, double=False, role=""):
        raise NotImplementedError

    def predict(self, sample, parameters, role=""):
        return self._specimen.answer(sample, parameters)

    def questions(self):
        return self._specimen.questions


def point(name: str) -> SimpleNamespace:
    """What a check reads of an entry point."""
    return SimpleNamespace(name=name, task=SPECIMENS[name].task, role="", pre=None)


def rng(*question) -> np.random.Generator:
    """Numbers that follow from the question."""
    return np.random.default_rng(crc32(repr(question).encode()))


def seen(sample: np.ndarray) -> int:
    return crc32(sample.tobytes())


# ---- changes --------------------------------------------------------------------------------------------------------


def add(name: str, amount: float) -> Change:
    """To the last value of an output."""

    def change(answer):
        values = answer[name].copy()
        values.reshape(-1)[-1] += np.asarray(amount, values.dtype)
        return answer | {name: values}

    return change


def put(name: str, value) -> Change:
    """``value`` in the place of the last one of an output."""

    def change(answer):
        values = answer[name].copy()
        values.reshape(-1)[-1] = value
        return answer | {name: values}

    return change


def each(names: str, cut: Callable[[np.ndarray], np.ndarray]) -> Change:
    """``cut`` applied to each of the outputs ``names``: one row fewer, one more."""
    return lambda answer: answer | {name: cut(answer[name]) for name in names.split() if name in answer}


def fewer(names: str) -> Change:
    return each(names, lambda rows: rows[:-1])


def more(names: str) -> Change:
    return each(names, lambda rows: np.concatenate([rows, rows[-1:]]))


# ---- detections -----------------------------------------------------------------------------------------------------

ROWS = "boxes scores class_ids keypoints masks"


def boxes(sample, parameters) -> dict:
    """Twelve boxes apart from each other, so that each has one partner."""
    numbers = rng(seen(sample))
    corners = np.array([(10 + 14 * n, 5 + n) for n in range(12)], np.float32) + numbers.random((12, 2))
    return {
        "boxes": np.concatenate([corners, corners + 12], 1).astype(np.float32),
        "scores": np.linspace(0.95, 0.3, 12, dtype=np.float32),
        "class_ids": numbers.integers(0, 5, 12).astype(np.int32),
        "image_size": np.array(sample.shape[:2], np.int32),
    }


def faces(sample, parameters) -> dict:
    return boxes(sample, parameters) | {"keypoints": np.arange(12 * 6 * 2, dtype=np.float32).reshape(12, 6, 2)}


def instances(sample, parameters) -> dict:
    found = boxes(sample, parameters)
    return found | {"masks": np.array([_rectangle(sample, 40, 5 + row) for row in range(12)], object)}


def _rectangle(sample: np.ndarray, width: int, height: int) -> bytes:
    pixels = np.zeros(sample.shape[:2], np.uint8)
    pixels[:height, :width] = 1
    return coco.encode(np.asfortranarray(pixels))["counts"]


def _thinner(answer: dict) -> dict:
    """The last mask without some of its 16 rows of 40 pixels, so that 1 - IoU is a sixteenth or more."""
    height, width = answer["image_size"]
    return put("masks", _rectangle(np.empty((height, width, 3)), 40, 15))(answer)


BOX_CHANGES = {
    "a box": add("boxes", PIXELS), "a score": add("scores", SCORES), "a class": add("class_ids", 1),
    "a row too few": fewer(ROWS), "a row too many": more(ROWS),
    "NaN in a box": put("boxes", np.nan), "NaN in a score": put("scores", np.nan),
}  # fmt: skip
KEYPOINT_CHANGES = {"a key point": add("keypoints", PIXELS), "NaN in a key point": put("keypoints", np.nan)}


# ---- classes, embeddings, maps --------------------------------------------------------------------------------------


def classes(sample, parameters) -> dict:
    scores = rng(seen(sample)).permutation(np.linspace(0.02, 0.98, 30).astype(np.float32))
    order = np.argsort(-scores, kind="stable")
    return {"scores": scores, "class_ids": order[scores[order] >= parameters["confidence"]].astype(np.int32)}


def embeddings(sample, parameters) -> dict:
    return {"embeddings": rng(seen(sample)).normal(0, 1, 64).astype(np.float32)}


def depth(sample, parameters) -> dict:
    height, width = sample.shape[:2]
    return {"map": np.linspace(1 + rng(seen(sample)).random(), 9, height * width).reshape(height, width)}


def _sixteen_bits(answer: dict) -> dict:
    low, high = answer["map"].min(), answer["map"].max()
    steps = np.round((answer["map"] - low) / (high - low) * 65535)
    return {"map": steps.astype(np.uint16), "range": np.array([low, high], np.float32)}


# ---- compositions ---------------------------------------------------------------------------------------------------


def selected(sample, parameters) -> dict:
    numbers = rng(seen(sample), parameters["points"])
    masks = [_rectangle(sample, 300, int(rows)) for rows in numbers.integers(100, 400, 3)]
    logits = numbers.normal(0, 5, (3, 8, 8)).astype(np.float32)
    return {"masks": np.array(masks, object), "scores": numbers.random(3).astype(np.float32), "low_res_masks": logits}


def followed(frames, parameters) -> dict:
    """Two objects on each frame."""
    shapes = [
        (int(rng(seen(frame), parameters["points"], one).integers(60, 300)), 20 + 7 * one + number)
        for number, frame in enumerate(frames) for one in (0, 1)
    ]  # fmt: skip
    return {
        "masks": np.array([_rectangle(frames[0], *shape) for shape in shapes], object),
        "scores": np.linspace(0.5, 1, len(shapes)).astype(np.float32),
        "object_ids": np.array([3, 1] * len(frames), np.int64),
    }


def looks(sample, parameters) -> dict:
    numbers = rng(seen(sample), parameters["detect_faces"])
    return {
        "boxes": numbers.uniform(0, 90, (2, 4)).astype(np.float32), "scores": np.float32([0.9, 0.8]),
        "keypoints": numbers.uniform(0, 90, (2, 6, 2)).astype(np.float32),
        "yaw": numbers.uniform(-1, 1, 2).astype(np.float32), "pitch": numbers.uniform(-1, 1, 2).astype(np.float32),
    }  # fmt: skip


def line(sample, parameters) -> dict:
    ids = rng(seen(sample), parameters["num_beams"]).integers(0, 500, 20)
    return {"token_ids": ids, "text": np.array([" ".join(map(str, ids)).encode()], object)}


def chat(sample, parameters) -> dict:
    asked = repr(sample["messages"]), [seen(picture) for picture in sample["pictures"]], parameters.get("seed")
    ids = rng(asked).permutation(500)[:24]
    return {
        "token_ids": ids, "text": np.array([" ".join(map(str, ids))], object),
        "finish_reason": np.array(["length"], object), "usage": np.array([40, 24], np.int32),
    }  # fmt: skip


def page(sample, parameters) -> dict:
    texts = [f"word{seen(sample)}{n}" for n in range(12)]
    words = [page_layout.Word(text, 0.9, (0.05 * n, 0.1, 0.05 * n + 0.03, 0.12)) for n, text in enumerate(texts)]
    size = sample.shape[:2]
    return {**page_layout.page(words, size), "image_size": np.array(size, np.int32)}


def named(sample, parameters) -> dict:
    return boxes(sample, parameters) | {"class_ids": np.arange(12, dtype=np.int32) % len(parameters["texts"])}


ONE_ROW = "masks scores low_res_masks"
FACES = "boxes scores keypoints yaw pitch"
PAGE = "boxes scores class_ids texts parents"

SPECIMENS = {
    "dense-boxes": Specimen(tasks.OBJECT_DETECTION, boxes, BOX_CHANGES),
    "query-boxes": Specimen(tasks.OBJECT_DETECTION, boxes, BOX_CHANGES),
    "keypoints": Specimen(tasks.KEYPOINT_DETECTION, faces, BOX_CHANGES | KEYPOINT_CHANGES),
    "prototype-masks": Specimen(tasks.INSTANCE_SEGMENTATION, instances, BOX_CHANGES | {"a mask": _thinner}),
    "classes": Specimen(tasks.CLASSIFICATION, classes, {
        "a score": add("scores", SCORES), "NaN in a score": put("scores", np.nan),
        "a class too few": each("class_ids", lambda ids: ids[1:]), "a class too many": more("class_ids"),
        "no such class": put("class_ids", 30), "another class": put("class_ids", 29),
        "the worst first": each("class_ids", lambda ids: ids[::-1]),
        "a score too few": fewer("scores"),
    }),
    "embeddings": Specimen(tasks.EMBEDDING, embeddings, {
        "a value": add("embeddings", 1.5 * EMBEDDINGS), "NaN": put("embeddings", np.nan),
        "a value too few": fewer("embeddings"),
    }),
    "dense-map": Specimen(tasks.DEPTH_ESTIMATION, depth, {
        "a pixel": put("map", 65535 - int(65535 * 1.3 * MAP)), "the range": add("range", 9 * MAP),
        "NaN": put("range", np.nan), "a row too few": fewer("map"),
    }, served=_sixteen_bits),
    "promptable-masks": Specimen(tasks.PROMPTABLE, selected, {
        "a mask": lambda answer: put("masks", _rectangle(np.empty((512, 512, 3)), 300, 50))(answer),
        "a score": add("scores", SCORES), "a logit": put("low_res_masks", 50), "NaN in a score": put("scores", np.nan),
        "NaN in a logit": put("low_res_masks", np.nan), "a proposal too few": fewer(ONE_ROW),
        "a proposal too many": more(ONE_ROW),
    }, questions=[{"points": [[x, 9]]} for x in (1, 2, 3)]),
    "tracked-masks": Specimen(tasks.TRACKING, followed, {
        "a mask": put("masks", _rectangle(np.empty((432, 432, 3)), 9, 9)), "a score": add("scores", SCORES),
        "NaN in a score": put("scores", np.nan), "another object": add("object_ids", 1),
        "an object too few": fewer("masks scores object_ids"), "an object too many": more("masks scores object_ids"),
    }, questions=[{"points": [[x, 9]]} for x in (1, 2)]),
    "gaze": Specimen(tasks.GAZE, looks, {
        "a box": add("boxes", PIXELS), "a score": add("scores", SCORES), "a key point": add("keypoints", PIXELS),
        "a yaw": add("yaw", np.radians(DEGREES)), "a pitch": add("pitch", np.radians(DEGREES)),
        **{f"NaN in {name}": put(name, np.nan) for name in FACES.split()},
        "a face too few": fewer(FACES), "a face too many": more(FACES), "key points too few": fewer("keypoints"),
    }, questions=[{}, {"detect_faces": False}]),
    "line-text": Specimen(tasks.TEXT_OCR, line, {
        "a token": add("token_ids", 1), "the text": put("text", b"another"), "a token too few": fewer("token_ids"),
        "a token too many": more("token_ids"),
    }, questions=[{"num_beams": 1}, {"num_beams": 3}]),
    "chat": Specimen(tasks.VLM, chat, {
        "a token": add("token_ids", 1), "the text": put("text", "another"), "a token too few": fewer("token_ids"),
        "a token too many": more("token_ids"), "why it ended": put("finish_reason", "stop"),
        "its tokens": add("usage", 1),
    }),
    "page-text": Specimen(tasks.STRUCTURED_OCR, page, {
        "a box": add("boxes", PIXELS), "a score": add("scores", SCORES), "NaN in a box": put("boxes", np.nan),
        "NaN in a score": put("scores", np.nan), "a class": add("class_ids", -1), "a parent": add("parents", -1),
        "a word": put("texts", b"another"), "the text": put("text", b"another"), "the size": add("image_size", 1),
        "a row too few": fewer(PAGE), "a row too many": more(PAGE),
    }),
    "phrase-grounding": Specimen(tasks.OPEN_VOCABULARY, named, BOX_CHANGES),
    "open-vocabulary": Specimen(tasks.OPEN_VOCABULARY, named, BOX_CHANGES),
    "text-guided-boxes": Specimen(tasks.OPEN_VOCABULARY, named, BOX_CHANGES),
}  # fmt: skip
