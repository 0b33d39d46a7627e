"""API keys: what is kept of each, and the file that holds them, a JSON object a line.

A key is 32 random bytes, and its SHA-256 is what is kept. A slow hash is for passwords, which can be guessed: nobody
finds one of 2**256 keys by trying, however quick a try is, and every request has to be checked.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from tritonvision.errors import SetupError

ASK, MANAGE = "ask", "manage"
_PREFIX, _BYTES = "tv_", 32


class ApiKey(BaseModel):
    """What is known of one key. An unknown field is refused: misspelt, a limit would not hold.

    Attributes:
        name: in logs and metrics, and to revoke it.
        sha256: of the key, 64 hexadecimal digits.
        models: ids of the models that it is for; ``*`` stands for any letters.
        may: ``ask`` the models; ``manage`` what is loaded and exported.
        rate: requests a second, of which each further picture of a request is one; None is no limit.
        concurrency: pictures that are being answered at the same time; None is no limit.
        created: the day, for people.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", repr=False)
    models: tuple[str, ...] = ("*",)
    may: frozenset[Literal["ask", "manage"]] = frozenset(("ask",))
    rate: float | None = Field(None, gt=0)
    concurrency: int | None = Field(None, ge=1)
    created: str = ""

    @field_validator("sha256", mode="before")
    @classmethod
    def _lower(cls, digits: object) -> object:
        return digits.lower() if isinstance(digits, str) else digits

    def line(self) -> str:
        """The key as a line of the file; what is as usual is left out."""
        return json.dumps(self.model_dump(mode="json", exclude_defaults=True), ensure_ascii=False)


def new_key() -> str:
    """A new key: ``tv_`` and 43 letters, digits, ``-`` and ``_``."""
    return _PREFIX + secrets.token_urlsafe(_BYTES)


def digest(key: str) -> str:
    """The SHA-256 of a key, 64 hexadecimal digits."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def read(path: Path) -> list[ApiKey]:
    """The keys of a file. Empty lines, and lines that begin with ``#``, are passed over.

    Raises:
        SetupError: it cannot be read, a line is no key, a name or a key is there twice, or everybody may write to it.
    """
    try:
        with path.open(encoding="utf-8") as file:
            if os.fstat(file.fileno()).st_mode & stat.S_IWOTH:
                raise SetupError(
                    f"Every user of this machine may write to the keys in {path}.", hint=f"chmod o-w {path}"
                )
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise SetupError(
            f"The keys in {path} cannot be read: {why}.", hint="'tritonvision keys new' writes such a file."
        ) from error
    found: list[ApiKey] = []
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.lstrip().startswith("#"):
            found.append(_key(path, number, line))
    check_distinct(found, str(path))
    return found


def write(path: Path, keys: Iterable[ApiKey]) -> None:
    """Replace the file of keys in one step; a new one only its owner can read. Raises SetupError."""
    try:
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, fresh = tempfile.mkstemp(dir=path.parent)
        try:
            with open(handle, "w", encoding="utf-8") as file:
                file.writelines(f"{key.line()}\n" for key in keys)
                file.flush()
                os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
            os.replace(fresh, path)
        except OSError:
            os.unlink(fresh)
            raise
    except OSError as error:
        raise SetupError(f"The keys cannot be written to {path}: {error.strerror}.") from error


@contextmanager
def changing(path: Path) -> Iterator[None]:
    """Within the block no other process changes the file: a key that is revoked does not come back with the next one.

    Raises:
        SetupError: its folder cannot be made or read.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise SetupError(f"The keys cannot be written to {path}: {error.strerror}.") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def check_distinct(keys: Iterable[ApiKey], where: str) -> None:
    """Raises SetupError where two keys have one name, or one key two names."""
    names: set[str] = set()
    digests: set[str] = set()
    for key in keys:
        if key.name in names or key.sha256 in digests:
            raise SetupError(f"The key '{key.name}' is there twice in {where}.", hint="Give each a name of its own.")
        names.add(key.name)
        digests.add(key.sha256)


def _key(path: Path, number: int, line: str) -> ApiKey:
    try:
        return ApiKey.model_validate_json(line)
    except ValidationError as error:  # its text would quote the line
        problem = error.errors(include_url=False, include_input=False)[0]
        where = f"'{problem['loc'][0]}': " if problem["loc"] else ""
        raise SetupError(
            f"Line {number} of {path} is no key: {where}{problem['msg']}.",
            hint="'tritonvision keys new' writes such lines.",
        ) from None
