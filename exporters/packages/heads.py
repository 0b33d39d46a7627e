"""The kinds of packages: recognised by the shapes of their outputs, which nodes of a graph turn into canonical tensors.

Each kind is written twice: as ONNX for the published graph, and in numpy as the gate's reference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tritonvision.ensembles.schemas import (
    CLASSES,
    DENSE_BOXES,
    FINAL_BOXES,
    FINAL_MASKS,
    PROTOTYPE_MASKS,
    QUERY_BOXES,
    Head,
)
from tritonvision.errors import ExportFailed
from tritonvision.exporters.contract import Tensors, Tolerance
from tritonvision.exporters.libraries.ultralytics.detect import CANDIDATES, best_anchors
from tritonvision.exporters.packages import layouts
from tritonvision.exporters.packages.config import FLOAT, InferenceConfig
from tritonvision.exporters.packages.layouts import Layout
from tritonvision.exporters.packages.wrap import PackageGraph

MULTI_LABEL = "multi-label-classification"
_COEFFICIENTS = layouts.COEFFICIENTS
_SELECTED = 300  # the number of pairs of query and class that RF-DETR's authors keep
_KINDS = {1: "float", 10: "float16", 11: "double"}  # names of types by ONNX's numbers
_GREY = 127  # padding of YOLO's fit-longer-edge
_EPSILON = 1e-7  # distance from 0 and 1 to which probabilities are clipped before they become logits


@dataclass(frozen=True)
class PackageHead:
    """How a package's outputs become canonical tensors.

    Attributes:
        task: as the catalogue spells it.
        labels: class names by class id.
        columns: indices of the class scores that have a name.
        tolerance: of the wrapped graph compared with the package's own, and of the answers.
        after: body of the ONNX function from ``raw0``, ``raw1``, ... to the canonical tensors.
        canonical: the same in numpy, from the float32 outputs in their order, batch axis first.
        grey: see :meth:`InferenceConfig.resize`.
        activation: ``softmax`` or ``sigmoid`` of classes.
    """

    head: Head
    task: str
    labels: tuple[str, ...]
    columns: tuple[int, ...]
    tolerance: Tolerance
    after: str
    canonical: Callable[[list[np.ndarray]], Tensors]
    grey: int | None = None
    activation: str = ""
    multi_label: bool = False


def choose(
    graph: PackageGraph, layout: Layout, names: tuple[str, ...], config: InferenceConfig, task: str | None
) -> PackageHead:  # fmt: skip
    """The head of a graph whose outputs are of ``layout``.

    Args:
        names: of the classes, in the order of the class scores.
        task: as the description states it, or None.

    Raises:
        ExportFailed: the outputs are those of another task, or the description has unsupported settings.
    """
    columns = tuple(i for i, name in enumerate(names) if name not in config.removed)
    labels = tuple(names[i] for i in columns)
    types = [_KINDS[kind] for kind in graph.kinds.values()]
    outputs = [shape[1:] for shape in graph.shapes.values()]
    match layout.kind:
        case "classes":
            found = _classes(types, labels, columns, config, task)
        case "queries":
            found = _queries(types, labels, columns, outputs, layout.boxes)
        case "final" | "final-masks":
            cells = outputs[1][1:] if layout.kind == "final-masks" else None
            found = _final(types, labels, columns, len(names), outputs[0], cells)
        case _:
            rows, anchors = outputs[0]
            cells = outputs[1][1:] if layout.kind == "yolo-masks" else None
            found = _yolo(types, labels, columns, rows, anchors, cells)
    if task is not None and task.replace(MULTI_LABEL, "classification") != found.task:
        raise ExportFailed(
            f"The description says {task[:60]!r}, and the outputs of {graph.name} are those of '{found.task}'.",
            hint="Correct the task, or leave it out.",
        )
    return found


def before(config: InferenceConfig, graph: PackageGraph) -> str:
    """The ONNX function from RGB ``pixels`` ``[B,H,W,3]`` to the ``images`` that a package's graph reads."""
    given, (height, width) = config.network_input, graph.size
    kind, number = ("float16", 10) if graph.dtype == np.float16 else ("float", 1)
    pixels = "float" if given.resize_mode == FLOAT else "uint8"
    values, nodes = [], ["read = Cast<to=1>(pixels)"]
    last = "read"
    if given.color_mode == "bgr":
        values.append("int64[3] swapped = {2,1,0}")
        nodes.append("bgr = Gather<axis=3>(read, swapped)")
        last = "bgr"
    if given.scaling_factor is not None:
        values.append(f"float[1] divisor = {{{given.scaling_factor}}}")
        nodes.append(f"scaled = Div({last}, divisor)")
        last = "scaled"
    if given.normalization is not None:
        means, deviations = (",".join(map(repr, numbers)) for numbers in given.normalization)
        values += [f"float[3] means = {{{means}}}", f"float[3] deviations = {{{deviations}}}"]
        nodes += [f"centred = Sub({last}, means)", "normal = Div(centred, deviations)"]
        last = "normal"
    nodes += [f"planes = Transpose<perm=[0,3,1,2]>({last})", f"images = Cast<to={number}>(planes)"]
    body = "\n  ".join(nodes)
    return (
        f"prepare ({pixels}[B,{height},{width},3] pixels) => ({kind}[B,3,{height},{width}] images)\n"
        + (f"<{', '.join(values)}>\n" if values else "")
        + f"{{\n  {body}\n}}"
    )


# ---- YOLO ----------------------------------------------------------------------------------------------------------


def _yolo(
    types: list[str], labels: tuple[str, ...], columns: tuple[int, ...], rows: int, anchors: int,
    cells: tuple[int, ...] | None,
) -> PackageHead:  # fmt: skip
    count, named = min(CANDIDATES, anchors), ",".join(str(4 + column) for column in columns)
    rest = rows - _COEFFICIENTS if cells else rows
    more = {"in": "", "out": "", "weights": "", "nodes": ""}
    if cells:
        grid = f"{_COEFFICIENTS},{cells[0]},{cells[1]}"
        more = {
            "in": f", {types[1]}[B,{grid}] raw1",
            "out": f", float[B,{count},{_COEFFICIENTS}] coefficients, float[B,{grid}] prototypes",
            "weights": f", int64[1] mask_from = {{{rest}}}, int64[1] mask_to = {{{rows}}}, "
            f"int64[3] mask_wide = {{1,1,{_COEFFICIENTS}}}",
            "nodes": """
  mask_rows = Slice(rows, mask_from, mask_to, axis)
  mask_order = Tile(place, mask_wide)
  coefficients = GatherElements<axis=1>(mask_rows, mask_order)
  prototypes = Cast<to=1>(raw1)""",
        }
    after = f"""answer ({types[0]}[B,{rows},{anchors}] raw0{more["in"]})
 => (float[B,{count},4] boxes, float[B,{count}] scores, int32[B,{count}] class_ids{more["out"]})
<int64[1] at0 = {{0}}, int64[1] at2 = {{2}}, int64[1] at4 = {{4}}, int64[1] axis = {{2}}, int64[1] best = {{{count}}},
 int64[{len(columns)}] named = {{{named}}}, int64[2] flat = {{0,{anchors}}}, int64[3] tall = {{0,{count},1}},
 int64[2] wide = {{0,{count}}}, int64[3] corner = {{1,1,4}}, float[1] two = {{2}}{more["weights"]}>
{{
  raw = Cast<to=1>(raw0)
  rows = Transpose<perm=[0,2,1]>(raw)
  middles = Slice(rows, at0, at2, axis)
  sides = Slice(rows, at2, at4, axis)
  classes = Gather<axis=2>(rows, named)
  halves = Div(sides, two)
  lower = Sub(middles, halves)
  upper = Add(middles, halves)
  corners = Concat<axis=2>(lower, upper)
  kinds = ArgMax<axis=2, keepdims=1>(classes)
  tops = GatherElements<axis=2>(classes, kinds)
  top = Reshape(tops, flat)
  scores, order = TopK<axis=1, largest=1, sorted=1>(top, best)
  place = Reshape(order, tall)
  places = Tile(place, corner)
  boxes = GatherElements<axis=1>(corners, places)
  chosen = GatherElements<axis=1>(kinds, place)
  chosen_ids = Reshape(chosen, wide)
  class_ids = Cast<to=6>(chosen_ids){more["nodes"]}
}}"""

    def canonical(outputs: list[np.ndarray]) -> Tensors:
        values = outputs[0].transpose(0, 2, 1)
        values = values[..., [0, 1, 2, 3, *(4 + column for column in columns), *range(rest, rows)]]
        found = best_anchors(values, values[..., 4 : 4 + len(columns)])  # a package has no logits
        return found | ({"coefficients": found.pop("rest"), "prototypes": outputs[1]} if cells else {})

    tolerances = {"boxes": 1e-3, "scores": 1e-5, "class_ids": 0}
    if cells is None:
        return PackageHead(
            DENSE_BOXES, "object-detection", labels, columns, Tolerance(tolerances), after, canonical, _GREY
        )
    masks = Tolerance(tolerances | {"coefficients": 1e-3, "prototypes": 1e-3})
    return PackageHead(PROTOTYPE_MASKS, "instance-segmentation", labels, columns, masks, after, canonical, _GREY)


# ---- YOLO with its suppression inside ------------------------------------------------------------------------------


def _final(
    types: list[str], labels: tuple[str, ...], columns: tuple[int, ...], names: int, outputs: tuple[int, ...],
    cells: tuple[int, ...] | None,
) -> PackageHead:  # fmt: skip
    """Rows of corners in network pixels, score and class id; of a class that has no name any more the score is 0."""
    count, width = outputs
    new = [columns.index(i) if i in columns else -1 for i in range(names)]
    more = {"in": "", "out": "", "values": "", "nodes": ""}
    if cells:
        grid = f"{_COEFFICIENTS},{cells[0]},{cells[1]}"
        more = {
            "in": f", {types[1]}[B,{grid}] raw1",
            "out": f", float[B,{count},{_COEFFICIENTS}] coefficients, float[B,{grid}] prototypes",
            "values": f", int64[1] end = {{{width}}}",
            "nodes": "\n  coefficients = Slice(rows, at6, end, axis)\n  prototypes = Cast<to=1>(raw1)",
        }
    after = f"""answer ({types[0]}[B,{count},{width}] raw0{more["in"]})
 => (float[B,{count},4] boxes, float[B,{count}] scores, int32[B,{count}] class_ids{more["out"]})
<int64[1] at0 = {{0}}, int64[1] at4 = {{4}}, int64[1] at5 = {{5}}, int64[1] at6 = {{6}}, int64[1] axis = {{2}},
 int64[2] flat = {{0,{count}}}, int64[{names}] known = {{{",".join(map(str, new))}}},
 int64 none = {{0}}{more["values"]}>
{{
  rows = Cast<to=1>(raw0)
  boxes = Slice(rows, at0, at4, axis)
  score = Slice(rows, at4, at5, axis)
  given = Reshape(score, flat)
  kind = Slice(rows, at5, at6, axis)
  kinds = Reshape(kind, flat)
  numbers = Cast<to=7>(kinds)
  renamed = Gather<axis=0>(known, numbers)
  gone = Less(renamed, none)
  nothing = Sub(given, given)
  scores = Where(gone, nothing, given)
  class_ids = Cast<to=6>(renamed){more["nodes"]}
}}"""

    def canonical(outputs: list[np.ndarray]) -> Tensors:
        rows = outputs[0]
        class_ids = np.array(new, dtype=np.int32)[rows[..., 5].astype(int)]
        found = {"boxes": rows[..., :4], "scores": np.where(class_ids < 0, 0, rows[..., 4]), "class_ids": class_ids}
        return found | ({"coefficients": rows[..., 6:], "prototypes": outputs[1]} if cells else {})

    tolerances = {"boxes": 1e-3, "scores": 1e-5, "class_ids": 0}
    if cells is None:
        return PackageHead(
            FINAL_BOXES, "object-detection", labels, columns, Tolerance(tolerances), after, canonical, _GREY
        )
    masks = Tolerance(tolerances | {"coefficients": 1e-3, "prototypes": 1e-3})
    return PackageHead(FINAL_MASKS, "instance-segmentation", labels, columns, masks, after, canonical, _GREY)


# ---- RF-DETR -------------------------------------------------------------------------------------------------------


def _queries(
    types: list[str], labels: tuple[str, ...], columns: tuple[int, ...], outputs: list[tuple[int, ...]], boxes: int
) -> PackageHead:  # fmt: skip
    widths, queries, classes = [width for _, width in outputs], outputs[0][0], len(columns)
    count = min(_SELECTED, queries * classes)
    given = ", ".join(f"{types[i]}[B,{queries},{widths[i]}] raw{i}" for i in range(2))
    after = f"""answer ({given})
 => (float[B,{count},4] boxes, float[B,{count}] scores, int32[B,{count}] class_ids)
<int64[1] at0 = {{0}}, int64[1] at2 = {{2}}, int64[1] at4 = {{4}}, int64[1] axis = {{2}}, int64[1] best = {{{count}}},
 int64[{classes}] named = {{{",".join(map(str, columns))}}}, int64[2] flat = {{0,{queries * classes}}},
 int64[3] tall = {{0,{count},1}}, int64[3] corner = {{1,1,4}}, int64[1] classes = {{{classes}}}, float[1] two = {{2}}>
{{
  given = Cast<to=1>(raw{boxes})
  middles = Slice(given, at0, at2, axis)
  sides = Slice(given, at2, at4, axis)
  halves = Div(sides, two)
  lower = Sub(middles, halves)
  upper = Add(middles, halves)
  corners = Concat<axis=2>(lower, upper)
  logits = Cast<to=1>(raw{1 - boxes})
  known = Gather<axis=2>(logits, named)
  likely = Sigmoid(known)
  pairs = Reshape(likely, flat)
  scores, order = TopK<axis=1, largest=1, sorted=1>(pairs, best)
  query = Div(order, classes)
  place = Reshape(query, tall)
  places = Tile(place, corner)
  boxes = GatherElements<axis=1>(corners, places)
  before = Mul(query, classes)
  kind = Sub(order, before)
  class_ids = Cast<to=6>(kind)
}}"""

    def canonical(outputs: list[np.ndarray]) -> Tensors:
        pairs = sigmoid(outputs[1 - boxes][..., list(columns)]).reshape(len(outputs[0]), -1)
        order = np.argsort(-pairs, axis=1, kind="stable")[:, :count]
        given = outputs[boxes]
        corners = np.concatenate([given[..., :2] - given[..., 2:] / 2, given[..., :2] + given[..., 2:] / 2], axis=2)
        return {
            "boxes": np.take_along_axis(corners, (order // classes)[..., None], axis=1),
            "scores": np.take_along_axis(pairs, order, axis=1),
            "class_ids": (order % classes).astype(np.int32),
        }

    tolerance = Tolerance({"boxes": 1e-4, "scores": 1e-5, "class_ids": 0}, {"pixels": 0.05})
    return PackageHead(QUERY_BOXES, "object-detection", labels, columns, tolerance, after, canonical)


# ---- classifiers ---------------------------------------------------------------------------------------------------


def _classes(
    types: list[str], labels: tuple[str, ...], columns: tuple[int, ...], config: InferenceConfig, task: str | None
) -> PackageHead:
    given, count = config.post_processing, len(columns)
    activation = given.type if given else ("sigmoid" if task == MULTI_LABEL or count == 1 else "softmax")
    fused = given is not None and given.fused
    if activation not in ("softmax", "sigmoid"):
        raise ExportFailed(
            f"A classifier's post_processing is softmax or sigmoid, not {activation[:40]!r}.",
            hint="Correct 'post_processing' in inference_config.json.",
        )
    if activation == "softmax" and count == 1:
        raise ExportFailed(
            "The softmax of a single class is 1 for every picture.",
            hint="A classifier of one class has a sigmoid, or a second class for what it is not.",
        )
    if config.removed:
        raise ExportFailed(
            "Classes of a classifier cannot be removed by class_names_operations.", hint="Leave them out."
        )
    nodes = {
        (False, "softmax"): "logits = Cast<to=1>(raw0)\n  scores = Softmax<axis=1>(logits)",
        (False, "sigmoid"): "logits = Cast<to=1>(raw0)\n  scores = Sigmoid(logits)",
        (True, "softmax"): f"""scores = Cast<to=1>(raw0)
  least = Constant<value = float[1] {{{_EPSILON}}}>()
  safe = Max(scores, least)
  logits = Log(safe)""",
        (True, "sigmoid"): f"""scores = Cast<to=1>(raw0)
  least = Constant<value = float[1] {{{_EPSILON}}}>()
  most = Constant<value = float[1] {{{1 - _EPSILON}}}>()
  one = Constant<value = float[1] {{1}}>()
  above = Max(scores, least)
  safe = Min(above, most)
  rest = Sub(one, safe)
  odds = Div(safe, rest)
  logits = Log(odds)""",
    }[fused, activation]
    after = f"""answer ({types[0]}[B,{count}] raw0) => (float[B,{count}] logits, float[B,{count}] scores)
{{
  {nodes}
}}"""

    def canonical(outputs: list[np.ndarray]) -> Tensors:
        values = outputs[0]
        if not fused:
            return {"logits": values, "scores": softmax(values) if activation == "softmax" else sigmoid(values)}
        safe = np.clip(values, np.float32(_EPSILON), np.float32(1 - _EPSILON) if activation == "sigmoid" else None)
        return {"logits": np.log(safe) - (np.log1p(-safe) if activation == "sigmoid" else 0), "scores": values}

    multi_label = task == MULTI_LABEL if task is not None else activation == "sigmoid"
    tolerance = Tolerance({"logits": 1e-4, "scores": 1e-5})
    return PackageHead(
        CLASSES, "classification", labels, columns, tolerance, after, canonical, activation=activation,
        multi_label=multi_label,
    )  # fmt: skip


def sigmoid(values: np.ndarray) -> np.ndarray:
    """float32, without overflow."""
    return (1 / (1 + np.exp(-np.clip(values, -80, 80).astype(np.float64)))).astype(np.float32)


def softmax(values: np.ndarray) -> np.ndarray:
    """float32 over the last axis."""
    exponents = np.exp(values.astype(np.float64) - values.max(-1, keepdims=True))
    return (exponents / exponents.sum(-1, keepdims=True)).astype(np.float32)
