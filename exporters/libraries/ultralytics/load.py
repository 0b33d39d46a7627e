"""ultralytics, kept on a leash: no writes into the home folder, no installs, no unpickling of foreign classes.

ultralytics is AGPL-3.0. It is imported inside functions of the exporter process only and never reaches serving.
"""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tritonvision.errors import ExportFailed, SetupError
from tritonvision.exporters import pins
from tritonvision.exporters import weight_files as files
from tritonvision.exporters.libraries.torch_env import import_torchvision
from tritonvision.exporters.wheel_files import CACHE

if TYPE_CHECKING:
    from ultralytics import YOLO


def prepare() -> None:
    """Make ultralytics importable and harmless; call before the first import of it. Raises SetupError."""
    if "YOLO_CONFIG_DIR" not in os.environ:
        folder = tempfile.mkdtemp(prefix="tritonvision-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ["YOLO_CONFIG_DIR"] = folder
    os.environ |= {
        "YOLO_AUTOINSTALL": "false",  # or it installs packages at run time
        "YOLO_VERBOSE": "false",
        "YOLO_OFFLINE": "true",  # or it reports its use
        "ULTRALYTICS_SAFE_LOAD": "true",  # checkpoints are read with weights_only and a list of known classes
    }
    os.environ.setdefault("MPLCONFIGDIR", os.environ["YOLO_CONFIG_DIR"])
    os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count() or 1))  # or it sets one thread for the whole process
    import_torchvision()
    try:
        import ultralytics  # noqa: F401
    except ImportError as error:
        raise SetupError(
            "This export needs ultralytics.", hint="Install it with: pip install 'tritonvision[export,torch-cpu]'"
        ) from error
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
    """ultralytics' name of what an architecture does."""
    return "segment" if stem.endswith("-seg") else "detect"


def coco_names() -> tuple[str, ...]:
    """The 80 class names of COCO in ultralytics' order."""
    from ultralytics.utils import ROOT, YAML

    names = YAML.load(ROOT / "cfg" / "datasets" / "coco.yaml")["names"]
    return tuple(names[i] for i in range(len(names)))


def official(stem: str) -> Path:
    """The released checkpoint of an architecture, fetched once. Raises ExportFailed when it cannot be had."""
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


def checkpoint(path: Path, stem: str) -> YOLO:
    """A network from a ``.pt`` file, when it is of architecture ``stem``; class count and names are the file's own.

    Raises:
        ExportFailed: unreadable, of another task or another architecture.
    """
    import pickle

    from ultralytics import YOLO
    from ultralytics.nn.modules import Detect, Segment

    try:
        yolo = YOLO(str(path.resolve()), task=_task(stem))
    except (OSError, TypeError, AttributeError, RuntimeError, ImportError, KeyError, pickle.UnpicklingError) as error:
        raise ExportFailed(
            "The weights file is not a checkpoint that ultralytics reads.",
            hint="Train or export it with ultralytics 8.",
        ) from error
    head = yolo.model.model[-1]
    kind, what = {"detect": (Detect, "detector"), "segment": (Segment, "segmenter")}[_task(stem)]
    if type(head) is not kind or getattr(head, "one2one_cv2", None) is not None:
        raise ExportFailed(
            f"The weights are not those of a plain {what}.",
            hint="Export them under an id of their own task and family.",
        )
    theirs = {name: tuple(value.shape) for name, value in yolo.model.state_dict().items()}
    ours = architecture(stem, head.nc, 0).model.state_dict()
    if theirs != {name: tuple(value.shape) for name, value in ours.items()}:
        raise ExportFailed(
            f"The weights are not those of {stem}.", hint="Export them under the id of their own family and size."
        )
    return yolo
