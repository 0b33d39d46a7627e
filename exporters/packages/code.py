"""Packages with Python code of their own: published as one Triton model that runs the code in its own folder.

The package is not copied. Its code runs during the import in its own environment: to answer the golden question, and
before that where no file has its class names. Importing this module needs neither onnx nor torch.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np

from tritonvision import __version__, differences, golden
from tritonvision.ensembles.entry_points import LocalCode
from tritonvision.ensembles.schemas import HEADS
from tritonvision.ensembles.tensors import IMAGE_SIZE, Tensor
from tritonvision.errors import ExportFailed
from tritonvision.exporters import publish
from tritonvision.exporters.packages.files import FAMILY, PackageFolder
from tritonvision.publication import Manifest
from tritonvision.tasks import TASKS

MULTI_LABEL = "multi-label-classification"  # the task type of packages for classification with independent labels
_ENVIRONMENT = "environment"
_PROBE_SECONDS = 600
_NAME_THEM = "It was asked for its class names: with class_names.txt in the package it need not give them."
_OUTPUTS: dict[str, tuple[Tensor, ...]] = {
    "object-detection": HEADS["dense-boxes"].outputs,
    "instance-segmentation": HEADS["prototype-masks"].outputs,
    "classification": HEADS["classes"].outputs,
    "embedding": HEADS["embeddings"].outputs,
    "depth-estimation": HEADS["dense-map"].outputs,
    "text-only-ocr": (Tensor("text", "STRING", (1,)),),
}
_NAMED = {"object-detection", "instance-segmentation", "classification"}

# Triton sources this before it starts the model's process; before that, the server's own Python is first on PATH.
_ACTIVATE = """\
export TRITONVISION_SERVING_PACKAGES="$(python3 -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
export VIRTUAL_ENV={environment}
export PATH={environment}/bin:"$PATH"
"""
# The model.py of such a process: what the environment lacks, such as tritonvision, is imported from serving's packages.
_MODEL_PY = '''"""Runs the code of a package in its own environment; which, stands in config.pbtxt."""

import os
import site

site.addsitedir(os.environ["TRITONVISION_SERVING_PACKAGES"])

from tritonvision.python_backend.local_code import TritonPythonModel  # noqa: E402, F401
'''
# Run by the environment's own interpreter; prints JSON as its last line.
_ABOUT = """
import json, sys
from importlib import metadata
try:
    numpy = metadata.version("numpy")
except metadata.PackageNotFoundError:
    numpy = ""
print(json.dumps({"python": "%d.%d" % sys.version_info[:2], "numpy": numpy}))
"""
_BEGIN = """
import json, sys, types
packages, directory, module, name, *rest = sys.argv[1:]
if packages:
    import site
    site.addsitedir(packages)
sys.modules["triton_python_backend_utils"] = types.ModuleType("triton_python_backend_utils")
from pathlib import Path
"""
_CLASSES = f"""{_BEGIN}
from tritonvision.python_backend.local_code import load
names = getattr(load(Path(directory), module, name or None), "class_names", None)
print("\\n" + json.dumps(None if names is None else [str(name) for name in names]))
"""
# Asks twice: answers that differ by chance are no reference.
_ASK = f"""{_BEGIN}
import numpy as np
from tritonvision.python_backend.local_code import Package
task, classes, picture, *targets = rest
package = Package(Path(directory), module, name or None, task, int(classes))
for target in targets:
    found = package.ask(Path(picture).read_bytes(), {{}})
    np.savez(target, **{{n: v.astype(np.bytes_) if v.dtype.kind == "O" else v for n, v in found.items()}})
"""
_KINDS = {
    "object-detection": differences.ROWS, "instance-segmentation": differences.ROWS,
    "classification": differences.CLASSES, "depth-estimation": differences.MAP,
}  # fmt: skip
_QUESTION = "question.png"


def publish_code(package: PackageFolder, public_id: str, repository: Path) -> Manifest:
    """Publish a package with code of its own under ``public_id``, replacing what is published there.

    Raises:
        ExportFailed: the package is not valid; the sentence says why.
        SetupError: the repository cannot be written.
    """
    module = package.module()
    given = package.config.task_type or "object-detection"
    task = "classification" if given == MULTI_LABEL else given
    if task not in _OUTPUTS:
        raise ExportFailed(
            f"A package's own code cannot do {given[:60]!r} here.",
            hint=f"'task_type' is one of: {', '.join([*_OUTPUTS, MULTI_LABEL])}.",
        )
    environment = _environment(package)
    labels = package.class_names() or (_ask_classes(package, module, environment) if task in _NAMED else ())
    options = {
        "directory": str(package.path), "module": module, "class": package.config.model_class,
        "classes": len(labels), "digest": package.digest,
    }  # fmt: skip
    outputs = (*_OUTPUTS[task], IMAGE_SIZE)
    point = LocalCode(TASKS[task], outputs, tuple(options.items()), _ENVIRONMENT if environment else "")
    manifest = Manifest(
        id=public_id, family=FAMILY, task=task, head=point.name, weights="user", source=package.path.name,
        sha256=package.digest, license="not known, the package is your own", precision="as the package has it",
        backend="custom", labels=labels, input_size=None, steps=(), graph_bytes=package.size, processes=1,
        map_meaning="inverse-depth" if task == "depth-estimation" else "", multi_label=given == MULTI_LABEL,
        versions={"tritonvision": __version__},
        notes=("It runs the package's own code, which nothing has measured against a reference.",),
    )  # fmt: skip
    asked, why_not = _golden(package, manifest, module, environment)
    if why_not:
        manifest = replace(manifest, notes=(*manifest.notes, f"No load asks it a golden question: {why_not}"))
    with publish.staging(repository) as folder:
        return publish.publish(repository, folder, manifest, (point,), {}, {"": _files(environment)}, asked)


def _files(environment: Path | None) -> dict[str, bytes]:
    """The files with which Triton starts the process in ``environment``; ``model.py`` replaces the usual one."""
    if environment is None:
        return {}
    activate = _ACTIVATE.format(environment=shlex.quote(str(environment)))
    return {f"{_ENVIRONMENT}/bin/activate": activate.encode(), "model.py": _MODEL_PY.encode()}


def _environment(package: PackageFolder) -> Path | None:
    """The Python environment that the package names, checked to fit the server's processes. Raises ExportFailed."""
    given = package.config.python_environment
    if given is None:
        return None
    folder = package.path / Path(given).expanduser()
    python = folder / "bin" / "python3"
    if not python.exists():
        raise ExportFailed(
            "'python_environment' names no Python environment.",
            hint="Make one with: python3 -m venv DIR, and name DIR in model_config.json.",
        )
    try:
        about = json.loads(_run(python, _ABOUT).splitlines()[-1])
    except (ExportFailed, ValueError, IndexError) as error:
        raise ExportFailed("The Python of 'python_environment' does not run.", hint="Make the environment anew.") from (
            error
        )
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    if about["python"] != ours:
        raise ExportFailed(
            f"'python_environment' has Python {about['python']}, and the server's processes are Python {ours}.",
            hint=f"Make the environment with: python{ours} -m venv DIR.",
        )
    if about["numpy"] and int(about["numpy"].split(".")[0]) >= 2:
        raise ExportFailed(
            f"'python_environment' has numpy {about['numpy']}, and the server's processes need one below 2.",
            hint="Install it there with: pip install 'numpy<2'.",
        )
    return folder


def _ask_classes(package: PackageFolder, module: str, environment: Path | None) -> tuple[str, ...]:
    """The ``class_names`` of the package's model, in a process of its own. Raises ExportFailed."""
    answer = _run_code(_CLASSES, package, module, environment)
    try:
        names = json.loads(answer.splitlines()[-1])
    except (ValueError, IndexError) as error:
        raise ExportFailed(
            "The package's code ended early when it was asked for its class names.", hint=_NAME_THEM
        ) from error
    if not names:
        raise ExportFailed(
            "Neither class_names.txt nor the package's model names its classes.",
            hint="Put class_names.txt into the package, one class a line, or give the model 'class_names'.",
        )
    return tuple(names)


def _golden(
    package: PackageFolder, manifest: Manifest, module: str, environment: Path | None
) -> tuple[Mapping[str, bytes], str]:
    """The files of the model's golden question, and, where it has none, why not."""
    picture = resources.files("tritonvision.data").joinpath("astronaut.png").read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        question, *answers = (Path(folder) / name for name in (_QUESTION, "first.npz", "second.npz"))
        question.write_bytes(picture)
        asked = (manifest.task, len(manifest.labels), question, *answers)
        try:
            _run_code(_ASK, package, module, environment, *asked)
            first, second = map(_answer, answers)
        except ExportFailed as error:
            return {}, error.message
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            return {}, "The package's code ended early when it was asked about a picture."
    kind = _KINDS.get(manifest.task, differences.VALUES)
    if not differences.within(differences.agreement(kind, second, first), differences.PRECISION_BARS):
        return {}, "Asked twice about one picture, it gave two answers."
    stage = golden.Stage(golden.ANSWER, "", kind, {}, f"{golden.ANSWER}.npz")
    inputs = {"parameters": golden.strings([b"{}"], (1, 1))}
    recorded = golden.Recorded(stage, inputs, first, {_QUESTION: picture})
    return golden.files_of(manifest, {"": [recorded]}), ""


def _answer(file: Path) -> dict[str, np.ndarray]:
    """What :data:`_ASK` wrote, batch axis first. Raises OSError, ValueError, EOFError or BadZipFile."""
    with np.load(file, allow_pickle=False) as stored:
        return {name: stored[name][None] for name in stored.files}


def _run_code(program: str, package: PackageFolder, module: str, environment: Path | None, *arguments: object) -> str:
    """The standard output of a program of this module, which loads the package, in its environment.

    Raises ExportFailed.
    """
    python = environment / "bin" / "python3" if environment else Path(sys.executable)
    packages = sysconfig.get_path("purelib") if environment else ""
    return _run(python, program, packages, package.path, module, package.config.model_class or "", *arguments)


def _run(python: Path, program: str, *arguments: object) -> str:
    """The standard output of a program. Raises ExportFailed with the last line of its standard error."""
    try:
        done = subprocess.run(
            [python, "-c", program, *map(str, arguments)], capture_output=True, text=True, errors="replace",
            stdin=subprocess.DEVNULL, timeout=_PROBE_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ExportFailed("The package's code could not be run.", hint=_NAME_THEM) from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise ExportFailed(f"The package's code could not be run: {last[:200]}", hint=_NAME_THEM)
    return done.stdout
