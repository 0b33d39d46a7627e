"""The checks of ``tritonvision doctor``; none of them changes anything."""

from __future__ import annotations

import ctypes.util
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tritonvision import machine, memory
from tritonvision.cli.models import loaded_ids
from tritonvision.endpoint import Endpoint
from tritonvision.errors import SetupError, TritonVisionError
from tritonvision.publication import Manifest, Repository
from tritonvision.server import sandbox, walls
from tritonvision.server.fixes import SAFE_LINE, described, has_fixes
from tritonvision.server.locate import Installation, locate
from tritonvision.settings import Settings
from tritonvision.variants import ENGINES, OFFERED, variant_name

_GLIBC = (2, 35)  # oldest that the wheel's tritonserver runs on
_SHM_WARN_MB, _SHM_FAIL_MB = 512, 64  # each step maps a region that starts at 1 MB and grows with its pictures
_MEMORY_WARN, _MEMORY_FAIL = 4 * 2**30, 2**30  # the embedded server with one small model takes about 700 MB
_DISK_WARN = 5 * 2**30  # weights, their graph and what an export needs besides, of a large model
_QUERY = "name,driver_version,memory.total"
# extra, package that shows it is there, what it is for
_EXTRAS = (
    ("onnx-cpu", "onnxruntime", "runs networks on the embedded server"),
    ("mediapipe", "flatbuffers", "exports MediaPipe models"),
    ("export", "ultralytics", "exports the torch families"),
    ("torch-cpu", "torch", "exports the torch families"),
    ("client", "supervision", "draws answers on pictures"),
)


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        status: ``ok``, ``warn`` (serving works, something else may not) or ``fail``.
        what: what was checked.
        found: the result.
        advice: what to do, empty when nothing is needed.
    """

    status: str
    what: str
    found: str
    advice: str = ""


def examine(settings: Settings) -> list[Finding]:
    """Every finding, in the order in which to fix them."""
    return [
        _python(), _numpy(), *_server(settings), _memory(), _shared_memory(), _run_folder(), _log_folder(settings),
        _port(settings), *_repository(settings), _disk(settings), _gpu(), _tensorrt(), _openvino(),
        _variants(), *_extras(),
    ]  # fmt: skip


def _python() -> Finding:
    version = platform.python_version()
    if (3, 11) <= sys.version_info[:2] <= (3, 12):
        return Finding("ok", "Python", f"{version} at {sys.executable}")
    return Finding("fail", "Python", version, "Use Python 3.11 or 3.12.")


def _numpy() -> Finding:
    version = importlib.metadata.version("numpy")
    if int(version.split(".")[0]) < 2:
        return Finding("ok", "numpy", version)
    return Finding("fail", "numpy", version, "Triton's Python stub needs numpy 1: pip install 'numpy<2'.")


def _server(settings: Settings) -> Iterator[Finding]:
    if settings.triton_url:
        from tritonvision.engine.endpoints import endpoints_of

        for endpoint in endpoints_of(settings):
            yield from _foreign(endpoint)
        return
    try:
        installation = locate(settings)
    except SetupError as error:
        yield Finding("fail", "tritonserver", error.message, error.hint)
        return
    version = installation.version or "version told once it runs"
    yield Finding("ok", "tritonserver", f"{version}, from {_ORIGIN[installation.kind]}: {installation.executable}")
    yield from _security(
        installation.version,
        "It listens on a Unix socket that no other user of this machine reaches, and only the HTTP server, which "
        f"checks what it is sent, talks to it. With --triton-url: a container from {SAFE_LINE} on.",
    )
    yield _walls(settings)
    if installation.kind == "wheel":
        yield _glibc()
        yield _stub(installation)
        yield _libpython()


def _walls(settings: Settings) -> Finding:
    """What the kernel holds the embedded tritonserver to."""
    if not settings.sandbox:
        return Finding("warn", "walls", "the tritonserver is not confined: TRITONVISION_SANDBOX is off", "Unset it.")
    if walls.holds_own_code(settings.repository):
        return Finding(
            "warn", "walls", "the tritonserver is not confined, because the repository holds code of your own",
            "Serve that code from a repository of its own.",
        )  # fmt: skip
    version = sandbox.landlock_version()
    missing = [*([] if version else ["Landlock"]), *([] if sandbox.seccomp_here() else ["seccomp"])]
    if missing:
        return Finding(
            "warn", "walls", f"no {' and no '.join(missing)} in this kernel: the tritonserver is confined in part",
            "Use Linux 6.7 or newer with both, or keep other people's data off this machine.",
        )  # fmt: skip
    held = f"no network, no other process, of files the models and what it runs on (Landlock {version}, seccomp)"
    return Finding("ok", "walls", held)


_ORIGIN = {"wheel": "the nvidia-pytriton wheel", "path": "this path"}


def _foreign(endpoint: Endpoint) -> Iterator[Finding]:
    from tritonvision.server.control import Control

    control, address = Control(endpoint), endpoint.target
    try:
        version = control.version()
    except TritonVisionError as error:
        yield Finding("fail", "tritonserver", f"{address}: {error.message}", "Check TRITONVISION_TRITON_URL.")
        return
    finally:
        control.close()
    yield Finding("ok", "tritonserver", f"{version}, somebody else's, at {address}")
    yield from _security(
        version, f"Let nobody but this server reach it, and run a container from {SAFE_LINE} on."
    )


def _security(version: str | None, protection: str) -> Iterator[Finding]:
    """Whether a tritonserver has the security fixes that are known; nothing where it does not tell its version."""
    fixed = has_fixes(version)
    if version and fixed is not None:
        yield Finding("ok" if fixed else "warn", "Triton's fixes", described(version), "" if fixed else protection)


def _glibc() -> Finding:
    name, version = platform.libc_ver()
    if name == "glibc" and tuple(int(part) for part in version.split(".")[:2]) >= _GLIBC:
        return Finding("ok", "glibc", version)
    return Finding(
        "fail", "C library", f"{name or 'not glibc'} {version}".strip(),
        "The embedded tritonserver needs glibc 2.35 or newer: use a newer Linux, the NGC container, or --triton-url.",
    )  # fmt: skip


def _stub(installation: Installation) -> Finding:
    # locate() has refused a Python without one
    return Finding(
        "ok", "Python stub", f"for Python {installation.stub.parent.name}" if installation.stub else "its own"
    )


def _libpython() -> Finding:
    name = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so"
    folder = Path(sysconfig.get_config_var("LIBDIR") or "")
    shared = next(iter(sorted(folder.glob(f"{name}*"))), None)
    if shared is not None:
        return Finding("ok", "libpython", str(shared))
    known = ctypes.util.find_library(name.removeprefix("lib").removesuffix(".so"))
    if known is not None:
        return Finding("ok", "libpython", known)
    package = f"libpython{sys.version_info.major}.{sys.version_info.minor}"
    return Finding(
        "fail", "libpython", f"no {name} in {folder}",
        f"Use a Python built with --enable-shared, or on Debian and Ubuntu: apt-get install {package}",
    )  # fmt: skip


def _shared_memory() -> Finding:
    if not Path("/dev/shm").is_dir():
        return Finding("fail", "/dev/shm", "not there", "Triton passes tensors through it: mount a tmpfs there.")
    space = os.statvfs("/dev/shm")
    free = space.f_bavail * space.f_frsize // 2**20
    advice = "Large pictures will not fit; in Docker: --shm-size=2g."
    if free < _SHM_FAIL_MB:
        return Finding("fail", "/dev/shm", f"{free} MB free", advice)
    return Finding("warn" if free < _SHM_WARN_MB else "ok", "/dev/shm", f"{free} MB free",
                   advice if free < _SHM_WARN_MB else "")  # fmt: skip


def _run_folder() -> Finding:
    """Where a server's socket and backends would lie."""
    from tritonvision.server import run_folder

    try:
        return Finding("ok", "run folder", f"below {run_folder.place()}")
    except SetupError as error:
        return Finding("fail", "run folder", error.message, error.hint)


def _log_folder(settings: Settings) -> Finding:
    folder = settings.log_dir
    if os.access(_existing(folder), os.W_OK | os.X_OK):
        return Finding("ok", "log folder", str(folder))
    return Finding(
        "warn", "log folder", f"{folder} cannot be written; errors of the inference server go to standard error",
        "Name another one with TRITONVISION_LOG_DIR.",
    )  # fmt: skip


def _port(settings: Settings) -> Finding:
    from tritonvision.facade.run import listen

    what = f"port {settings.port}"
    try:
        listen(settings.host, settings.port).close()
    except SetupError as error:
        loaded = loaded_ids(settings.port)
        if loaded is not None:
            return Finding("ok", what, f"a tritonvision server answers there, {len(loaded)} loaded")
        return Finding("warn", what, error.message, error.hint)
    return Finding("ok", what, f"free on {settings.host}")


def _repository(settings: Settings) -> Iterator[Finding]:
    root = settings.repository
    repository = Repository(root)
    published = len(list(repository))
    if not os.access(_existing(root), os.W_OK):
        yield Finding("warn", "repository", f"{root} cannot be written to", "Exports go elsewhere with --repository.")
    elif not published:
        yield Finding(
            "warn", "repository", f"nothing is published in {root}",
            "Start with: tritonvision export mediapipe-face-detection",
        )  # fmt: skip
    else:
        yield Finding("ok", "repository", f"{published} published in {root}")
    for manifest in repository:
        yield from _unfit(manifest)
    for sentence in repository.left_out():
        yield Finding("warn", "repository", sentence, "What is left out is not served.")


def _memory() -> Finding:
    """What is free for models: of the machine, or of the container that this process is in."""
    free = memory.free()
    found, budget = f"{free / 2**30:.1f} GB free", memory.budget()
    if budget is not None:
        found += f"; in this container models may take {budget / 2**30:.1f} GB"
    if free < _MEMORY_FAIL:
        return Finding("fail", "memory", found, "The server with one small model needs 1 GB.")
    if free < _MEMORY_WARN:
        return Finding(
            "warn", "memory", found, "Large models will not fit; bound the loaded ones with serve --memory-budget SIZE."
        )
    return Finding("ok", "memory", found)


def _disk(settings: Settings) -> Finding:
    place = _existing(settings.repository)
    free = shutil.disk_usage(place).free
    found = f"{free / 2**30:.1f} GB free at {place}"
    if free < _DISK_WARN:
        return Finding("warn", "disk", found, "An export of a large model needs 5 GB; --repository takes another disk.")
    return Finding("ok", "disk", found)


def _existing(path: Path) -> Path:
    """``path``, or the nearest folder above it that is there."""
    return path if path.exists() else next(parent for parent in path.absolute().parents if parent.exists())


def _gpu() -> Finding:
    if shutil.which("nvidia-smi") is None:
        return Finding("ok", "GPU", "none; networks run on the CPU")
    try:
        reply = subprocess.run(
            ["nvidia-smi", f"--query-gpu={_QUERY}", "--format=csv,noheader"],
            capture_output=True, text=True, timeout=10, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Finding("warn", "GPU", "nvidia-smi does not answer", "Check the driver.")
    if reply.returncode != 0 or not reply.stdout.strip():
        return Finding("warn", "GPU", "nvidia-smi is there but reports no GPU", "Check the driver.")
    return Finding("ok", "GPU", "; ".join(reply.stdout.strip().splitlines()))


def _tensorrt() -> Finding:
    if find_spec("tensorrt") is None:
        return Finding("ok", "TensorRT", "none; networks run on ONNX Runtime")
    return Finding("ok", "TensorRT", importlib.metadata.version("tensorrt"))


def _openvino() -> Finding:
    if find_spec("openvino") is None:
        return Finding("ok", "OpenVINO", "none; networks run on ONNX Runtime", "pip install 'tritonvision[openvino]'")
    return Finding("ok", "OpenVINO", importlib.metadata.version("openvino"))


def _variants() -> Finding:
    """How networks can run on this machine: what each engine and the processor let."""
    here = [
        variant_name(engine, precision)
        for engine in ENGINES
        for precision in OFFERED[engine]
        if not machine.why_not(engine, precision)
    ]
    bf16 = f"bf16 by {', '.join(machine.bf16_flags())}" if machine.bf16_flags() else "no bf16"
    return Finding("ok", "variants", f"{', '.join(here)} ({machine.cpu_name()}: {bf16})")


def _unfit(manifest: Manifest) -> Iterator[Finding]:
    """Where the variant that shall serve cannot run here."""
    why = machine.choice(manifest).why_not
    if why:
        yield Finding(
            "warn", "variants", f"{manifest.id} shall run as {manifest.serving} and runs as it was exported: {why}",
            f"Choose another one: tritonvision variants {manifest.id}",
        )  # fmt: skip


def _extras() -> Iterator[Finding]:
    for extra, package, purpose in _EXTRAS:
        if find_spec(package) is not None:
            yield Finding("ok", f"extra {extra}", f"{purpose} ({package} {_version(package)})")
            continue
        needed = extra == "onnx-cpu"
        yield Finding(
            "fail" if needed else "warn", f"extra {extra}", f"not installed; {purpose}",
            f"pip install 'tritonvision[{extra}]'",
        )  # fmt: skip


def _version(package: str) -> str:
    names = importlib.metadata.packages_distributions().get(package, [package])
    try:
        return importlib.metadata.version(names[0])
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"
