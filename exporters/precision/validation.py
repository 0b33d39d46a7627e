"""How well a served model does its task on labelled pictures, and how well its reference pipeline does.

Both are measured by the measures of the precision gate, over the same pictures; the reference needs the weights and the
packages of an export.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tritonvision import catalog, tasks
from tritonvision.catalog import Entry
from tritonvision.errors import ExportFailed, InvalidParameter, NotSupported
from tritonvision.exporters import recognise, registry
from tritonvision.exporters.contract import Network, Tensors, Weights
from tritonvision.exporters.packages.files import FAMILY as PACKAGE
from tritonvision.exporters.precision.labelled import Coco
from tritonvision.exporters.precision.measures.base import Answer, Asked, Measure
from tritonvision.exporters.precision.measures.boxes import Boxes, Masks
from tritonvision.exporters.precision.measures.classes import Classes
from tritonvision.exporters.precision.measures.vectors import Map
from tritonvision.exporters.sources import hub
from tritonvision.publication import Manifest
from tritonvision.results import (
    ClassificationPrediction,
    DepthMap,
    Detections,
    InstanceDetections,
    MultiLabelClassificationPrediction,
    Result,
)

_MEASURES: Mapping[str, type[Measure]] = {
    tasks.OBJECT_DETECTION.name: Boxes, tasks.KEYPOINT_DETECTION.name: Boxes, tasks.OPEN_VOCABULARY.name: Boxes,
    tasks.INSTANCE_SEGMENTATION.name: Masks, tasks.CLASSIFICATION.name: Classes, tasks.DEPTH_ESTIMATION.name: Map,
}  # fmt: skip
# Figures in words, in percent; those of the gate and those that people look for beside them.
WORDS = {
    "map": "mAP of boxes, IoU 0.5 to 0.95", "map50": "mAP of boxes, IoU 0.5",
    "mask_map": "mAP of masks, IoU 0.5 to 0.95", "mask_map50": "mAP of masks, IoU 0.5",
    "top1": "accuracy of the best class", "top5": "class among the five best",
    "absrel": "mean relative error of depth",
}  # fmt: skip


@dataclass(frozen=True)
class Data:
    """Labelled pictures for one model.

    Attributes:
        measure: what is measured on them.
        read: as :meth:`Measure.labelled` gives them.
    """

    measure: Measure
    read: Any

    @classmethod
    def of(cls, folder: Path, task: str, labels: Sequence[str], map_meaning: str, most: int | None) -> Data:
        """The labelled pictures of a folder, at most ``most`` of them.

        Raises:
            NotSupported: no labels are known for the task.
            ExportFailed: the folder is of another format, or none of its classes is one of the model's.
        """
        kind = _MEASURES.get(task)
        if kind is None:
            raise NotSupported(
                f"There are no labels that {task} is measured by.", hint=f"Measured are {', '.join(_MEASURES)}."
            )
        measure = kind(Asked(tasks.TASKS[task]), labels, map_meaning)
        found = measure.labelled(folder)
        return cls(measure, found if most is None else _limited(found, most))

    @property
    def count(self) -> int:
        """How many pictures there are."""
        return len(self.read.images if isinstance(self.read, Coco) else self.read)

    def measured(self, answer: Answer) -> dict[str, float]:
        """Figures by name, in percent, of what ``answer`` answers."""
        return self.measure.accuracy(answer, self.read)


def _limited(found: Any, most: int) -> Any:
    if isinstance(found, Coco):
        return found.limited(most)
    count = min(most, len(found))
    return [found[i * len(found) // count] for i in range(count)]


def tensors_of(result: Result) -> Tensors:
    """A result as the public outputs that measures read. Raises NotSupported for one of another task."""
    if isinstance(result, tuple):
        result = result[1]
    if isinstance(result, Detections):
        found = {"boxes": result.xyxy, "scores": result.confidence, "class_ids": np.asarray(result.class_id, np.int32)}
        if isinstance(result, InstanceDetections) and result.mask is not None:
            found["masks"] = np.array(result.mask.masks, dtype=object)
        return found
    if isinstance(result, ClassificationPrediction):
        return {"scores": result.confidence[0]}
    if isinstance(result, MultiLabelClassificationPrediction):
        return {"scores": result.confidence}
    if isinstance(result, DepthMap):
        return {"values": result.values}
    raise NotSupported("Answers of this kind are not measured.")


def reference(manifest: Manifest, path: Path | None, accept: Callable[[Entry], None]) -> Answer:
    """The reference pipeline of a published model.

    Args:
        path: of the user's weights that it was published from; those of the hub need not be named.
        accept: told of official weights before they are taken; may raise.

    Raises:
        InvalidParameter: the user's weights are not named.
        ExportFailed: the weights cannot be had.
        ModuleNotFoundError, SetupError: a package that the export needs is not installed.
    """
    if manifest.weights == "user" and path is None:
        path = hub.refetched(manifest.source)
    if manifest.weights == "user" and path is None:
        raise InvalidParameter(
            f"The reference of '{manifest.id}' needs the weights it was published from.",
            hint=f"Name them with --weights PATH: {manifest.source}.",
        )
    network = _package(path) if manifest.family == PACKAGE and path else _network(manifest, path, accept)

    def answer(sample: np.ndarray, given: Mapping[str, Any] = {}) -> Tensors:  # noqa: B006 - it is only read
        settings = tasks.resolve(tasks.TASKS[manifest.task].parameters, given)
        found = network.predict(sample, settings)
        if found is None:
            raise NotSupported(f"The reference pipeline of {manifest.family} cannot be installed beside the exporter.")
        return found

    return answer


def _network(manifest: Manifest, path: Path | None, accept: Callable[[Entry], None]) -> Network:
    family = registry.find(manifest.family)
    labels = manifest.labels if not family.refusals.labels else None
    weights = Weights(manifest.weights, path, labels=labels or None, multi_label=manifest.multi_label)
    if manifest.weights == "user":
        entry = recognise.entry_of(manifest.family, weights)
    else:
        entry = _entry(manifest)
    if manifest.weights == "official":
        accept(entry)
    if manifest.weights == "random":
        weights = replace(weights, seed=int(manifest.source.rpartition(" ")[2]))
    if not family.refusals.size and manifest.input_size != entry.input_size:
        weights = replace(weights, size=manifest.input_size)
    return family.build(entry, weights)


def _entry(manifest: Manifest) -> Entry:
    """The id of the catalogue that was published, perhaps under another. Raises ExportFailed."""
    known = catalog.entries().get(manifest.id)
    if known is not None:
        return known
    family = registry.find(manifest.family)
    for entry in catalog.entries().values():
        if entry.family == manifest.family and family.architecture(entry) == manifest.source.rpartition(", seed ")[0]:
            return entry
    raise ExportFailed(
        f"Nothing tells which id of {manifest.family} '{manifest.id}' was published from.",
        hint="Export it under its own id to compare it with its reference.",
    )


def _package(path: Path) -> Network:
    """The reference of a package, or of a bare file: its own graph behind the described steps."""
    from tritonvision.exporters.packages import description, onnx_file
    from tritonvision.exporters.packages.files import PackageFolder
    from tritonvision.exporters.packages.options import FileOptions
    from tritonvision.exporters.packages.pipeline import PackageFamily

    folder = path.is_dir()
    described = description.of_folder(PackageFolder.of(path)) if folder else onnx_file.OnnxFile.of(
        path, FileOptions()
    ).describe()  # fmt: skip
    family = PackageFamily(described)
    entry = Entry("package", PACKAGE, family.kind.task, family.size, "user", "", "unsure", None, ())
    return family.build(entry, Weights("user", path))
