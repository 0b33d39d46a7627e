"""Checkpoints of YOLO-World as ultralytics saves them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING

from tritonvision.errors import ExportFailed
from tritonvision.exporters import checkpoints
from tritonvision.exporters.libraries.ultralytics import load

if TYPE_CHECKING:
    from ultralytics import YOLOWorld

CLASSES = 80  # of the detectors that were released: a width of the smallest one's head is derived from it


def read(path: Path, stem: str) -> YOLOWorld:
    """The detector in a ``.pt`` file, fused or not, when it is of architecture ``stem``.

    Raises:
        ExportFailed: unreadable, of another network, of the first generation or of another size.
    """
    from ultralytics import YOLOWorld
    from ultralytics.nn.modules import ImagePoolingAttn, WorldDetect

    try:
        yolo = YOLOWorld(str(path.resolve()))
    except (OSError, TypeError, AttributeError, RuntimeError, ImportError, KeyError, pickle.UnpicklingError) as error:
        raise ExportFailed(
            "The weights file is not a checkpoint that ultralytics reads.",
            hint="Train or export it with ultralytics 8.",
        ) from error
    layers = list(yolo.model.model)
    if type(layers[-1]) is not WorldDetect:
        raise ExportFailed(
            f"The weights are not those of YOLO-World: their network ends in {type(layers[-1]).__name__}.",
            hint="Export them under an id of their own family.",
        )
    if any(isinstance(layer, ImagePoolingAttn) for layer in layers):
        raise ExportFailed(
            "The weights are those of the first YOLO-World, whose texts are changed by the picture.",
            hint=f"Take the second one, {stem}.pt.",
        )
    ours = load.architecture(stem, CLASSES, 0).model
    ours = ours.fuse(verbose=False) if yolo.model.is_fused() else ours
    wrong = checkpoints.difference(ours.state_dict(), yolo.model.state_dict())
    if wrong:
        raise ExportFailed(
            f"The weights are not those of {stem}: {wrong}.", hint="Export them under the id of their own size."
        )
    return yolo
