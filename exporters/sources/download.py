"""A file over HTTP into a folder: resumed where it stopped, compared with its hash, or not there at all."""

from __future__ import annotations

import errno
import hashlib
import time
from pathlib import Path

import httpx

from tritonvision.errors import ExportFailed, SetupError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # the last: this process may write no such file
TRIES = 4
_TIMEOUT = httpx.Timeout(30, connect=10)
_CHUNK = 1 << 16
_PAUSE = 1.0  # seconds before a download is resumed


def download(client: httpx.Client, url: str, target: Path, md5: str | None = None) -> Path:
    """``target``, fetched unless it is there with that hash; what a stopped download left is gone on with.

    Args:
        md5: hexadecimal, of the whole file. Without it a download begins anew: another file may lie there by now.

    Raises:
        ExportFailed: it cannot be had, or has another hash.
        SetupError: the disk is full, or the folder cannot be written.
    """
    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if md5 and target.is_file() and _md5(target) == md5:
            return target
        if md5 is None:
            part.unlink(missing_ok=True)
        _fetch(client, url, part)
        if md5 and _md5(part) != md5:
            part.unlink()
            raise ExportFailed(
                f"{target.name} came otherwise than it was announced: its MD5 is another.", hint="Try again."
            )
        part.replace(target)
    except OSError as error:
        if error.errno in FULL:
            part.unlink(missing_ok=True)
            raise SetupError(f"The disk is full: {target.name} does not fit.", hint="Make room in ~/.cache.") from error
        raise SetupError(f"{target.name} cannot be written.", hint="Look at the rights of ~/.cache.") from error
    return target


def _fetch(client: httpx.Client, url: str, part: Path) -> None:
    """Add to ``part`` what is missing. Raises ExportFailed, OSError of the disk."""
    for left in reversed(range(TRIES)):
        have = part.stat().st_size if part.is_file() else 0
        try:
            headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
            with client.stream("GET", url, headers=headers, timeout=_TIMEOUT, follow_redirects=True) as answer:
                if answer.status_code == 416:  # there is no more, or another file lies there now
                    part.unlink()
                    continue
                if answer.status_code >= 400:
                    raise ExportFailed(
                        f"{part.stem} cannot be fetched: its server answers {answer.status_code}.", hint="Try again."
                    )
                with part.open("ab" if answer.status_code == 206 else "wb") as file:
                    for chunk in answer.iter_raw(_CHUNK):
                        file.write(chunk)
                return
        except httpx.HTTPError as error:
            if not left:
                raise ExportFailed(
                    f"The download of {part.stem} stopped in the middle.", hint="Try again: it goes on from there."
                ) from error
            time.sleep(_PAUSE)
    raise ExportFailed(f"The download of {part.stem} does not come to an end.", hint="Try again.")


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
