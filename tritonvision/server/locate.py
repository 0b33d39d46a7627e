"""Finds a tritonserver: a path given explicitly, one on PATH, or the one in the ``nvidia-pytriton`` wheel."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from tritonvision.errors import SetupError
from tritonvision.settings import Settings

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
# Version of the server inside each release of the wheel (its changelog); the binary has no option that prints it.
_WHEEL_SERVERS = {"0.7.0": "2.51.0"}


@dataclass(frozen=True)
class Installation:
    """A tritonserver on this machine.

    Attributes:
        kind: ``path`` (given explicitly, or on PATH) or ``wheel``.
        executable: the binary.
        backends: its backend directory.
        libraries: folders for LD_LIBRARY_PATH.
        stub: the Python stub to put beside the Python backend, or None when it is there already.
        version: of the server, empty when unknown before it runs.
    """

    kind: str
    executable: Path
    backends: Path
    libraries: tuple[Path, ...] = ()
    stub: Path | None = None
    version: str = ""


def locate(settings: Settings) -> Installation:
    """The tritonserver to run. Raises SetupError when there is none."""
    given = settings.tritonserver or shutil.which("tritonserver")
    return _wheel() if given is None else _binary(Path(given))


def _binary(executable: Path) -> Installation:
    if not executable.is_file():
        raise SetupError(f"There is no tritonserver at {executable}.", hint="Check TRITONVISION_TRITONSERVER.")
    backends = executable.resolve().parent.parent / "backends"
    if not (backends / "python").is_dir():
        raise SetupError("The tritonserver found has no Python backend beside it.", hint=f"Looked in {backends}.")
    return Installation("path", executable, backends)


def _wheel() -> Installation:
    spec = importlib.util.find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        raise SetupError(
            "No tritonserver was found on this machine.",
            hint="Install one with: pip install 'tritonvision[onnx-cpu]' (Linux x86-64, glibc 2.35 or newer).",
        )
    package = Path(spec.submodule_search_locations[0])
    root = package / "tritonserver"
    stub = root / "python_backend_stubs" / PYTHON / "triton_python_backend_stub"
    if not stub.is_file():
        raise SetupError(
            f"The tritonserver of nvidia-pytriton has no stub for Python {PYTHON}.", hint="Use Python 3.11 or 3.12."
        )
    return Installation(
        kind="wheel",
        executable=root / "bin" / "tritonserver",
        backends=root / "backends",
        libraries=(package.parent / "nvidia_pytriton.libs", Path(sysconfig.get_config_var("LIBDIR") or "")),
        stub=stub,
        version=_WHEEL_SERVERS.get(importlib.metadata.version("nvidia-pytriton"), ""),
    )
