"""Objects followed through the frames of a stream: prompted on any frame, corrected later, tracked in between.

The steps are those of transformers' ``Sam2VideoModel`` when frames come one by one. A frame on which an object is
prompted for the first time stands for itself; on every other one the picture is seen through the object's memories of
earlier frames. A prompt on a frame through which the object was tracked already corrects what is remembered of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import cv2
import numpy as np

from tritonvision import tasks
from tritonvision.errors import InvalidParameter
from tritonvision.pictures import decode
from tritonvision.python_backend.compositions.promptable_masks import Filled
from tritonvision.python_backend.images import resize
from tritonvision.python_backend.masks import run_lengths
from tritonvision.python_backend.masks.low_resolution import Enlargement
from tritonvision.python_backend.runtime.networks import Call

TASK = tasks.TRACKING
OBJECTS = 16  # that one stream may follow
FRAMES = 8  # the last ones of a stream, about which prompts may still come
PROMPTED = 8  # frames on which one object is remembered as it was prompted: the first, and the last ones
_FRAME_BYTES = 64 * 2**20  # of the frames that one stream keeps, encoded
_POINTS = 256  # of one prompt
_ABSENT = -1024.0  # logits where the object is not seen
_SHRINK = 4  # the masks that the decoder gives are so much smaller than the encoder's frame


@dataclass(frozen=True)
class Prompt:
    """Where an object is: float64 ``[n,2]`` pixels of the frame, and ``[n]`` labels, 2 and 3 of a box's corners."""

    points: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Memory:
    """What is remembered of one object on one frame.

    Attributes:
        mask: float16 ``[h,w]`` logits.
        score: logit of being seen at all.
        pointer: float32 ``[C]``.
        features: float16 ``[c,h/4,w/4]``.
    """

    mask: np.ndarray
    score: float
    pointer: np.ndarray
    features: np.ndarray

    @property
    def nbytes(self) -> int:
        """Its size."""
        return self.mask.nbytes + self.pointer.nbytes + self.features.nbytes

    def older(self, without_mask: bool, without_features: bool) -> Memory:
        """The same without what is not read any more."""
        mask = self.mask[:0].copy() if without_mask else self.mask
        features = self.features[:0].copy() if without_features else self.features
        return Memory(mask, self.score, self.pointer, features)


class Frame(NamedTuple):
    """A frame as it came, encoded, and its (height, width)."""

    data: bytes
    size: tuple[int, int]


@dataclass
class Tracked:
    """One object of a stream: its memories by the number of their frame, of prompts and of tracking."""

    prompted: dict[int, Memory] = field(default_factory=dict)
    seen: dict[int, Memory] = field(default_factory=dict)

    def at(self, frame: int) -> Memory | None:
        """What is remembered of a frame."""
        return self.prompted.get(frame) or self.seen.get(frame)


@dataclass
class Stream:
    """The state of one sequence.

    Attributes:
        count: frames so far; they are numbered from 0.
        frames: the last ones, encoded, by number.
        objects: by their id, in the order in which they came.
    """

    count: int = 0
    frames: dict[int, Frame] = field(default_factory=dict)
    objects: dict[int, Tracked] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of all that is kept."""
        parts = (part for one in self.objects.values() for part in (one.prompted, one.seen))
        memories = sum(memory.nbytes for part in parts for memory in part.values())
        return self._frame_bytes() + memories

    def forget(self, memories: int, pointers: int) -> None:
        """Drop what no later frame reads and no prompt may be about any more.

        Args:
            memories, pointers: frames back from which an object's features and its pointer are read.
        """
        while len(self.frames) > FRAMES or (len(self.frames) > 1 and self._frame_bytes() > _FRAME_BYTES):
            del self.frames[next(iter(self.frames))]
        oldest = next(iter(self.frames), self.count)
        for one in self.objects.values():
            one.seen = {
                number: memory.older(number < oldest, number < oldest - memories)
                for number, memory in one.seen.items() if number >= oldest - pointers
            }  # fmt: skip
            numbers = sorted(one.prompted)
            kept = {numbers[0], *numbers[1 - PROMPTED :]} if len(numbers) > PROMPTED else set(numbers)
            one.prompted = {
                number: memory.older(number < oldest, False)
                for number, memory in one.prompted.items() if number in kept
            }  # fmt: skip

    def _frame_bytes(self) -> int:
        return sum(len(frame.data) for frame in self.frames.values())


class Composition:
    """Masks of the objects of a stream, frame by frame.

    Args:
        call: runs the networks ``encoder``, ``attention``, ``decoder`` and ``memory``.
        options: ``side``, pixels of the encoder's square frame; ``filled``, see :class:`Filled`; ``memories`` and
            ``pointers``, frames back that are remembered; ``few``, points of a prompt up to which the best of three
            proposals is taken.
    """

    def __init__(self, call: Call, options: Mapping[str, Any]):
        cv2.setNumThreads(1)
        self._call = call
        self._side = int(options["side"])
        self._filled = Filled(**options["filled"])
        self._memories, self._pointers = int(options["memories"]), int(options["pointers"])
        self._few = int(options["few"])

    def begin(self) -> Stream:
        """The state of a stream that begins."""
        return Stream()

    def answer(
        self, sample: Mapping[str, Any], parameters: Mapping[str, Any], wanted: set[str] | None, stream: Stream
    ) -> dict[str, np.ndarray]:
        """The masks of all objects on one frame.

        Args:
            sample: ``image``, the next frame, encoded or ``.npy`` bytes; or none, for prompts about a frame before.
            parameters: settings of the task, resolved. Coordinates are pixels of the (oriented) frame.
            wanted: names of outputs; everything is computed in any case, because later frames need it.

        Returns:
            ``masks`` objects ``[n]`` of bytes (none when ``mask_format`` is), ``object_ids`` int64 ``[n]``, ``scores``
            float32 ``[n]``, how surely each is seen, ``frame`` int64 ``[1]``, its number, ``state_bytes`` int64
            ``[1]``, what is kept of the stream, and ``image_size`` int32 ``[2]`` (height, width).

        Raises:
            InvalidParameter: a prompt that is none or about a frame that is not kept, or nothing to follow. The stream
                is as it was before.
        """
        number, data = self._frame(sample, parameters, stream)
        prompts = _prompts(parameters)
        kept = {i: one for i, one in stream.objects.items() if i not in (parameters["forget"] or ())}
        if len(kept.keys() | prompts.keys()) > OBJECTS:
            raise InvalidParameter(f"A stream may follow {OBJECTS} objects.", hint="Begin another one for more.")
        if not kept and not prompts:
            raise InvalidParameter("There is nothing to follow yet.", hint="Begin with a box or points on an object.")
        if "image" in sample or prompts:
            picture = decode(data, parameters["auto_orient"])
            size = (picture.shape[0], picture.shape[1])
            for prompt in prompts.values():
                _check_inside(prompt, *size)
            found = self._followed(picture, number, kept, prompts)
        else:
            size, found = stream.frames[number].size, {}
        stream.objects = {i: kept.get(i) or Tracked() for i in (*kept, *prompts)}
        for i, (memory, first) in found.items():
            one = stream.objects[i]
            (one.prompted if first else one.seen)[number] = memory
        if "image" in sample:
            stream.frames[number], stream.count = Frame(data, size), number + 1
        stream.forget(self._memories - 1, self._pointers)
        return self._outputs(number, size, parameters, stream)

    def _frame(
        self, sample: Mapping[str, Any], parameters: Mapping[str, Any], stream: Stream
    ) -> tuple[int, bytes]:
        """The number of the frame that is asked about, and the frame. Raises InvalidParameter."""
        number = parameters["frame"]
        if "image" in sample:
            if number not in (None, stream.count):
                raise InvalidParameter(
                    f"The frame of this request is number {stream.count}, not {number}.",
                    hint="Leave 'image' out for prompts about a frame before.",
                )
            return stream.count, bytes(sample["image"])
        number = stream.count - 1 if number is None else number
        if number in stream.frames:
            return number, stream.frames[number].data
        if not stream.count:
            raise InvalidParameter("The stream has no frame yet.", hint="Send 'image' with its first request.")
        if number >= stream.count:
            raise InvalidParameter(f"The stream has no frame {number} yet; the last one is {stream.count - 1}.")
        raise InvalidParameter(
            f"The frame {number} is forgotten; the oldest that is kept is {min(stream.frames)}.",
            hint="Prompt on that one or on a later one.",
        )

    def _followed(
        self, picture: np.ndarray, number: int, objects: Mapping[int, Tracked], prompts: Mapping[int, Prompt]
    ) -> dict[int, tuple[Memory, bool]]:
        """What to remember of each object on this frame, and whether it is prompted there for the first time."""
        pixels, _ = resize.squash(picture, self._side, self._side)
        features = self._call("encoder", {"pixels": pixels[None]}, ["embeddings", *self._filled.levels])
        scale = np.array([self._side / picture.shape[1], self._side / picture.shape[0]])
        found = {}
        for i in (*objects, *(i for i in prompts if i not in objects)):
            one, prompt = objects.get(i) or Tracked(), prompts.get(i)
            if prompt is None and one.at(number) is not None:
                continue
            first = prompt is not None and number not in one.seen
            top = features["embeddings"] if first else self._remembering(features["embeddings"], one, number)
            mask, score, pointer = self._decoded({**features, "embeddings": top}, prompt, scale)
            given = {
                "embeddings": features["embeddings"], "mask": mask[None, None],
                "object_score": np.array([[score]], np.float32),
                "prompted": np.array([[prompt is not None]], np.float32),
            }  # fmt: skip
            (memory,) = self._call("memory", given, ["memory"])["memory"]
            found[i] = Memory(mask.astype(np.float16), score, pointer, memory.astype(np.float16)), first
        return found

    def _remembering(self, embeddings: np.ndarray, one: Tracked, number: int) -> np.ndarray:
        """The frame's coarse features as they are seen through the memories of an object."""
        recent = [
            (offset - 1, one.seen[number - offset])
            for offset in range(self._memories - 1, 0, -1) if number - offset in one.seen
        ]  # fmt: skip
        memories = [(self._memories - 1, memory) for memory in one.prompted.values()] + recent
        pointers = [(number - at, memory) for at, memory in one.prompted.items() if at <= number]
        pointers += [
            (offset, one.seen[number - offset]) for offset in range(1, self._pointers) if number - offset in one.seen
        ]
        given = {
            "embeddings": embeddings,
            "memories": np.stack([memory.features for _, memory in memories])[None].astype(np.float32),
            "memory_ages": np.array([[age for age, _ in memories]], dtype=np.int64),
            "pointers": np.stack([memory.pointer for _, memory in pointers])[None],
            "pointer_ages": np.array([[age for age, _ in pointers]], dtype=np.float32),
        }
        return self._call("attention", given, ["conditioned"])["conditioned"]

    def _decoded(
        self, features: Mapping[str, np.ndarray], prompt: Prompt | None, scale: np.ndarray
    ) -> tuple[np.ndarray, float, np.ndarray]:
        """The mask's logits float32 ``[h,w]``, the logit of being seen, and the pointer float32 ``[C]``."""
        points, labels = np.zeros((1, 2)), np.array([-1.0])
        count = 0
        if prompt is not None:
            points, labels, count = prompt.points * scale, prompt.labels, len(prompt.labels)
        small = self._side // _SHRINK
        given = {
            **features,
            "point_coords": np.concatenate([points, np.zeros((1, 2))])[None, None].astype(np.float32),
            "point_labels": np.append(labels, -1)[None, None].astype(np.float32),
            "mask_input": np.zeros((1, 1, 1, small, small), np.float32), "has_mask": np.zeros((1, 1, 1), np.float32),
        }  # fmt: skip
        found = self._call("decoder", given, ["low_res_masks", "iou_scores", "object_scores", "pointers"])
        logits, scores, pointers = (found[name][0] for name in ("low_res_masks", "iou_scores", "pointers"))
        score = float(found["object_scores"].reshape(-1)[0])
        if count <= self._few:
            best = 1 + int(scores[0, 1:].argmax())
            mask, pointer = logits[0, best], pointers[0, best]
        else:
            mask, pointer = logits[0, int(self._filled.answers(logits, scores)[0])], pointers[0, 0]
        return mask if score > 0 else np.full_like(mask, _ABSENT), score, pointer

    def _outputs(
        self, number: int, size: tuple[int, int], parameters: Mapping[str, Any], stream: Stream
    ) -> dict[str, np.ndarray]:
        cells, form = self._side // _SHRINK, parameters["mask_format"]
        enlargement = Enlargement.of(cells, 1, (cells, cells), size)
        there = {i: memory for i, one in stream.objects.items() if (memory := one.at(number)) is not None}
        masks = [
            run_lengths.encode(
                *enlargement.patch(memory.mask.astype(np.float32), parameters["mask_threshold"]), *size, form
            )
            for memory in there.values()
        ] if form != "none" else []  # fmt: skip
        scores = np.array([memory.score for memory in there.values()], dtype=np.float64)
        return {
            "masks": np.array(masks, dtype=object), "object_ids": np.array(list(there), dtype=np.int64),
            "scores": (1 / (1 + np.exp(-scores))).astype(np.float32), "frame": np.array([number], dtype=np.int64),
            "state_bytes": np.array([stream.nbytes], dtype=np.int64), "image_size": np.array(size, dtype=np.int32),
        }  # fmt: skip


def _prompts(parameters: Mapping[str, Any]) -> dict[int, Prompt]:
    """The prompt of each object that has one. Raises InvalidParameter."""
    boxes, points = parameters["boxes"] or [], parameters["points"] or []
    labels = [1.0] * len(points) if parameters["point_labels"] is None else parameters["point_labels"]
    of_boxes = list(range(len(boxes))) if parameters["box_objects"] is None else parameters["box_objects"]
    of_points = [0] * len(points) if parameters["point_objects"] is None else parameters["point_objects"]
    if len(boxes) != len(of_boxes) or len(set(of_boxes)) < len(of_boxes):
        raise InvalidParameter("'box_objects' must name another object for each of the boxes.")
    if not len(points) == len(labels) == len(of_points):
        raise InvalidParameter("'points', 'point_labels' and 'point_objects' must have the same length.")
    if not set(labels) <= {0, 1}:
        raise InvalidParameter("A point's label must be 1 (on the object) or 0 (off it).")
    found: dict[int, Prompt] = {}
    for i in dict.fromkeys((*of_boxes, *of_points)):
        corners = [box for box, one in zip(boxes, of_boxes, strict=True) if one == i]
        own = [(point, label) for point, label, one in zip(points, labels, of_points, strict=True) if one == i]
        if len(own) > _POINTS:
            raise InvalidParameter(f"A prompt may have {_POINTS} points, not {len(own)}.")
        if corners and not (corners[0][0] < corners[0][2] and corners[0][1] < corners[0][3]):
            raise InvalidParameter("A box must be left, top, right, bottom.")
        places = [place for left, top, right, bottom in corners for place in ((left, top), (right, bottom))]
        kinds = [2.0, 3.0] * len(corners) + [label for _, label in own]
        found[i] = Prompt(np.array([*places, *(point for point, _ in own)], dtype=np.float64), np.array(kinds))
    return found


def _check_inside(prompt: Prompt, height: int, width: int) -> None:
    for x, y in prompt.points:
        if not (0 <= x <= width and 0 <= y <= height):
            raise InvalidParameter(f"The point ({x:g}, {y:g}) lies outside the frame of {width} x {height} pixels.")
