"""A bare ONNX file as ultralytics, timm or RF-DETR export it: facts from its metadata, and options of the caller.

ultralytics writes task, size and class names into the metadata; RF-DETR is recognised by its outputs; classifiers say
nothing about their preprocessing. A fact that neither the metadata, the layout nor an option gives is an error.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from tritonvision.errors import ExportFailed, InvalidParameter
from tritonvision.exporters.checkpoints import SUFFIXES, class_names
from tritonvision.exporters.modules.query_networks import coco_columns
from tritonvision.exporters.packages import layouts, wrap
from tritonvision.exporters.packages.config import CROP, FLOAT, ROUNDED, InferenceConfig
from tritonvision.exporters.packages.description import Description
from tritonvision.exporters.packages.heads import MULTI_LABEL
from tritonvision.exporters.packages.layouts import Layout
from tritonvision.exporters.packages.options import FileOptions
from tritonvision.exporters.packages.wrap import PackageGraph

_NAMES_HINT = "--labels FILE names the classes, one a line in the order of the class ids."
_TASKS = {"detect": "object-detection", "segment": "instance-segmentation", "classify": "classification"}
_MOST_METADATA = 1 << 20  # characters of one value
_COCO_COLUMNS = 91
_NO_CLASS = ""  # the name of a column that stands for no class
_GREY = 114  # grey of ultralytics' letterbox
_SUM = 0.02  # allowed difference from 1 of the sum of probabilities in half precision
# Ranges of the pixels by name: the divisor of 0..255, then mean and standard deviation.
_RANGES: Mapping[str, tuple[int | None, tuple[list[float], list[float]] | None]] = {
    "0-1": (255, None),
    "0-255": (None, None),
    "-1-1": (255, ([0.5] * 3, [0.5] * 3)),
    "imagenet": (255, ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])),
}
_SUPPRESSED = (
    "Non-maximum suppression is inside the graph, with the thresholds of its export: a lower confidence or another "
    "overlap in a request has no effect."
)
_TRIPLES = re.compile(r"\s*([^/]+)/([^/]+)\s*")


@dataclass(frozen=True)
class OnnxFile:
    """One bare file, and the caller's options.

    Raises (all methods):
        ExportFailed: the graph cannot be imported; the sentence says why, the hint which option helps.
        InvalidParameter: an option has an invalid value.
    """

    path: Path
    given: FileOptions

    @classmethod
    def of(cls, path: Path, given: FileOptions) -> OnnxFile:
        """The file at ``path``. Raises InvalidParameter where there is none."""
        if not path.is_file():
            raise InvalidParameter(
                "There is no such file or folder.", hint="Name an .onnx file, or the folder of a package."
            )
        if path.suffix.lower() in SUFFIXES:
            raise InvalidParameter(
                "A checkpoint is no graph yet, so it is exported instead of imported.",
                hint=f"Say the id of its architecture: tritonvision export MODEL_ID --weights {path.name[:60]}",
            )
        return cls(path.resolve(), given)

    @property
    def name(self) -> str:
        """Its name in errors."""
        return "".join(letter for letter in self.path.name if letter.isprintable())[:80]

    @cached_property
    def model(self) -> onnx.ModelProto:
        """Its graph with all weights, checked."""
        return wrap.load(self.path, self.name)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over its bytes, those of the weights beside it, and the caller's options."""
        whole = hashlib.sha256(repr(self.given).encode())
        try:
            bare = onnx.load(self.path, load_external_data=False)
            for beside in ("", *wrap.beside_of(bare, self.path, self.name)):
                with (self.path.parent / beside if beside else self.path).open("rb") as file:
                    whole.update(hashlib.file_digest(file, "sha256").digest())
        except (OSError, ValueError, wrap.DecodeError) as error:
            raise ExportFailed(f"{self.name} is not a valid ONNX graph.", hint="Export it again.") from error
        return whole.hexdigest()

    @cached_property
    def metadata(self) -> dict[str, str]:
        """The metadata that its exporter wrote."""
        return {entry.key: entry.value for entry in self.model.metadata_props if len(entry.value) <= _MOST_METADATA}

    def describe(self) -> Description:
        """The file's metadata and the caller's options as the description of a package."""
        task = self._task()
        graph = wrap.read(self.path, self._size(), self.name, self.model)
        known = self._names()
        layout = layouts.recognise(graph, None if known is None else len(known), _NAMES_HINT)
        names, notes = _classes(layout, known)
        config, more = self._config(graph, layout, task)
        if graph.suppresses:
            more = (*more, _SUPPRESSED)
        return Description(graph, layout, names, config, task, self.digest, self.name, (*notes, *more))

    def _task(self) -> str | None:
        said = self.metadata.get("task") if self._by_ultralytics else None
        if said is not None and said not in _TASKS:
            raise ExportFailed(
                f"{self.name} is a network of ultralytics for {said[:40]!r}, which cannot be imported.",
                hint=f"Those for {', '.join(_TASKS)} can.",
            )
        return self.given.task or (_TASKS[said] if said else None)

    @property
    def _by_ultralytics(self) -> bool:
        return {"task", "names", "stride"} <= set(self.metadata)

    def _names(self) -> tuple[str, ...] | None:
        """The caller's names, or those of the metadata, or None."""
        if self.given.labels is not None:
            return self.given.labels
        text = self.metadata.get("names") or self.metadata.get("class_names")
        if text is None:
            return None
        names = class_names(_literal(text))
        if names is None:
            raise ExportFailed(f"The class names of {self.name} are not numbered 0, 1, 2, ...", hint=_NAMES_HINT)
        return names

    def _size(self) -> tuple[int, int]:
        """(height, width): the graph's own, or what the caller or the metadata says where its axes are free."""
        axes = (wrap.input_shape(self.model) + [None] * 4)[2:4]
        said = _literal(self.metadata.get("imgsz", ""))
        if isinstance(said, int):
            said = [said, said]
        whole = (
            isinstance(said, list) and len(said) == 2 and all(type(side) is int and 0 < side <= 4096 for side in said)
        )
        height, width = self.given.size or (said if whole else (None, None))
        if self.given.size is None:
            height, width = axes[0] or height, axes[1] or width
        if height is None or width is None:
            raise ExportFailed(f"{self.name} takes pictures of any size.", hint="Say one: --size 640, or 480x640.")
        return height, width

    def _config(self, graph: PackageGraph, layout: Layout, task: str | None) -> tuple[InferenceConfig, tuple[str, ...]]:
        """Its preprocessing, and notes about what was assumed."""
        resize, values, notes = self._preparation(layout)
        scaling, normalization = pixel_range(values)
        network = {
            "training_input_size": dict(zip(("height", "width"), graph.size, strict=True)),
            "color_mode": self.given.colors or "rgb", "resize_mode": resize, "padding_value": _GREY,
            "scaling_factor": None if resize == FLOAT else scaling, "normalization": normalization,
        }  # fmt: skip
        if resize == FLOAT and scaling is None:
            raise InvalidParameter("Boxes and logits of a DETR come from pixels in 0..1.", hint="Leave 0-255 out.")
        post = _activation(graph, task) if layout.kind == "classes" else None
        config: dict[str, Any] = {"network_input": network, "post_processing": post}
        if layout.kind == "queries":
            config["class_names_operations"] = [{"type": "class_name_removal", "class_name": _NO_CLASS}]
        return InferenceConfig.model_validate(config), notes

    def _preparation(self, layout: Layout) -> tuple[str, str, tuple[str, ...]]:
        """Resize mode and range of the pixels: the caller's, or those of the library that exports such files."""
        known: tuple[str | None, str | None] = None, None
        if layout.kind == "queries":
            known = FLOAT, "imagenet"
        elif layout.kind != "classes":
            known = ROUNDED, "0-1"
        elif self._by_ultralytics:
            known = "crop-100-bilinear", "0-1"
        resize, values = resize_mode(self.given.resize) or known[0], self.given.normalize or known[1]
        if resize is None or values is None:
            missing = [option for option, value in (("--resize", resize), ("--normalize", values)) if value is None]
            raise ExportFailed(
                f"{self.name} does not say how its pictures are prepared: {' and '.join(missing)} missing.",
                hint="As it was trained; most classifiers of timm: --resize crop-87.5-bicubic --normalize imagenet.",
            )
        if self._by_ultralytics or None not in (self.given.resize, self.given.normalize):
            return resize, values, ()
        if layout.kind == "queries":
            said = "the package rfdetr", "stretched in 0..1, with ImageNet's mean and deviation"
        elif layout.kind != "classes":
            said = "ultralytics", "letterboxed, in 0..1"
        else:
            return resize, values, ()
        return resize, values, (
            f"The file does not say how its pictures are prepared: as by {said[0]}, {said[1]}, "
            "where --resize and --normalize do not say otherwise.",
        )  # fmt: skip


def resize_mode(given: str | None) -> str | None:
    """The resize mode behind an option, None for none. Raises InvalidParameter."""
    if given is None:
        return None
    known = {"stretch": "stretch", "letterbox": ROUNDED, "center-crop": "center-crop"}
    if given in known:
        return known[given]
    if CROP.fullmatch(given):
        return given
    raise InvalidParameter(
        f"--resize {given[:40]!r} is not known.",
        hint="stretch, letterbox, center-crop, or crop-87.5-bicubic: the shorter side to size/0.875, then the centre.",
    )


def pixel_range(given: str) -> tuple[int | None, tuple[list[float], list[float]] | None]:
    """The divisor of 0..255, then mean and standard deviation. Raises InvalidParameter."""
    if given in _RANGES:
        return _RANGES[given]
    split = _TRIPLES.fullmatch(given)
    try:
        mean, std = ([float(number) for number in part.split(",")] for part in split.groups()) if split else ((), ())
    except ValueError:
        mean, std = (), ()
    if len(mean) != 3 or len(std) != 3 or not np.isfinite([*mean, *std]).all() or 0 in std:
        raise InvalidParameter(
            f"--normalize {given[:60]!r} is not known.",
            hint=f"{', '.join(_RANGES)}, or means and deviations of values in 0..1: 0.5,0.5,0.5/0.25,0.25,0.25.",
        )
    return 255, (mean, std)


def _literal(text: str) -> Any:
    """A value of the metadata: JSON or a Python literal, as ultralytics writes it; None where it is neither."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None


def _classes(layout: Layout, known: tuple[str, ...] | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Class names, and a note where they are made up. The last column of a DETR's logits stands for no class."""
    if known is not None:
        return known, ()
    note = "The file does not name its classes; --labels FILE does."
    if layout.kind == "queries" and layout.columns == _COCO_COLUMNS:
        coco = coco_columns()
        return tuple(coco.get(column, _NO_CLASS) for column in range(_COCO_COLUMNS)), ()
    count = max(layout.columns - 1, 1) if layout.kind == "queries" else layout.columns
    return tuple(f"class {i}" for i in range(count)), (note,)


def _activation(graph: PackageGraph, task: str | None) -> dict[str, Any]:
    """The activation for a classifier: none where its last operator or its outputs show that they are probabilities."""
    last = graph.last_operator()
    (values,) = graph.sample()
    one = values.shape[1] == 1
    adds_up = not one and bool((values >= 0).all() and (abs(values.sum(1) - 1) < _SUM).all())
    if last in ("Softmax", "Sigmoid") or adds_up:
        return {"type": "sigmoid" if last == "Sigmoid" else "softmax", "fused": True}
    # the softmax of a single class would be 1 for every picture
    return {"type": "sigmoid" if one or task == MULTI_LABEL else "softmax", "fused": False}
