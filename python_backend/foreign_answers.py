"""What the code of a user's own package returns for one picture, converted to our output tensors. Results are read by
their attributes, not their type: a ``supervision.Detections``, result classes of other packages and a namedtuple of
torch tensors all work. Torch is never imported; an object with ``detach`` is a tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from tritonvision.errors import InvalidParameter, NotSupported, TritonVisionError
from tritonvision.python_backend.images.resize import Geometry
from tritonvision.python_backend.masks import run_lengths
from tritonvision.python_backend.postprocess import dense_map

Tensors = dict[str, np.ndarray]
Settings = Mapping[str, Any]
Size = tuple[int, int]


def to_tensors(answer: Any, task: str, size: Size, settings: Settings, classes: int = 0) -> Tensors:
    """The public outputs of ``task`` about one picture, without a batch axis.

    Args:
        answer: of the package's model: one result, or a list of one.
        size: (height, width) of the picture.
        settings: all settings of the task, resolved; of them ``confidence``, ``classes`` and ``max_detections`` are
            applied where they are not None, and ``mask_format`` is how masks travel.
        classes: how many class names there are.

    Raises:
        TritonVisionError: the result is not of the task; the message says what it is.
    """
    while isinstance(answer, list | tuple) and len(answer) == 1 and not hasattr(answer, "_fields"):
        answer = answer[0]
    return READERS[task](answer, size, settings, classes)


def _detections(answer: Any, size: Size, settings: Settings, classes: int) -> Tensors:
    boxes = _numbers(_part(answer, "xyxy"), np.float32)
    if boxes.size and (boxes.ndim != 2 or boxes.shape[1] != 4):
        raise TritonVisionError("The package's model answered boxes that are not four numbers each.")
    boxes = boxes.reshape(-1, 4)
    count = len(boxes)
    scores = _column(answer, "confidence", count, np.float32, 1)
    class_ids = _column(answer, "class_id", count, np.int32, 0)
    if count and not (0 <= class_ids.min() and class_ids.max() < classes):
        raise TritonVisionError(f"The package's model answered a class id beyond its {classes} class names.")
    kept = np.argsort(-scores, kind="stable")
    if settings["confidence"] is not None:
        kept = kept[scores[kept] >= np.float32(settings["confidence"])]
    if settings["classes"] is not None:
        kept = kept[np.isin(class_ids[kept], settings["classes"])]
    kept = kept[: settings["max_detections"]]
    corners = np.clip(boxes[kept], 0, np.array([size[1], size[0]] * 2, dtype=np.float32))
    found = {"boxes": corners, "scores": scores[kept], "class_ids": class_ids[kept]}
    if "mask_format" not in settings:
        return found
    wanted = settings["mask_format"]
    encoded = [] if wanted == "none" else _masks(_part(answer, "mask"), kept, count, size, wanted)
    row = np.empty(len(encoded), dtype=object)
    row[:] = encoded
    return found | {"masks": row}


def _masks(given: Any, kept: np.ndarray, count: int, size: Size, mask_format: str) -> list[bytes]:
    """Of pixels ``[n, h, w]``, enlarged to the picture where they are smaller; or of COCO run lengths as they are."""
    if hasattr(given, "masks") and hasattr(given, "image_size"):
        texts = [text.encode() if isinstance(text, str) else bytes(text) for text in given.masks]
        if len(texts) != count or tuple(int(v) for v in given.image_size) != size:
            raise TritonVisionError("The package's model answered masks that do not fit its boxes or the picture.")
        if mask_format != "rle":
            raise NotSupported("This package answers run lengths, which cannot become polygons here.")
        return [texts[i] for i in kept]
    pixels = _numbers(given, np.float32) if count or given is not None else np.zeros((0, *size), dtype=np.float32)
    if pixels.ndim != 3 or len(pixels) != count:
        raise TritonVisionError("The package's model answered masks that do not fit its boxes or the picture.")
    encoded = []
    for i in kept:
        patch = pixels[i] > 0.5
        if patch.shape != size:
            patch = cv2.resize(patch.view(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST).view(bool)
        encoded.append(run_lengths.encode(np.ascontiguousarray(patch), 0, 0, *size, mask_format))
    return encoded


def _classes(answer: Any, size: Size, settings: Settings, classes: int) -> Tensors:
    if settings["function"] is not None:
        raise InvalidParameter("This package's model gives its scores itself: leave 'function' out.")
    scores = _numbers(_part(answer, "confidence"), np.float32)
    if scores.size != classes:
        raise TritonVisionError(f"The package's model answered {scores.size} scores for its {classes} class names.")
    scores = scores.reshape(-1)
    order = np.argsort(-scores, kind="stable")
    if settings["confidence"] is not None:
        order = order[scores[order] >= np.float32(settings["confidence"])]
    elif hasattr(answer, "class_ids"):
        order = order[np.isin(order, _numbers(answer.class_ids, np.int64))]
    else:
        order = order[:1]
    return {"scores": scores, "class_ids": order.astype(np.int32)}


def _embedding(answer: Any, size: Size, settings: Settings, classes: int) -> Tensors:
    return {"embeddings": _numbers(answer, np.float32).reshape(-1)}


def _depth(answer: Any, size: Size, settings: Settings, classes: int) -> Tensors:
    values = _numbers(answer, np.float32)
    if values.ndim != 2 or not values.size:
        shape = list(values.shape)
        raise TritonVisionError(f"The package's model answered a map of shape {shape}, not one of two axes.")
    height, width = size
    return dense_map.post({"map": values}, Geometry(width, height, 0, 0, 1, 1), {})


def _text(answer: Any, size: Size, settings: Settings, classes: int) -> Tensors:
    if not isinstance(answer, str):
        raise _unknown(answer)
    return {"text": np.array([answer.encode("utf-8", "replace")], dtype=object)}


# By task: what a package's code may answer here.
READERS: dict[str, Callable[[Any, Size, Settings, int], Tensors]] = {
    "object-detection": _detections, "instance-segmentation": _detections, "classification": _classes,
    "embedding": _embedding, "depth-estimation": _depth, "text-only-ocr": _text,
}  # fmt: skip


def _part(answer: Any, name: str) -> Any:
    if not hasattr(answer, name):
        raise _unknown(answer)
    return getattr(answer, name)


def _unknown(answer: Any) -> TritonVisionError:
    what = f"a list of {len(answer)}" if isinstance(answer, Sequence) and not isinstance(answer, str) else (
        f"a '{type(answer).__name__[:40]}'"
    )  # fmt: skip
    return TritonVisionError(f"The package's model answered {what}, which its task does not know.")


def _column(answer: Any, name: str, count: int, dtype: type, absent: float) -> np.ndarray:
    given = getattr(answer, name, None)
    values = np.full(count, absent, dtype=dtype) if given is None else _numbers(given, dtype).reshape(-1)
    if len(values) != count:
        raise TritonVisionError(f"The package's model answered {len(values)} values of '{name}' for {count} boxes.")
    return values


def _numbers(value: Any, dtype: type) -> np.ndarray:
    """An array of finite numbers out of an array, a torch tensor or lists of numbers."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    try:
        array: np.ndarray = np.asarray(value, dtype=dtype)
    except (TypeError, ValueError) as error:
        raise _unknown(value) from error
    if not np.isfinite(array).all():
        raise TritonVisionError("The package's model answered numbers that are not finite.")
    return array
