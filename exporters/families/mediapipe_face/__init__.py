"""MediaPipe Face: the short-range BlazeFace detector of the mediapipe wheel, a box and six key points for each face."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from tritonvision.catalog import Entry
from tritonvision.ensembles.preprocessing import Resize
from tritonvision.ensembles.schemas import KEYPOINTS
from tritonvision.errors import ExportFailed
from tritonvision.exporters.contract import Family, Network, ReferencePipeline, Refusals, Tolerance, Weights
from tritonvision.exporters.graphs import storage, tflite_converter, tflite_reader
from tritonvision.exporters.parity import sample_pictures
from tritonvision.exporters.wheel_files import WheelFile

SIZE = 128
POINTS = ("right-eye", "left-eye", "nose", "mouth", "right-ear", "left-ear")
FILE = WheelFile(
    requirement="mediapipe==0.10.21",
    member="mediapipe/modules/face_detection/face_detection_short_range.tflite",
    sha256="bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8",
)
GOLDEN = "golden.json"

# mediapipe's face_detection_short_range: minimum score and minimum suppression threshold of its graph
_ORACLE_PARAMETERS = {"confidence": 0.5, "iou_threshold": 0.3}
_SCORE_CLIP = 100.0


def anchors() -> np.ndarray:
    """Centres of the 896 candidates, float32 ``[896,2]`` network pixels.

    Two for each cell of a 16 x 16 grid, then six for each cell of an 8 x 8 grid, row by row (SsdAnchorsCalculator with
    strides 8, 16, 16, 16 and fixed anchor size 1).
    """
    parts = []
    for cells, repeat in ((16, 2), (8, 6)):
        y, x = np.mgrid[:cells, :cells]
        centres = (np.stack([x, y], axis=-1).reshape(-1, 2) + 0.5) * (SIZE / cells)
        parts.append(np.repeat(centres, repeat, axis=0))
    return np.concatenate(parts).astype(np.float32)


@dataclass
class FaceNetwork(Network):
    """The TFLite graph, evaluated in numpy as the reference and converted to ONNX for serving."""

    graph: tflite_reader.Graph = field(kw_only=True)

    def export(self, path: Path, role: str = "") -> None:
        """uint8 ``[B,128,128,3]`` to the key point tensors of 896 candidates; the decoding is part of the graph."""
        builder = tflite_converter.Builder()
        scaled = builder.add("Div", builder.add("Cast", "pixels", to=TensorProto.FLOAT), np.float32(127.5))
        raw = tflite_converter.append(builder, self.graph, builder.add("Sub", scaled, np.float32(1)))
        _append_decoding(builder, raw["regressors"], raw["classificators"])
        count = len(anchors())
        pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", SIZE, SIZE, 3])
        outputs = [
            helper.make_tensor_value_info(name, kind, ["batch", count, *rest])
            for name, kind, rest in (
                ("boxes", TensorProto.FLOAT, [4]), ("scores", TensorProto.FLOAT, []),
                ("class_ids", TensorProto.INT32, []), ("keypoints", TensorProto.FLOAT, [len(POINTS), 2]),
            )
        ]  # fmt: skip
        storage.save(builder.model("mediapipe-face", [pixels], outputs), path)

    def tensors(self, inputs: Mapping[str, np.ndarray], double: bool = False, role: str = "") -> dict[str, np.ndarray]:
        """The TFLite graph evaluated in numpy, decoded in mediapipe's units, fractions of the network's side.

        TensorsToDetectionsCalculator: x = raw / 128 + anchor; candidates of negative width or height are dropped.
        """
        dtype: type[np.floating] = np.float64 if double else np.float32
        pixels: np.ndarray = inputs["pixels"].astype(dtype)
        raw = tflite_reader.evaluate(self.graph, pixels / dtype(127.5) - dtype(1))
        values = raw["regressors"].reshape(len(pixels), -1, 2 + len(POINTS), 2) / dtype(SIZE)
        size = values[:, :, 1]
        values = values + (anchors().astype(dtype) / dtype(SIZE))[None, :, None]
        centre = values[:, :, 0]
        logits = np.clip(raw["classificators"][:, :, 0].astype(np.float64), -_SCORE_CLIP, _SCORE_CLIP)
        scores = 1 / (1 + np.exp(-logits))
        return {
            "boxes": np.concatenate([centre - size / 2, centre + size / 2], axis=-1) * dtype(SIZE),
            "scores": np.where((size >= 0).all(axis=-1), scores, 0).astype(dtype),
            "class_ids": np.zeros(scores.shape, np.int32),
            "keypoints": values[:, :, 2:] * dtype(SIZE),
        }

    def predict(self, sample: np.ndarray, parameters: Mapping[str, Any], role: str = "") -> None:
        """Not available: mediapipe cannot be installed beside the exporter; see :meth:`golden`."""

    def golden(self) -> list[tuple[np.ndarray, dict[str, Any], dict[str, np.ndarray]]]:
        """See :func:`recorded`."""
        return recorded()


def recorded() -> list[tuple[np.ndarray, dict[str, Any], dict[str, np.ndarray]]]:
    """mediapipe's answers to twelve pictures, recorded by ``tests/reference_pipelines/mediapipe/record.py``."""
    answers = json.loads(resources.files(__package__).joinpath(GOLDEN).read_text())
    views = sample_pictures.views()
    found = []
    for row in answers["pictures"]:
        picture = views[row["name"]]
        if hashlib.sha256(picture.tobytes()).hexdigest() != row["sha256"]:
            raise ExportFailed(
                f"The test picture '{row['name']}' is not the one that mediapipe's answers were recorded on.",
                hint="Install tritonvision again: its photograph has been changed.",
            )
        found.append((picture, dict(_ORACLE_PARAMETERS), _outputs(picture, row["faces"])))
    return found


def _append_decoding(builder: tflite_converter.Builder, regressors: str, classificators: str) -> None:
    """Raw ``[B,896,16]`` and logits ``[B,896,1]`` to the canonical tensors, in network pixels."""
    centres = anchors()[None]
    offset, size, points = builder.split(regressors, (2, 2, 2 * len(POINTS)), axis=2)
    centre, half = builder.add("Add", offset, centres), builder.add("Mul", size, np.float32(0.5))
    corners = builder.add("Sub", centre, half), builder.add("Add", centre, half)
    builder.add("Concat", *corners, axis=2, output="boxes")
    pairs = builder.add("Reshape", points, np.array([0, 0, len(POINTS), 2]))
    builder.add("Add", pairs, centres[:, :, None], output="keypoints")

    logits = builder.add("Squeeze", classificators, np.array([2]))
    clipped = builder.add("Clip", logits, np.float32(-_SCORE_CLIP), np.float32(_SCORE_CLIP))
    smallest = builder.add("ReduceMin", size, axes=[2], keepdims=0)
    is_box = builder.add("GreaterOrEqual", smallest, np.float32(0))
    builder.add("Where", is_box, builder.add("Sigmoid", clipped), np.float32(0), output="scores")
    zero = helper.make_tensor("zero", TensorProto.INT32, [1], [0])
    builder.add("ConstantOfShape", builder.add("Shape", logits), value=zero, output="class_ids")


def _outputs(picture: np.ndarray, faces: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Recorded faces, in fractions of the picture, as public outputs in pixels, with boxes clipped to the picture."""
    side = np.array([picture.shape[1], picture.shape[0]])
    boxes = np.array([face["box"] for face in faces]).reshape(-1, 2, 2)  # corner, size
    corners = np.stack([boxes[:, 0], boxes.sum(axis=1)], axis=1) * side
    points = np.array([face["keypoints"] for face in faces]).reshape(-1, len(POINTS), 2) * side
    return {
        "boxes": np.clip(corners, 0, side).reshape(-1, 4).astype(np.float32),
        "scores": np.array([face["score"] for face in faces], np.float32),
        "class_ids": np.zeros(len(faces), np.int32),
        "keypoints": points.astype(np.float32),
    }


class MediaPipeFace(Family):
    """One id, one file of weights, no random variant: the architecture is that file."""

    name = "MediaPipe Face"
    refusals = Refusals(labels="knows one class, 'face'", own_labels=("face",))
    head = KEYPOINTS
    tolerance = Tolerance(
        tensors={"boxes": 1e-3, "scores": 5e-6, "class_ids": 0, "keypoints": 1e-3},
        answers={"pixels": 3e-3, "scores": 5e-6},
    )  # fmt: skip
    reference_pipeline = ReferencePipeline(
        package="mediapipe", version="0.10.21",
        call="mp.solutions.face_detection.FaceDetection(model_selection=0, min_detection_confidence=0.5).process(rgb)",
    )  # fmt: skip

    def resize(self, entry: Entry) -> Resize:
        """The centred square, sampled corner-aligned."""
        return Resize("square", SIZE, SIZE)

    def official_network(self, entry: Entry, weights: Weights) -> FaceNetwork:
        """The file from the released wheel, downloaded once. Raises ExportFailed."""
        return _network(FILE.fetch())

    def network_from_file(self, entry: Entry, weights: Weights) -> FaceNetwork:
        """The user's own copy of the file, or of the wheel. Raises ExportFailed for any other."""
        return _network(FILE.fetch(weights.path))


def _network(data: bytes) -> FaceNetwork:
    """The network of the released file."""
    return FaceNetwork(
        labels=("face",),
        keypoint_labels=POINTS,
        source=f"{FILE.requirement}:{FILE.name}",
        sha256=FILE.sha256,
        versions={"onnx": onnx.__version__, "flatbuffers": metadata.version("flatbuffers")},
        graph=tflite_reader.read(data),
    )


FAMILY = MediaPipeFace()
