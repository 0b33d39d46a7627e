"""Ways in which a published model goes wrong though its manifest vouches for every file: what a load has to find."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

BOXES, CLASSES = "yolov8n-640", "resnet18"
FINDER, TEXTS, WRITER = "tests/small-owl/1", "clip/RN50", "tests/small-vlm/1"
_FINDER, _WRITER = "tests__small-owl__1", "tests__small-vlm__1"
PRE_BOXES, PRE_CLASSES = "pre--letterbox-640", "pre--crop-224-bicubic-95"
POST_BOXES, POST_CLASSES = "post--dense-boxes", "post--classes"

# A model.py that does what the true one does, and then something to its answer.
_CHANGED = '''import numpy as np
from tritonvision.python_backend import {module}

{before}
class TritonPythonModel({module}.TritonPythonModel):
    def answer(self, tensors, wanted):
        found = {module}.TritonPythonModel.answer(self, tensors, wanted)
        {line}
        return found
'''


@dataclass(frozen=True)
class Sabotage:
    """One way.

    Attributes:
        model: that is loaded.
        stage: that has to be blamed.
        do: changes files of the repository.
    """

    what: str
    model: str
    stage: str
    do: Callable[[Path], None]


def step(name: str, module: str, line: str = "pass", before: str = "") -> Callable[[Path], None]:
    """The step ``name`` changes its answer ``found`` by ``line``."""

    def do(root: Path) -> None:
        replace(root / name / "1" / "model.py", _CHANGED.format(module=module, before=before, line=line).encode())

    return do


def post(name: str, line: str = "pass", before: str = "") -> Callable[[Path], None]:
    """As :func:`step`, of a post step."""
    return step(name, "post", line, before)


def pixels(expression: str, name: str = PRE_BOXES) -> Callable[[Path], None]:
    """The pre step answers ``expression`` of its pixels ``p`` instead of them."""
    return step(name, "pre", f"p = found['pixels']; found['pixels'] = np.ascontiguousarray({expression})")


def config(name: str, change: Callable[[pb.ModelConfig], None]) -> Callable[[Path], None]:
    """The config of a Triton model is another, and so is every one that it may be loaded with."""

    def do(root: Path) -> None:
        for path in [*(root / name).rglob("*.pbtxt")]:
            found = text_format.Parse(path.read_text(), pb.ModelConfig())
            before = found.SerializeToString()
            change(found)
            assert found.SerializeToString() != before
            replace(path, text_format.MessageToString(found).encode())

    return do


def resize(name: str, **options: Any) -> Callable[[Path], None]:
    """Constants of a pre step are others."""

    def change(found: pb.ModelConfig) -> None:
        value = found.parameters["resize"]
        value.string_value = json.dumps(json.loads(value.string_value) | options)

    return config(name, change)


def crosswise(found: pb.ModelConfig) -> None:
    """The network's logits go where its scores should go, and the other way round."""
    network = found.ensemble_scheduling.step[1].output_map
    network["logits"], network["scores"] = network["scores"], network["logits"]


def weights(change: Callable, model: str) -> Callable[[Path], None]:
    """``change(name, array)`` gives each float weight of the graph anew, or None to leave it.

    Args:
        model: whose network it is, or the path of its file.
    """

    def do(root: Path) -> None:
        import onnx
        from onnx import numpy_helper

        path = root / (model if model.endswith(".onnx") else f"net--{model}/1/model.onnx")
        graph = onnx.load(path)
        for tensor in graph.graph.initializer:
            if tensor.data_type == onnx.TensorProto.FLOAT:
                values = change(tensor.name, numpy_helper.to_array(tensor).copy())
                if values is not None:
                    tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), tensor.name))
        replace(path, graph.SerializeToString())

    return do


def flip_a_byte(name: str, values: np.ndarray) -> np.ndarray | None:
    """Of the largest weight of the first convolution, the byte that holds the exponent."""
    if values.ndim != 4 or values.shape[1] != 3:
        return None
    flat = values.reshape(-1)
    flat.view(np.uint8).reshape(-1, 4)[np.abs(flat).argmax(), 3] ^= 0x01
    return values


def in_half_precision(name: str, values: np.ndarray) -> np.ndarray:
    """What a provider that computes in bf16 would make of it."""
    return (values.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32) if values.ndim else values


def other_numbers(name: str, values: np.ndarray) -> np.ndarray | None:
    """The weights of another model of the same shape."""
    return np.random.default_rng(5).permutation(values.reshape(-1)).reshape(values.shape) if values.ndim == 4 else None


def other_rows(name: str, values: np.ndarray) -> np.ndarray | None:
    """The weights of another transformer of the same shape."""
    return np.random.default_rng(5).permutation(values, axis=-1) if values.ndim == 2 else None


def shifted_bias(name: str, values: np.ndarray) -> np.ndarray | None:
    """What a wrong mean of the pixels comes to: exporting folds it into the first bias."""
    return values + np.float32(0.01) if values.shape == (64,) else None


def in_eight_bits(name: str, values: np.ndarray) -> np.ndarray | None:
    """Convolutions rounded to 8 bits."""
    scale = np.abs(values).max() / 127
    return np.rint(values / scale) * scale if values.ndim == 4 else None


def labels(change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    """The names of the classes of the detector are others."""

    def do(root: Path) -> None:
        manifest = json.loads((root / BOXES / "manifest.json").read_text())
        replace(root / BOXES / "manifest.json", json.dumps(manifest | {"labels": change(manifest["labels"])}).encode())

    return do


def tokenizer(path: str, change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    """The tokenizer in the file ``path`` is another; ``change`` is given its model."""

    def do(root: Path) -> None:
        found = json.loads((root / path).read_text())
        change(found["model"])
        replace(root / path, json.dumps(found).encode())

    return do


def swap_words(model: dict[str, Any]) -> None:
    """Two thousand words have the numbers of two thousand others."""
    words = list(model["vocab"])[300:4300]
    model["vocab"] |= dict(zip(words, [model["vocab"][word] for word in words[::-1]], strict=True))


def truncate(model: dict[str, Any]) -> None:
    """The second half of the merges is lost: long words fall apart."""
    del model["merges"][len(model["merges"]) // 2 :]


def replace(path: Path, data: bytes) -> None:
    """Another file in the place of this one: it may be a link to the file of everybody's model."""
    path.unlink()
    path.write_bytes(data)


def vouch(root: Path, model: str) -> None:
    """The manifest of ``model`` gets the sha256 of the files as they are now."""
    path = root / model.replace("/", "__") / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"] = {name: hashlib.sha256((root / name).read_bytes()).hexdigest() for name in manifest["files"]}
    replace(path, json.dumps(manifest).encode())


_NO_NMS = """from tritonvision.python_backend.postprocess import dense_boxes
dense_boxes.nms = lambda boxes, iou_threshold, most: np.arange(len(boxes))[:most]
"""
_NEAREST = """import cv2
_resize = cv2.resize
cv2.resize = lambda picture, size, interpolation=None: _resize(picture, size, interpolation=cv2.INTER_NEAREST)
"""
_AREA = _NEAREST.replace("INTER_NEAREST", "INTER_AREA")

_BOXES, _IDS, _SCORES = "found['boxes']", "found['class_ids']", "found['scores']"

WAYS = [
    Sabotage("a flipped byte of the weights", BOXES, "network", weights(flip_a_byte, BOXES)),
    Sabotage("the graph of another model", BOXES, "network", weights(other_numbers, BOXES)),
    Sabotage("another precision", BOXES, "network", weights(in_half_precision, BOXES)),
    Sabotage("weights in 8 bits", CLASSES, "network", weights(in_eight_bits, CLASSES)),
    Sabotage("a wrong bias", CLASSES, "network", weights(shifted_bias, CLASSES)),
    Sabotage("RGB for BGR", BOXES, "pre", pixels("p[..., ::-1]")),
    Sabotage("transposed axes", BOXES, "pre", pixels("p.transpose(0, 2, 1, 3)")),
    Sabotage("a mirror image", BOXES, "pre", pixels("p[:, :, ::-1]")),
    Sabotage("a pixel to the left", BOXES, "pre", pixels("np.roll(p, -1, axis=2)")),
    Sabotage("limited range", CLASSES, "pre", pixels("(p * (219 / 255) + 16).astype(p.dtype)", PRE_CLASSES)),
    Sabotage("another interpolation", BOXES, "pre", step(PRE_BOXES, "pre", before=_NEAREST)),
    Sabotage("an averaging interpolation", BOXES, "pre", step(PRE_BOXES, "pre", before=_AREA)),
    Sabotage("another filter", CLASSES, "pre", resize(PRE_CLASSES, interpolation="bilinear")),
    Sabotage("another crop", CLASSES, "pre", resize(PRE_CLASSES, percent=100)),
    Sabotage("another letterbox fill", BOXES, "pre", resize(PRE_BOXES, pad=0)),
    Sabotage("a wrong size", BOXES, "pre", resize(PRE_BOXES, height=320, width=320)),
    Sabotage("boxes off by half a pixel", BOXES, "post", post(POST_BOXES, f"{_BOXES} = {_BOXES} + np.float32(0.5)")),
    Sabotage("class ids off by one", BOXES, "post", post(POST_BOXES, f"{_IDS} = {_IDS} + np.int32(1)")),
    Sabotage("no suppression", BOXES, "post", post(POST_BOXES, before=_NO_NMS)),
    Sabotage("x and y changed round", BOXES, "post", post(POST_BOXES, f"{_BOXES} = {_BOXES}[..., [1, 0, 3, 2]]")),
    Sabotage("another activation", CLASSES, "post", post(POST_CLASSES, f"{_SCORES} = np.sqrt({_SCORES})")),
    Sabotage("outputs wired crosswise", CLASSES, "answer", config(CLASSES, crosswise)),
    Sabotage("another network of texts", FINDER, "network text", weights(other_rows, f"{_FINDER}--text")),
    Sabotage("a swapped tokenizer", FINDER, "answer", tokenizer(f"{_FINDER}/1/tokenizer.json", swap_words)),
    Sabotage("a truncated vocabulary", TEXTS, "pre", tokenizer("tokens--clip-77/1/tokenizer.json", truncate)),
    Sabotage("another decoder", WRITER, "answer", weights(other_rows, f"{_WRITER}/1/decoder.onnx")),
    Sabotage("labels in another order", BOXES, "labels", labels(lambda names: names[::-1])),
    Sabotage("a label too few", BOXES, "labels", labels(lambda names: names[1:])),
]
