"""Labels of YOLO's kind, as ultralytics trains from and Roboflow exports: read into COCO's form.

Beside each picture, or in the folder ``labels`` where the picture is in ``images``, lies ``NAME.txt``: a line for each
object, ``class x y width height`` (the centre) or ``class x1 y1 x2 y2 ...`` (the outline), in fractions of the picture.
``data.yaml`` names the classes and the folders of the pictures: those of ``val`` are taken, or of ``test``, or of
``train``. Where its ``kpt_shape`` says that key points follow each box, the boxes alone are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tritonvision.errors import ExportFailed, InvalidPicture
from tritonvision.exporters.checkpoints import class_names
from tritonvision.exporters.precision.pictures import files
from tritonvision.exporters.weight_files import named_lines
from tritonvision.pictures import shown_size

_DESCRIPTIONS = ("data.yaml", "dataset.yaml", "data.yml")
_SPLITS = ("val", "valid", "test", "train")
_NAMES = "classes.txt"


def is_yolo(folder: Path) -> bool:
    """Whether a folder holds such labels: a description, or texts beside its pictures and no JSON."""
    if not folder.is_dir() or _description(folder) is not None:
        return folder.is_dir()
    return next(folder.rglob("*.json"), None) is None and any(_label(path).is_file() for path in files(folder))


def read(folder: Path, labels: Sequence[str]) -> tuple[dict[str, Any], dict[int, Path]]:
    """The labels of a folder as COCO's dataset, and the files of its pictures by their id.

    Args:
        labels: of the model, by class id, where the folder names no classes.

    Raises:
        ExportFailed: a line, a picture or the description cannot be read, or there is no object at all.
    """
    described = _described(folder)
    names = class_names(described.get("names")) or _named_beside(folder) or tuple(labels)
    points = _numbers_of_key_points(described)
    images, rows, paths = [], [], {}
    for number, path in enumerate(_pictures(folder, described)):
        try:
            width, height = shown_size(path.read_bytes())
        except (OSError, InvalidPicture) as error:
            raise ExportFailed(f"The picture '{path.name}' cannot be read.", hint="Take it out of there.") from error
        images.append({"id": number, "file_name": path.name, "width": width, "height": height})
        paths[number] = path
        for class_id, outline in _lines(_label(path), len(names), points):
            rows.append({"image_id": number, "category_id": class_id, **_shape(outline, width, height)})
    if not rows:
        raise ExportFailed(
            f"The labels of '{folder.name}' name no object.", hint="Each picture has its labels in NAME.txt, see docs."
        )
    categories = [{"id": i, "name": name} for i, name in enumerate(names)]
    return {"images": images, "annotations": rows, "categories": categories}, paths


def _description(folder: Path) -> Path | None:
    return next((folder / name for name in _DESCRIPTIONS if (folder / name).is_file()), None)


def _described(folder: Path) -> Mapping[str, Any]:
    """``data.yaml``, or nothing where there is none. Raises ExportFailed."""
    path = _description(folder)
    if path is None:
        return {}
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise ExportFailed(f"'{path.name}' cannot be read as YAML.", hint="It names classes and folders.") from error
    if not isinstance(found, Mapping):
        raise ExportFailed(f"'{path.name}' is no description of labels.", hint="It names classes and folders.")
    return found


def _numbers_of_key_points(described: Mapping[str, Any]) -> int:
    """How many numbers follow each box: ``kpt_shape`` is points, and 2 or 3 numbers a point. Raises ExportFailed."""
    shape = described.get("kpt_shape")
    if shape is None:
        return 0
    if not (isinstance(shape, list) and len(shape) == 2 and all(type(n) is int and n > 0 for n in shape)):
        raise ExportFailed("'kpt_shape' cannot be read.", hint="It is [17, 3], or as many points and numbers a point.")
    return shape[0] * shape[1]


def _named_beside(folder: Path) -> tuple[str, ...] | None:
    path = folder / _NAMES
    return named_lines(path.read_text("utf-8", errors="replace")) if path.is_file() else None


def _pictures(folder: Path, described: Mapping[str, Any]) -> list[Path]:
    """The pictures of the first split that is there, of all folders where none is described. Raises ExportFailed."""
    given = [described.get(split) for split in _SPLITS]
    for places in (place if isinstance(place, list) else [place] for place in given if place):
        found = [where for place in places for where in [_place(folder, described, str(place))] if where is not None]
        if found:
            return [path for where in found for path in files(where)]
    if any(given):
        raise ExportFailed(
            f"None of the folders that the description of '{folder.name}' names is there.",
            hint=f"It names them as {', '.join(s for s, g in zip(_SPLITS, given, strict=True) if g)}.",
        )
    return [path for path in files(folder) if _label(path).is_file() or "images" in path.parts]


def _place(folder: Path, described: Mapping[str, Any], place: str) -> Path | None:
    """A folder of a description; Roboflow writes ``../valid/images`` for what lies beside the description."""
    root = folder / str(described.get("path") or "")
    tried = (root / place, folder / place, folder / place.removeprefix("../"))
    return next((where for where in tried if where.is_dir()), None)


def _label(picture: Path) -> Path:
    """The labels of a picture: in ``labels`` for the last ``images`` of its path, else beside it."""
    parts = list(picture.parent.parts)
    if "images" in parts:
        last = len(parts) - 1 - parts[::-1].index("images")
        there = Path(*parts[:last], "labels", *parts[last + 1 :], f"{picture.stem}.txt")
        if there.is_file():
            return there
    return picture.with_suffix(".txt")


def _lines(path: Path, classes: int, points: int) -> Iterator[tuple[int, list[float]]]:
    """Class id and coordinates of each line, without the ``points`` numbers of key points; nothing where there is no
    file. Raises ExportFailed.
    """
    if not path.is_file():
        return
    for number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        try:
            first, *rest = line.split()
            class_id, outline = int(first), [float(value) for value in rest]
        except ValueError:
            class_id, outline = -1, []
        if points and len(outline) == 4 + points:
            outline = outline[:4]
        fits = len(outline) == 4 or (len(outline) >= 6 and len(outline) % 2 == 0)
        if not 0 <= class_id < classes or not fits or not all(-0.01 <= value <= 1.01 for value in outline):
            raise ExportFailed(
                f"Line {number} of the labels '{path.name}' cannot be read.",
                hint=f"It is a class id below {classes}, then x y width height or an outline, in fractions of 1.",
            )
        yield class_id, outline


def _shape(outline: Sequence[float], width: int, height: int) -> dict[str, Any]:
    """Box, and outline if there is one, in pixels, as COCO writes them."""
    if len(outline) == 4:
        x, y, w, h = outline
        return {"bbox": [(x - w / 2) * width, (y - h / 2) * height, w * width, h * height]}
    xs, ys = [x * width for x in outline[::2]], [y * height for y in outline[1::2]]
    pairs = [value for point in zip(xs, ys, strict=True) for value in point]
    box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
    return {"bbox": box, "segmentation": [pairs]}
