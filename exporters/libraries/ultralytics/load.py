"""ultralytics with its side effects switched off: it writes nothing into the home folder, installs no packages, and
unpickles no unknown classes.

ultralytics is AGPL-3.0: it is imported only in the exporter process, inside functions, and never in serving.
"""

from __future__ import annotations

import atexit
import logging
import math
import os
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tritonvision.catalog import Entry
from tritonvision.cgroups import cores
from tritonvision.errors import ExportFailed, InvalidParameter, SetupError
from tritonvision.exporters import checkpoints, pins
from tritonvision.exporters import weight_files as files
from tritonvision.exporters.contract import Weights
from tritonvision.exporters.libraries.torch_env import import_torchvision
from tritonvision.exporters.wheel_files import CACHE

if TYPE_CHECKING:
    from ultralytics import YOLO

_KINDS = {
    ("Detect", False): "plain detector", ("Segment", False): "plain segmenter",
    ("v10Detect", True): "one-to-one detector",
}  # fmt: skip
STRIDE = 32  # network pixels of a cell of the coarsest level


def prepare() -> None:
    """Import ultralytics with its side effects off; call before it is used. Raises SetupError."""
    if "YOLO_CONFIG_DIR" not in os.environ:
        folder = tempfile.mkdtemp(prefix="tritonvision-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ["YOLO_CONFIG_DIR"] = folder
    os.environ |= {
        "YOLO_AUTOINSTALL": "false",  # otherwise it installs packages at run time
        "YOLO_VERBOSE": "false",
        "YOLO_OFFLINE": "true",  # otherwise it reports usage statistics
        "ULTRALYTICS_SAFE_LOAD": "true",  # checkpoints are read with weights_only and a list of known classes
    }
    os.environ.setdefault("MPLCONFIGDIR", os.environ["YOLO_CONFIG_DIR"])
    # otherwise ultralytics limits the whole process to one thread
    os.environ.setdefault("OMP_NUM_THREADS", str(cores()))
    import_torchvision()
    try:
        from ultralytics.nn import tasks
    except ImportError as error:
        raise SetupError(
            "This export needs ultralytics.", hint="Install it with: pip install 'tritonvision[export,torch-cpu]'"
        ) from error
    tasks.SAFE_LOAD = True  # the variable counts for nothing where something has imported it before
    logging.getLogger("ultralytics").setLevel(logging.ERROR)


def architecture(stem: str, class_count: int, seed: int) -> YOLO:
    """A network of ultralytics' own description, e.g. ``yolov8n`` or ``yolov8n-seg``, with the initial weights that
    ``seed`` gives.
    """
    import torch
    from ultralytics import YOLO

    task = _task(stem)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yolo = YOLO(f"{stem}.yaml", task=task)
        model = type(yolo.model)(f"{stem}.yaml", nc=class_count, verbose=False)
    model.args, model.task = yolo.model.args, task
    yolo.model = model.eval()
    return yolo


def _task(stem: str) -> str:
    """ultralytics' name of an architecture's task."""
    return "segment" if stem.endswith("-seg") else "detect"


def _kind(stem: str) -> tuple[str, bool]:
    """ultralytics' class of an architecture's last layer, and whether that has a one-to-one head."""
    from ultralytics.nn.tasks import yaml_model_load

    name = yaml_model_load(f"{stem}.yaml")["head"][-1][2]
    return name, name == "v10Detect"


def coco_names() -> tuple[str, ...]:
    """The 80 class names of COCO in ultralytics' order."""
    from ultralytics.utils import ROOT, YAML

    names = YAML.load(ROOT / "cfg" / "datasets" / "coco.yaml")["names"]
    return tuple(names[i] for i in range(len(names)))


def official(stem: str) -> Path:
    """The released checkpoint of an architecture, downloaded once. Raises ExportFailed when it cannot be downloaded."""
    from ultralytics.utils.downloads import attempt_download_asset

    path = CACHE / f"{stem}.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    os.environ["YOLO_OFFLINE"] = "false"
    try:
        found = Path(attempt_download_asset(path))
    except (OSError, RuntimeError, ValueError) as error:  # ConnectionError is an OSError
        raise files.unavailable(path.name) from error
    finally:
        os.environ["YOLO_OFFLINE"] = "true"
    if not found.is_file():
        raise files.unavailable(path.name)
    return pins.take(pins.ULTRALYTICS, found)


@dataclass(frozen=True)
class Trained:
    """A network from a ``.pt`` file.

    Attributes:
        yolo: ultralytics' own object around it.
        names: of the classes, or None where the file has no complete list of them.
        size: side of the training pictures, or None where the file does not give it.
    """

    yolo: YOLO
    names: tuple[str, ...] | None
    size: int | None

    @property
    def classes(self) -> int:
        """The number of classes of its head."""
        return self.yolo.model.model[-1].nc


def checkpoint(path: Path, stem: str) -> Trained:
    """A network from a ``.pt`` file, fused or not, when it is of architecture ``stem``.

    Raises:
        ExportFailed: unreadable, of another task or another architecture.
    """
    import pickle

    from ultralytics import YOLO

    try:
        yolo = YOLO(str(path.resolve()), task=_task(stem))
    except (OSError, TypeError, AttributeError, RuntimeError, ImportError, KeyError, pickle.UnpicklingError) as error:
        raise ExportFailed(
            "The weights file is not a checkpoint that ultralytics reads.",
            hint="Train or export it with ultralytics 8.",
        ) from error
    head = yolo.model.model[-1]
    if (kind := _kind(stem)) != (type(head).__name__, getattr(head, "one2one_cv2", None) is not None):
        raise ExportFailed(
            f"The weights are not those of a {_KINDS[kind]}: their network ends in {type(head).__name__}.",
            hint="Export them under an id of their own task and family.",
        )
    ours = architecture(stem, head.nc, 0).model
    ours.end2end = yolo.model.end2end  # which of two heads fusing removes
    wrong = checkpoints.difference((ours.fuse(verbose=False) if yolo.model.is_fused() else ours).state_dict(),
                                   yolo.model.state_dict())  # fmt: skip
    if wrong:
        raise ExportFailed(
            f"The weights are not those of {stem}: {wrong}.",
            hint="Export them under the id of their own family and size.",
        )
    trained = getattr(yolo, "ckpt", None) or {}
    size = (trained.get("train_args") or {}).get("imgsz")
    return Trained(yolo, checkpoints.class_names(yolo.model.names), size if type(size) is int and size > 0 else None)


def named(found: Trained, labels: tuple[str, ...] | None) -> tuple[str, ...]:
    """The caller's labels or the file's names, one for each class of the head. Raises ExportFailed."""
    names = labels if labels is not None else found.names
    if names is not None and len(names) == found.classes:
        return names
    hint = f"--labels FILE names all {found.classes}, one a line in the order of the class ids."
    if names is None:
        raise ExportFailed("The class names in the weights file are not numbered 0, 1, 2, ...", hint=hint)
    who = "labels name" if labels is not None else "weights file names"
    raise ExportFailed(f"The {who} {len(names)} classes, and the head of its network has {found.classes}.", hint=hint)


def side(trained: int) -> int:
    """The side that ultralytics uses for a given training size: the next multiple of the stride."""
    return math.ceil(trained / STRIDE) * STRIDE


def sized(entry: Entry, weights: Weights) -> Entry:
    """``entry`` with the size of pictures that the user wants, if any.

    Raises:
        InvalidParameter: a side is no multiple of the stride.
    """
    if weights.size is None:
        return entry
    height, width = weights.size
    if height % STRIDE or width % STRIDE:
        raise InvalidParameter(
            f"A YOLO cannot take {height} x {width} pixels.", hint=f"Both sides are multiples of {STRIDE}."
        )
    return replace(entry, input_size=(height, width))
