"""A folder on this machine or on any store that fsspec knows; a file in it appears whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tritonvision.errors import InvalidParameter, SetupError, TritonVisionError

_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}


def store_of(address: str) -> tuple[Any, str]:
    """fsspec's file system of ``address`` (a path, or ``s3://BUCKET/...`` and its kin) and the path in it.

    Raises:
        InvalidParameter: no store has such addresses.
        SetupError: a package that reads them is not installed.
    """
    try:
        import fsspec
    except ModuleNotFoundError as error:
        raise extra_missing("fsspec") from error
    try:
        return fsspec.core.url_to_fs(address)
    except ValueError as error:
        raise InvalidParameter(f"'{address[:80]}' is no place that can be read or written.") from error
    except ImportError as error:
        scheme = address.partition("://")[0]
        package = _PACKAGES.get(scheme, "the one that fsspec names for it")
        raise SetupError(
            f"Addresses of {scheme}:// need a package that is not installed.", hint=f"pip install {package}"
        ) from error


def extra_missing(package: str) -> SetupError:
    """The error of a package of the extra that is not installed."""
    return SetupError(
        f"This needs the package '{package}', which is not installed.", hint="pip install 'tritonvision[batch]'"
    )


class Folder:
    """The folder at ``address``, made if it is missing.

    Raises:
        InvalidParameter, SetupError: as :func:`store_of`; or it cannot be made.
    """

    def __init__(self, address: str):
        self.address = address
        self._store, self._path = store_of(address)
        self._local = is_local(self._store)
        with _readable(self.address):
            self._store.makedirs(self._path, exist_ok=True)

    def read(self, name: str) -> bytes | None:
        """The bytes of a file, None where there is none. Raises SetupError."""
        with _readable(self.address):
            try:
                return self._store.cat_file(f"{self._path}/{name}")
            except FileNotFoundError:
                return None

    def open(self, name: str) -> Any:
        """A file to read from. Raises SetupError."""
        with _readable(self.address):
            return self._store.open(f"{self._path}/{name}", "rb")

    def write(self, name: str, data: bytes) -> None:
        """Write a file in one step: on this machine beside it, flushed to disk, then renamed; elsewhere by one request,
        after which stores show the object. Raises SetupError.
        """
        with _readable(self.address):
            if self._local:
                _write_local(Path(self._path), name, data)
            else:
                self._store.pipe_file(f"{self._path}/{name}", data)

    def names(self) -> set[str]:
        """Names of the files directly in the folder. Raises SetupError."""
        with _readable(self.address):
            self._store.invalidate_cache()
            try:
                return {path.rpartition("/")[2] for path in self._store.ls(self._path, detail=False)}
            except FileNotFoundError:  # of most stores, a folder is there once a file lies in it
                return set()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One process at a time; stores elsewhere have no locks. What killed processes left half written is removed.

        Raises SetupError where another process is at it.
        """
        if not self._local:
            yield
            return
        handle = os.open(self._path, os.O_RDONLY)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise SetupError(
                    f"Another process writes to {self.address}.", hint="Wait for it, or choose another --out."
                ) from error
            for left in Path(self._path).glob(".*.half"):
                left.unlink(missing_ok=True)
            yield
        finally:
            os.close(handle)


def _write_local(folder: Path, name: str, data: bytes) -> None:
    target = folder / name
    handle, half = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".half", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(half, 0o644)
        os.replace(half, target)
    except BaseException:
        os.unlink(half)
        raise
    directory = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # the name is on disk, too
    finally:
        os.close(directory)


def is_local(store: Any) -> bool:
    """Whether fsspec's file system ``store`` is that of this machine."""
    return "file" in ((store.protocol,) if isinstance(store.protocol, str) else store.protocol)


@contextlib.contextmanager
def _readable(address: str) -> Iterator[None]:
    """What stores raise, as a sentence."""
    try:
        yield
    except TritonVisionError:
        raise
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise SetupError(f"{address} cannot be read or written: {why}.", hint="Is it there, and yours?") from error
