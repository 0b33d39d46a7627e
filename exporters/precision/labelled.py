"""Folders of labelled pictures, in the formats that people have them in.

| task | format |
|---|---|
| detection, with masks or without | pictures, and one JSON file of COCO's kind beside them; or labels of YOLO's kind |
| classification | a folder for each class, called as the class |
| depth | pictures, beside each its depth: ``NAME.npy``, or a grey ``NAME.depth.png``; 0 or NaN is not known |
| text | pictures, beside each what stands in it: ``NAME.txt`` |
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tritonvision.errors import ExportFailed
from tritonvision.exporters.contract import Tensors
from tritonvision.exporters.precision import yolo_labels
from tritonvision.exporters.precision.pictures import files, read

__all__ = ["Coco", "class_folders", "coco", "depth", "depth_pairs", "read", "transcripts"]

_DEPTH = ".depth.png"


@dataclass(frozen=True)
class Coco:
    """Pictures with boxes, and masks if they have them.

    Attributes:
        images: of the JSON, each with its ``id``.
        paths: of their files, by that id.
        categories: id of the category that a class id of the model means, by class id.
        names: of these classes, by class id.
    """

    images: tuple[Mapping[str, Any], ...]
    paths: Mapping[int, Path]
    categories: Mapping[int, int]
    names: tuple[str, ...]
    truth: COCO

    def picture(self, image: Mapping[str, Any]) -> np.ndarray:
        """RGB uint8 ``[h,w,3]``. Raises ExportFailed where it is not of the size that the labels tell."""
        found = read(self.paths[image["id"]])
        height, width = found.shape[:2]
        if (height, width) != (image["height"], image["width"]):
            raise ExportFailed(
                f"The picture '{self.paths[image['id']].name}' has {width} x {height} pixels, in the labels "
                f"{image['width']} x {image['height']}."
            )
        return found

    def limited(self, most: int) -> Coco:
        """At most ``most`` of the pictures, evenly spread."""
        count = min(most, len(self.images))
        return replace(self, images=tuple(self.images[i * len(self.images) // count] for i in range(count)))

    def mean_precision(
        self, found: Sequence[tuple[Mapping[str, Any], Tensors]], masks: bool = False
    ) -> tuple[float, float]:  # fmt: skip
        """COCO's mAP in percent of answers about :attr:`images`, by boxes or by masks: at IoU 0.5 to 0.95, and at 0.5.
        """
        rows = [row for image, answer in found for row in self._rows(image, answer, masks)]
        if not rows:
            return 0.0, 0.0
        with contextlib.redirect_stdout(io.StringIO()):
            judge = COCOeval(self.truth, self.truth.loadRes(rows), "segm" if masks else "bbox")
            judge.params.imgIds = [image["id"] for image in self.images]
            judge.params.catIds = sorted(set(self.categories.values()))
            judge.evaluate()
            judge.accumulate()
            judge.summarize()
        return 100 * float(judge.stats[0]), 100 * float(judge.stats[1])

    def _rows(self, image: Mapping[str, Any], answer: Tensors, masks: bool) -> list[dict[str, Any]]:
        """The detections of one picture as COCO's results."""
        rows = []
        for i, class_id in enumerate(answer["class_ids"].tolist()):
            if class_id not in self.categories:
                continue
            left, top, right, bottom = answer["boxes"][i].tolist()
            row = {
                "image_id": image["id"], "category_id": self.categories[class_id], "score": float(answer["scores"][i]),
                "bbox": [left, top, right - left, bottom - top],
            }  # fmt: skip
            if masks:
                size = [int(image["height"]), int(image["width"])]
                row["segmentation"] = {"size": size, "counts": answer["masks"][i]}
            rows.append(row)
        return rows


def coco(folder: Path, labels: Sequence[str], masks: bool = False) -> Coco:
    """The pictures and labels of a folder of COCO's format, or of YOLO's.

    Args:
        labels: of the model, by class id; those of the folder are found by name. Without any, the folder's own count in
            their order.
        masks: whether each object must have one.

    Raises:
        ExportFailed: it is another format, a picture is missing, or no class of it is one of the model's.
    """
    if yolo_labels.is_yolo(folder):
        data, paths = yolo_labels.read(folder, labels)
        truth, names = _checked(data, folder.name)
    else:
        pictures = files(folder)
        truth, names = _truth(_json(folder))
        paths = _paths(truth.dataset["images"], pictures, folder.name)
    if masks and not all(row.get("segmentation") for row in truth.dataset["annotations"]):
        raise ExportFailed(
            f"The labels of '{folder.name}' have boxes without masks.",
            hint="Each annotation needs a segmentation: a list of polygons, or run lengths.",
        )
    by_name = {name.lower(): i for i, name in enumerate(labels or names.values())}
    categories = {by_name[name.lower()]: key for key, name in names.items() if name.lower() in by_name}
    if not categories:
        raise ExportFailed(
            f"None of the classes in the labels of '{folder.name}' is one of the model's.",
            hint=f"The model knows {', '.join(labels[:5])}; the labels {', '.join(list(names.values())[:5])}.",
        )
    return Coco(tuple(truth.dataset["images"]), paths, categories, tuple(labels or names.values()), truth)


def _paths(images: Sequence[Mapping[str, Any]], pictures: Sequence[Path], folder: str) -> dict[int, Path]:
    """The file of each image of the labels, by its id. Raises ExportFailed where one is missing."""
    called: dict[str, list[Path]] = {}
    for path in pictures:
        called.setdefault(path.name, []).append(path)
    found = {}
    for image in images:
        name = Path(str(image["file_name"]))
        near = called.get(name.name, [])
        if not near:
            raise ExportFailed(f"The picture '{name}' of the labels is not in '{folder}'.")
        # of several with one name, the one in the folder that the labels tell
        found[image["id"]] = next((path for path in near if path.parts[-len(name.parts) :] == name.parts), near[0])
    return found


def _json(folder: Path) -> Path:
    found = sorted(folder.rglob("*.json"))
    if len(found) != 1:
        raise ExportFailed(
            f"The folder '{folder.name}' must hold one JSON file of labels, and holds {len(found)}.",
            hint="Detections are labelled in COCO's format (images, annotations, categories), or in YOLO's (NAME.txt).",
        )
    return found[0]


def _truth(path: Path) -> tuple[COCO, dict[int, str]]:
    """The labels of a JSON file, and the name of each category by its id. Raises ExportFailed."""
    try:
        data = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        data = None
    return _checked(data, path.name)


def _checked(data: Any, name: str) -> tuple[COCO, dict[int, str]]:
    """Labels in COCO's form, and the name of each category by its id. Raises ExportFailed."""
    wrong = ExportFailed(
        f"'{name}' is not of COCO's format.",
        hint="It must be a JSON object of images, annotations (with bbox, category_id, image_id) and categories.",
    )
    try:
        rows = [{"iscrowd": 0, **row} for row in data["annotations"]]
        for number, row in enumerate(rows, 1):
            left, top, width, height = (float(v) for v in row["bbox"])
            row |= {"id": number, "area": float(row.get("area", width * height)), "bbox": [left, top, width, height]}
        names = {row["id"]: str(row["name"]) for row in data["categories"]}
        images = {row["id"] for row in data["images"] if row["width"] and row["height"] and str(row["file_name"])}
        if not rows or any(row["image_id"] not in images or row["category_id"] not in names for row in rows):
            raise wrong
    except (ValueError, KeyError, TypeError) as error:
        raise wrong from error
    truth = COCO()
    truth.dataset = {"images": data["images"], "annotations": rows, "categories": data["categories"], "info": {}}
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
    return truth, names


def class_folders(folder: Path, labels: Sequence[str]) -> list[tuple[Path, int]]:
    """Pictures and their class ids, of a folder that has a folder for each class.

    Raises:
        ExportFailed: pictures lie outside such folders, or a folder is not called as a class of the model.
    """
    by_name = {name.lower(): i for i, name in enumerate(labels)}
    found = []
    for path in files(folder):
        name = path.relative_to(folder).parts[0].lower()
        if path.parent == folder or name not in by_name:
            raise ExportFailed(
                f"'{path.relative_to(folder)}' in '{folder.name}' is not in a folder that is called as a class.",
                hint=f"Give each class a folder with its pictures: {', '.join(labels[:5])}.",
            )
        found.append((path, by_name[name]))
    return found


def depth_pairs(folder: Path) -> list[tuple[Path, Path]]:
    """Pictures and the files of their depth. Raises ExportFailed where one has none."""
    found = []
    for path in files(folder):
        if path.name.endswith(_DEPTH):
            continue
        beside = [path.with_suffix(".npy"), path.with_name(path.stem + _DEPTH)]
        depths = [candidate for candidate in beside if candidate.is_file()]
        if not depths:
            raise ExportFailed(
                f"The picture '{path.name}' in '{folder.name}' has no depth beside it.",
                hint=f"That is a file {beside[0].name}, or a grey {beside[1].name}.",
            )
        found.append((path, depths[0]))
    return found


def depth(path: Path, size: tuple[int, ...]) -> np.ndarray:
    """The depth in a file: float32 ``[h,w]``, in any unit, more than 0 where it is known.

    Raises:
        ExportFailed: it is not of that ``size``, or known nowhere.
    """
    try:
        found = np.load(path, allow_pickle=False) if path.suffix == ".npy" else _grey(path)
    except (OSError, ValueError) as error:
        raise ExportFailed(f"The depth '{path.name}' cannot be read.") from error
    if found.shape != tuple(size) or found.dtype.kind not in "fui":
        raise ExportFailed(
            f"The depth '{path.name}' is not a map of numbers of its picture's size, {size[1]} x {size[0]}."
        )
    if not (np.isfinite(found) & (found > 0)).any():
        raise ExportFailed(f"The depth '{path.name}' tells no distance.", hint="Distances are more than 0.")
    return found.astype(np.float32)


def _grey(path: Path) -> np.ndarray:
    """A grey PNG with all its bits: it holds distances and is no picture. Raises ValueError."""
    found = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if found is None:
        raise ValueError("no PNG")
    return found


def transcripts(folder: Path) -> list[tuple[Path, str]]:
    """Pictures and the texts in them. Raises ExportFailed where one has none."""
    found = []
    for path in files(folder):
        text = path.with_suffix(".txt")
        if not text.is_file():
            raise ExportFailed(
                f"The picture '{path.name}' in '{folder.name}' has no '{text.name}' beside it.",
                hint="Beside each picture lies a text file of what stands in it.",
            )
        found.append((path, text.read_text("utf-8", errors="replace")))
    return found
