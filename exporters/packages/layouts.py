"""The layout of a graph's outputs, recognised by their shapes and names; errors name layouts that are not supported."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tritonvision.errors import ExportFailed
from tritonvision.exporters.packages.wrap import PackageGraph

COEFFICIENTS = 32  # channels of ultralytics' mask prototypes
# Columns of boxes after suppression: corners, score, class, and a mask's coefficients.
FINAL_COLUMNS = 6
_FINAL = (FINAL_COLUMNS, FINAL_COLUMNS + COEFFICIENTS)
_BOX_NAMES, _SCORE_NAMES = ("det", "box"), ("label", "logit", "class", "score")
_ROUNDING = 0.01  # by which int8 may leave 0..1
_MANY = 1000  # from this length on, an axis can only be the anchors of a YOLO
_OTHERWISE = "What this import cannot do, a package with code of its own can."


@dataclass(frozen=True)
class Layout:
    """The layout of a graph's outputs.

    Attributes:
        kind: ``classes``, ``yolo``, ``yolo-masks``, ``final``, ``final-masks`` or ``queries``.
        columns: number of class scores, of final boxes the number of class names; for ``queries`` it includes columns
            that stand for no class.
        boxes: which output of ``queries`` holds the boxes, 0 or 1.
    """

    kind: str
    columns: int
    boxes: int = 0


def recognise(graph: PackageGraph, names: int | None, names_hint: str) -> Layout:
    """The layout of a graph's outputs.

    Args:
        names: number of class names, or None where there are none.
        names_hint: where the class names come from, for the hint of an error.

    Raises:
        ExportFailed: the layout is not supported; the sentence says what was recognised.
    """
    outputs = [shape[1:] for shape in graph.shapes.values()]
    match outputs:
        case [(count,)] if names in (None, count):
            return Layout("classes", count)
        case [(rows, anchors)] if _fits(rows - 4, anchors, names):
            _check_scores(graph, rows - 4)
            return Layout("yolo", rows - 4)
        case [(rows, anchors), (channels, *cells)] if channels == COEFFICIENTS and _fits(
            rows - 4 - COEFFICIENTS, anchors, names
        ):
            _check_scores(graph, rows - 4 - COEFFICIENTS)
            _check_cells(graph, cells)
            return Layout("yolo-masks", rows - 4 - COEFFICIENTS)
        case [(_, width)] if width == _FINAL[0] and _is_final(graph, names):
            return Layout("final", _counted(graph, names, names_hint))
        case [(_, width), (channels, *cells)] if (width, channels) == (_FINAL[1], COEFFICIENTS) and _is_final(
            graph, names
        ):
            _check_cells(graph, cells)
            return Layout("final-masks", _counted(graph, names, names_hint))
        case [(queries, first), (same, second)] if queries == same and 4 in (first, second):
            boxes = _box_output(graph, first, second)
            columns = (first, second)[1 - boxes]
            if names is None or names <= columns:
                return Layout("queries", columns, boxes)
    raise _unknown(graph, outputs, names, names_hint)


def _check_scores(graph: PackageGraph, classes: int) -> None:
    """Raise ExportFailed unless the rows of a YOLO behind its boxes are scores: thresholds are over 0..1."""
    scores = graph.sample()[0][:, 4 : 4 + classes]
    least, most = float(scores.min()), float(scores.max())
    if least < -_ROUNDING or most > 1 + _ROUNDING:
        raise ExportFailed(
            f"The class scores of {graph.name} reach from {least:.3g} to {most:.3g}, and scores lie in 0..1.",
            hint="Export the weights with the sigmoid of its scores inside, as ultralytics does.",
        )


def _check_cells(graph: PackageGraph, cells: list[int]) -> None:
    """Raise ExportFailed unless ``cells`` (height, width) of prototypes are a quarter of the pictures."""
    if cells != [side // 4 for side in graph.size]:
        raise ExportFailed(
            f"The mask prototypes of {graph.name} are not a quarter of its pictures' size.",
            hint="Export the weights with the size that its pictures have.",
        )


def _is_final(graph: PackageGraph, names: int | None) -> bool:
    """Whether the rows of the first output are boxes after suppression: corners, a score in 0..1, a whole class id."""
    scores, class_ids = graph.sample()[0][..., 4:FINAL_COLUMNS].transpose(2, 0, 1)
    most = np.inf if names is None else names
    within = (scores >= 0) & (scores <= 1) & (class_ids >= 0) & (class_ids < most)
    return bool(within.all() and (class_ids == class_ids.round()).all())


def _counted(graph: PackageGraph, names: int | None, names_hint: str) -> int:
    """The number of class names, which final boxes do not show. Raises ExportFailed without any."""
    if names is None:
        raise ExportFailed(f"{graph.name} gives final boxes, which do not show how many classes there are.",
                           hint=names_hint)  # fmt: skip
    return names


def _fits(classes: int, anchors: int, names: int | None) -> bool:
    """Whether ``classes`` rows of a YOLO remain for the classes; without names there must be more anchors than rows."""
    return classes == names if names is not None else 0 < classes and classes + 4 < anchors and anchors not in _FINAL


def _box_output(graph: PackageGraph, first: int, second: int) -> int:
    """The index of the boxes: the output with 4 columns; where both have 4, their names decide. Raises ExportFailed."""
    if first != second:
        return 0 if first == 4 else 1
    spelt = [name.lower() for name in graph.shapes]
    for box in range(2):
        if any(w in spelt[box] for w in _BOX_NAMES) or any(w in spelt[1 - box] for w in _SCORE_NAMES):
            return box
    inside = [bool(np.all((values >= 0) & (values <= 1))) for values in graph.sample()]
    if inside[0] != inside[1]:  # boxes are fractions of the picture and all within 0..1, logits are not
        return 0 if inside[0] else 1
    raise ExportFailed(
        f"Both outputs of {graph.name} are 4 wide, and their names do not say which holds the boxes.",
        hint="Call them 'dets' and 'labels', as RF-DETR's own export does.",
    )


def _unknown(graph: PackageGraph, outputs: list, names: int | None, names_hint: str) -> ExportFailed:
    """The error for outputs of an unknown layout; it names the most similar one."""
    shapes = [list(shape) for shape in graph.shapes.values()]
    counted = "" if names is None else f" for {names} class name{'' if names == 1 else 's'}"
    what, hint = _resembling(outputs, names, names_hint) or (
        f"of no kind that is known{counted}",
        "Known are YOLO's [N, 4 + classes, anchors] and final boxes [N, boxes, 6], with or without masks, RF-DETR's "
        f"boxes and logits, and classifiers' [N, classes]. {names_hint}",
    )
    return ExportFailed(f"The outputs of {graph.name} {shapes} are {what}.", hint=hint)


def _resembling(outputs: list, names: int | None, names_hint: str) -> tuple[str, str] | None:
    """A description of the outputs, and a hint: an unsupported layout, or one with another number of classes."""
    match outputs:
        case [(anchors, width)] if anchors >= _MANY and width > 5:
            return (
                "rows of YOLOv5 with a column of objectness, which cannot be imported",
                "Export the weights with ultralytics 8, whose YOLOv5u has the layout [N, 4 + classes, anchors].",
            )
        case [(_, width)] | [(_, width), (_, _, _)] if width in _FINAL:
            known = "" if names is None else f" under {names}"
            return (
                "as wide as final boxes, but their scores are not all in 0..1 or their class ids no whole numbers"
                f"{known}",
                names_hint,
            )
        case [(_, 4), (_, _), (_, _, _)] | [(_, _), (_, 4), (_, _, _)]:
            return "boxes, logits and masks of a DETR, which cannot be imported", _OTHERWISE
        case [(count,)]:
            return f"{count} scores, and there are {names} class names", names_hint
        case [(queries, first), (same, second)] if queries == same and 4 in (first, second):
            columns = second if first == 4 else first
            return f"boxes and {columns} columns of logits, and there are {names} class names", names_hint
        case [(rows, anchors), *masks] if names is not None and 4 < rows < anchors and len(masks) < 2:
            classes = rows - 4 - (COEFFICIENTS if masks else 0)
            return (
                f"of no kind that is known for {names} class name{'' if names == 1 else 's'}",
                f"As those of a YOLO they would have {classes} classes. {names_hint}",
            )
    return None
