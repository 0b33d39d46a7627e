"""The Triton step that runs the code of a user's own package, in a process of its own.

The package lies in a folder of the user's; its class offers ``from_pretrained(directory)``, and what that gives is
asked about one picture at a time, BGR uint8 ``[h, w, 3]`` as OpenCV reads them.
"""

from __future__ import annotations

import importlib.util
import inspect
import io
import json
import locale
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from tritonvision import heartbeat
from tritonvision.errors import TritonVisionError, to_wire
from tritonvision.pictures import decode, size_of
from tritonvision.python_backend import foreign_answers
from tritonvision.python_backend.batching import stack_padded
from tritonvision.python_backend.images import regions
from tritonvision.python_backend.images.resize import Geometry
from tritonvision.python_backend.step import Step, read_parameters
from tritonvision.tasks import TASKS, resolve

_MODULE = "tritonvision_local_package"
# Settings that packages do not have, and those applied here if the model does not take them.
_OURS = {"auto_orient", "region", "mask_format", "function"}
_APPLIED = ("confidence", "classes", "max_detections")


class TritonPythonModel(Step):
    """``image`` BYTES ``[B,1]`` to what the task's head kind answers, and ``image_size`` int32 ``[B,2]``.

    With a ``region`` the package's model gets only that part; ``image_size`` (height, width) is the whole picture's.
    """

    def setup(self, parameters: Mapping[str, str], args: Mapping[str, str]) -> None:
        """Load the package. An error is one sentence for the caller of the load; the log has the traceback."""
        options = json.loads(parameters["options"])
        _speak_utf8()
        try:
            self.weights = _reachable(options["directory"])
            self.package = Package(
                self.weights, options["module"], options["class"], parameters["task"], options["classes"]
            )
        except (Exception, SystemExit) as error:  # the boundary: the code is not ours
            pb_utils.Logger.log_error(f"{self.name}: {traceback.format_exc()}")
            failure = TritonVisionError(f"The package's code could not be loaded: {type(error).__name__}.")
            raise pb_utils.TritonModelException(to_wire(failure)) from None

    def answer(self, tensors: dict[str, np.ndarray], wanted: Collection[str]) -> dict[str, np.ndarray]:
        """One picture after another; answers of different length are padded as those of post steps are."""
        images = tensors["image"].reshape(-1)
        rows, before = [], b""
        for data, given in zip(images, read_parameters(tensors, len(images)), strict=True):
            before = data or before  # an empty sample repeats the picture before it
            self.heart.step()
            rows.append(self.package.ask(before, given))
        return stack_padded(rows)


class Package:
    """The model of a package, loaded into this process.

    Args:
        directory, module, class_name: see :func:`load`.
        task: name of the task that it does.
        classes: how many class names there are.

    Attributes:
        model: what is called with a picture.
        accepted: names of the settings that it takes, see :func:`accepted`.
    """

    def __init__(self, directory: Path, module: str, class_name: str | None, task: str, classes: int):
        self.task, self.classes = TASKS[task], classes
        model = load(directory, module, class_name)
        self.model = model if callable(model) else model.infer
        self.accepted = accepted(self.model)

    def ask(self, data: bytes, given: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The public outputs about one encoded picture, without a batch axis.

        Args:
            given: settings of the task.

        Raises:
            TritonVisionError: the picture, a setting or the answer is refused.
            Exception: whatever the package's code raises.
        """
        settings = resolve(self.task.parameters, given)
        picture = decode(data, settings["auto_orient"])
        image_size = np.array(picture.shape[:2], dtype=np.int32)
        if settings.get("region") is not None:
            picture, _ = regions.apply(_whole, picture, settings["region"], {})
        said = {name: settings[name] for name in given if name not in _OURS and given[name] is not None}
        passed = {name: value for name, value in said.items() if self.accepted is None or name in self.accepted}
        answer = self.model(np.ascontiguousarray(picture[..., ::-1]), **passed)
        left = settings | {name: None if name in passed else said.get(name) for name in _APPLIED}
        found = foreign_answers.to_tensors(answer, self.task.name, size_of(picture), left, self.classes)
        return found | {"image_size": image_size}


def _speak_utf8() -> None:
    """Files that the package opens, and what it prints, are UTF-8 as in any Python of today.

    Triton's stub starts Python with ASCII, whatever the environment says. The package is the only code here that does
    not name the encodings it wants.
    """
    locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8")


def _reachable(directory: str) -> Path:
    """The folder, or a link to it where its name has letters that the Python of this process cannot write."""
    if directory.isascii() or sys.getfilesystemencoding() == "utf-8":
        return Path(directory)
    link = (heartbeat.folder() or Path(tempfile.mkdtemp(prefix="tritonvision-"))) / f"package-{os.getpid()}"
    os.symlink(directory.encode(), bytes(link))
    return link


def load(directory: Path, module: str, class_name: str | None) -> Any:
    """The model of a package: its class is asked for one with ``from_pretrained(directory)``.

    Args:
        module: name of the file.
        class_name: of the class; None for the only one in the module that offers ``from_pretrained``.

    Raises:
        Exception: whatever the package's code raises.
    """
    sys.path.append(str(directory))  # so that the module finds what lies beside it, and hides nothing of ours
    spec = importlib.util.spec_from_file_location(_MODULE, directory / module)
    if spec is None or spec.loader is None:
        raise ImportError(f"'{module}' is no file that Python imports.")
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[_MODULE] = loaded  # where dataclasses and pickles look for it
    spec.loader.exec_module(loaded)
    return _class_of(loaded, class_name).from_pretrained(str(directory))


def _class_of(module: ModuleType, name: str | None) -> Any:
    if name is not None:
        return getattr(module, name)
    own = [
        value for value in vars(module).values()
        if inspect.isclass(value) and value.__module__ == _MODULE and hasattr(value, "from_pretrained")
    ]  # fmt: skip
    if len(own) != 1:
        raise TypeError(f"The module has {len(own)} classes with from_pretrained, not one: name it as model_class.")
    return own[0]


def accepted(call: Callable) -> frozenset[str] | None:
    """Names of the settings that a call takes; None where it takes any, or does not tell."""
    try:
        parameters = inspect.signature(call).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return frozenset(p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD))


def _whole(picture: np.ndarray) -> tuple[np.ndarray, Geometry]:
    return picture, Geometry(picture.shape[1], picture.shape[0], 0, 0, 1, 1)
