"""Example boxes in other pictures: read from a request, and turned into embeddings to search for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tritonvision.errors import InvalidParameter

_MOST_BOXES = 1000
_MOST_PICTURES = 32  # each is encoded like the picture that is searched
# From owlvit's embed_image_query: boxes that overlap an example at least this much of the best one stand for it, too.
_NEARLY_BEST = np.float32(0.8)


@dataclass(frozen=True)
class Example:
    """A box (corners, pixels) in one of the example pictures: what a class is or, when ``negative``, what it is not."""

    box: tuple[float, float, float, float]
    picture: int
    class_id: int
    negative: bool


def read(parameters: Mapping[str, Any], pictures: int, most_classes: int) -> list[Example]:
    """The examples of a request; none when it brings neither boxes nor pictures.

    Args:
        parameters: settings of the task, resolved. What is absent beside ``example_boxes`` is 0 for each of them.
        pictures: how many came with it.

    Raises:
        InvalidParameter: they do not fit together, or classes come as texts, too.
    """
    boxes = parameters["example_boxes"] or []
    lists = {name: parameters[f"example_{name}"] for name in ("pictures", "classes", "negatives")}
    if not boxes and not pictures and not any(lists.values()):
        return []
    if parameters["texts"]:
        raise InvalidParameter("Classes come as texts or as examples, not as both.", hint="Ask one after the other.")
    if not boxes or not pictures:
        raise InvalidParameter(
            "There are examples without their pictures." if boxes else "There are examples without their boxes.",
            hint="Send pictures as 'examples', and in 'example_boxes' a box for each thing that they show.",
        )
    if pictures > _MOST_PICTURES or len(boxes) > _MOST_BOXES:
        raise InvalidParameter(f"Examples may be {_MOST_BOXES} boxes in {_MOST_PICTURES} pictures.")
    for name, values in lists.items():
        if values is not None and len(values) != len(boxes):
            raise InvalidParameter(f"There are {len(boxes)} example boxes, but {len(values)} 'example_{name}'.")
    shown, classes, negatives = ([0] * len(boxes) if values is None else values for values in lists.values())
    if max(shown) >= pictures:
        raise InvalidParameter(f"'example_pictures' counts from 0: of {pictures} pictures none is {max(shown)}.")
    if max(classes) >= most_classes:
        raise InvalidParameter(f"Class ids of examples must be less than {most_classes}.")
    if not set(negatives) <= {0, 1}:
        raise InvalidParameter("'example_negatives' must be 1 where a box shows what the class is not, else 0.")
    if all(negatives):
        raise InvalidParameter("The examples only show what the classes are not.", hint="Add one of what to look for.")
    rows = zip(boxes, shown, classes, negatives, strict=True)
    return [Example(tuple(box), picture, class_id, bool(negative)) for box, picture, class_id, negative in rows]


def shown_by(
    box: Sequence[float], size: tuple[int, int], boxes: np.ndarray, class_embeds: np.ndarray
) -> np.ndarray:  # fmt: skip
    """The embedding of what ``box`` shows: float32 ``[D]``, one of ``class_embeds``.

    The rule of the authors, which owlvit's ``embed_image_query`` has for the whole picture: of the network's boxes that
    overlap ``box`` at least 0.8 times as much (IoU; generalised IoU where none does) as the best one, that which is the
    least similar to the mean of all, since it holds more of the object than of what is around it.

    Args:
        box: corners, pixels; what reaches over the picture is cut off, centres and sizes in whole pixels often do.
        size: height and width of the picture.
        boxes: float32 ``[N,4]``, the network's, corners as fractions of the picture's longer side.
        class_embeds: float32 ``[N,D]``, of those, not normalised.

    Raises:
        InvalidParameter: nothing of the box is in the picture.
    """
    height, width = size
    inside = np.clip(box, 0, [width, height] * 2).astype(np.float32)
    if not (inside[:2] < inside[2:]).all():
        raise InvalidParameter(
            f"The example {', '.join(f'{value:g}' for value in box)} has no area in its picture of {width} x {height} "
            "pixels.",
            hint="An example is left, top, right, bottom.",
        )
    overlap = _overlap(inside / np.float32(max(size)), boxes)
    best = overlap.max()
    near = np.flatnonzero((overlap >= best * _NEARLY_BEST) | (overlap == best))
    common = class_embeds[near] @ class_embeds.mean(axis=0)
    return class_embeds[near[common.argmin()]]


def _overlap(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """``[N]`` IoU of ``box [4]`` with each of ``boxes [N,4]``, corners; where all are 0, the generalised IoU."""
    inter = np.maximum(np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2]), 0).prod(axis=1)
    union = (box[2:] - box[:2]).prod() + (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) - inter
    if inter.any():
        return inter / union
    hull = (np.maximum(box[2:], boxes[:, 2:]) - np.minimum(box[:2], boxes[:, :2])).prod(axis=1)
    return (union - hull) / hull


def by_class(similar: np.ndarray, examples: Sequence[Example]) -> tuple[np.ndarray, np.ndarray]:
    """The similarity of candidates to each class, and whether they can be of it.

    A candidate's similarity to a class is that of its most similar example. If that is a negative one, it is not of the
    class; nor is any candidate of a class without examples.

    Args:
        similar: float32 ``[N,E]``, to each of ``examples``.

    Returns:
        float32 and bool ``[N,C]``, C being the highest class id and one.
    """
    negative = np.array([example.negative for example in examples])
    owner = np.array([example.class_id for example in examples])
    best = np.zeros((len(similar), owner.max() + 1), dtype=np.float32)
    possible = np.zeros(best.shape, dtype=bool)
    for class_id in np.unique(owner[~negative]):
        best[:, class_id] = similar[:, (owner == class_id) & ~negative].max(axis=1)
        against = similar[:, (owner == class_id) & negative].max(axis=1, initial=-np.inf)
        possible[:, class_id] = against <= best[:, class_id]
    return best, possible
