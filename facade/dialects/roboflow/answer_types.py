"""The types of what Roboflow's routes answer, for the description of the routes."""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict


class Problem(TypedDict):
    """What does not fit, and where."""

    type: str
    loc: list[str | int]
    msg: str


class RoboflowError(TypedDict):
    """Why there is no answer. Of a path that no dialect owns also in ``error``, where Hugging Face's clients look."""

    message: str
    status: NotRequired[int]
    error: NotRequired[str]
    estimated_time: NotRequired[float]


class RoboflowInvalid(TypedDict):
    """What of the request does not fit its schema."""

    detail: list[Problem]
    error: NotRequired[list[str]]


class Size(TypedDict):
    """Of the picture, turned as its EXIF says, in pixels."""

    width: int
    height: int


class Point(TypedDict):
    """Pixels of the picture."""

    x: float
    y: float


class Rle(TypedDict):
    """COCO's compressed run lengths; ``size`` is height, width."""

    size: list[int]
    counts: str


KeyPoint = TypedDict(
    "KeyPoint", {"x": float, "y": float, "confidence": float, "class": str, "class_id": int}
)  # fmt: skip
Box = TypedDict("Box", {
    "x": float, "y": float, "width": float, "height": float, "confidence": float, "class": str, "class_id": int,
    "detection_id": str,
})  # fmt: skip


class Instance(Box):
    """A box and the shape in it."""

    mask_format: NotRequired[Literal["polygon", "rle"]]
    points: NotRequired[list[Point]]
    rle: NotRequired[Rle]


class PosedBox(Box):
    """A box and the points in it."""

    keypoints: list[KeyPoint]


class TextRegion(Box):
    """A word, a line, or a block of lines."""

    text: str
    parent_id: NotRequired[str]


class _Answer(TypedDict):
    inference_id: str
    time: float
    image: Size


class _Drawn(_Answer):
    visualization: NotRequired[str]


class Detected(_Drawn):
    """The boxes of one picture."""

    predictions: list[Box]


class Segmented(_Drawn):
    """The instances of one picture."""

    predictions: list[Instance]


class Posed(_Drawn):
    """The boxes of one picture and their points."""

    predictions: list[PosedBox]


class Named(_Drawn):
    """The boxes of one picture, of classes that the request named."""

    frame_id: int | None
    resolved_model: dict[str, Any] | None
    predictions: list[Box]


ClassScore = TypedDict("ClassScore", {"class": str, "class_id": int, "confidence": float})


class Classified(_Drawn):
    """The classes of one picture, the best one in ``top``."""

    predictions: list[ClassScore]
    top: str
    confidence: float


class LabelScore(TypedDict):
    """One class of several that may be true at once."""

    confidence: float
    class_id: int


class ManyLabels(_Drawn):
    """The classes of one picture, of which several may be true."""

    predictions: dict[str, LabelScore]
    predicted_classes: list[str]


class Depth(TypedDict):
    """How near everything in the picture is, and the same in false colours."""

    inference_id: str
    time: float
    normalized_depth: str | list[list[float]]
    depth_map_format: Literal["json", "png16", "png8"]
    image: str
    frame_id: int | None
    resolved_model: dict[str, Any] | None


class Written(_Answer):
    """What the model writes about one picture; of a task of Florence-2, by its token, a text or lists of places."""

    response: str | dict[str, str | dict[str, list[Any]]]


class Read(TypedDict):
    """The text of one picture; its regions where they were asked for."""

    inference_id: str
    result: str
    time: float
    parent_id: str | None
    image: NotRequired[Size]
    predictions: NotRequired[list[TextRegion]]


class _Vectors(TypedDict):
    time: float
    inference_id: str | None
    frame_id: int | None
    parent_id: str | None


class Embedded(_Vectors):
    """A vector for each picture or text."""

    embeddings: list[list[float]]


class FeaturesTold(TypedDict):
    """What the vectors of an answer are. Those of one ``space_id`` can be compared."""

    model_id: str
    feature_definition: str
    output_type: Literal["feature_vector", "logits"]
    dimension: int
    normalization: Literal["none"]
    preprocessing: dict[str, Any]
    space_id: str
    backend: str
    precision: str


class Features(TypedDict):
    """A vector for each picture."""

    embeddings: list[list[float]]
    embedding_info: FeaturesTold
    time: float
    inference_id: str | None


class Compared(_Vectors):
    """The cosine of the subject and each prompt, by the prompt's name where prompts have names."""

    similarity: list[float] | dict[str, float]


class SamEmbedded(TypedDict):
    """The encoding of a picture, ``[1,256,64,64]``."""

    embeddings: list[list[list[list[float]]]]
    time: float


class SamSegmented(TypedDict):
    """An outline a mask, in pixels of the picture and of a grid of 256 x 256."""

    masks: list[list[list[int]]]
    low_res_masks: list[list[list[int]]]
    scores: list[float]
    time: float


class Sam2Embedded(TypedDict):
    """Under which id the picture is kept."""

    image_id: str
    time: float


class RunLengths(TypedDict):
    """A mask as COCO has it."""

    size: list[int]
    counts: str


class Sam2Mask(TypedDict):
    """The mask of one prompt: the outlines of its parts, in pixels of the picture, or run lengths."""

    masks: list[list[list[int]]] | RunLengths
    confidence: float
    format: Literal["polygon", "rle"]


class Sam2Segmented(TypedDict):
    """One prediction a prompt."""

    time: float
    predictions: list[Sam2Mask]


Face = TypedDict("Face", {
    "x": float, "y": float, "width": float, "height": float, "confidence": float, "class": str, "class_id": int,
    "landmarks": list[Point],
})  # fmt: skip


class Look(TypedDict):
    """A face and where it looks, in radians."""

    face: Face
    yaw: float
    pitch: float


class Gazes(TypedDict):
    """The faces of one picture."""

    predictions: list[Look]
    time: float
    time_face_det: float | None
    time_gaze_det: float | None
    visualization: NotRequired[str]


class PlanBuilding(TypedDict):
    """How far a TensorRT plan is that is built on this machine; ``done`` is the part of ``phase``, 0 to 1."""

    variant: str
    state: Literal["waiting", "building", "built", "failed"]
    phase: str
    done: float
    why: str


class LoadedModel(TypedDict):
    """One name of a loaded model."""

    model_id: str
    task_type: str
    batch_size: int | None
    input_height: int | None
    input_width: int | None
    vram_bytes: int | None
    request_aliases: list[str]
    request_paths: list[str]
    weights: str
    memory_bytes: NotRequired[int]
    last_used: NotRequired[float | None]
    variant: NotRequired[str]
    variant_note: NotRequired[str]
    plan_build: NotRequired[PlanBuilding]


class RefusedModel(TypedDict):
    """A model that was loaded and does not answer as it did when it was published."""

    model_id: str
    reason: str


class LoadedModels(TypedDict):
    """What is loaded, once under every name, and what that takes."""

    models: list[LoadedModel]
    total_vram_bytes: int | None
    memory_bytes: int
    memory_budget_bytes: int | None
    max_loaded: int | None
    evicted: int
    refused: list[RefusedModel]


class Started(TypedDict):
    """A model is loaded."""

    status: int
    message: str
