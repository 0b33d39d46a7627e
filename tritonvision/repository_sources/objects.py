"""Buckets of S3, GCS and Azure, and folders, by the package obstore. It finds keys where the tools of vendors do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import obstore
from obstore.exceptions import BaseError
from obstore.store import from_url

from tritonvision.errors import ServerUnavailable, SetupError
from tritonvision.repository_sources.remote import Remote

_PIECE = 32 * 2**20  # a request; one may take half a minute
_KEYS = "Keys, regions and endpoints come from the variables of each vendor, such as AWS_ACCESS_KEY_ID."
_METADATA = "http://169.254.169.254/"  # asked for the machine's role where no variable holds a key


class Bucket:
    """Objects below a prefix.

    Args:
        url: of the prefix.

    Raises:
        SetupError: it is no URL of a bucket, or lacks something.
    """

    def __init__(self, url: str):
        self.url = url
        try:
            self._store = from_url(url)
        except (BaseError, ValueError) as error:
            raise SetupError(
                f"{url} is no bucket that can be read: {_first_line(error)}",
                hint=f"Give s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX or file:///FOLDER. {_KEYS}",
            ) from error

    def list(self) -> Iterator[Remote]:
        """As :meth:`~tritonvision.repository_sources.remote.Source.list`."""
        try:
            for page in obstore.list(self._store):
                for found in page:
                    tag = found["e_tag"]
                    yield Remote(found["path"], found["size"], tag or str(found["last_modified"]), tag is not None)
        except (BaseError, OSError) as error:
            raise self._silent(error) from error

    def fetch(self, remote: Remote, target: Path) -> None:
        """As :meth:`~tritonvision.repository_sources.remote.Source.fetch`."""
        same: obstore.GetOptions = {"if_match": remote.mark} if remote.tagged else {}
        with target.open("wb") as file:
            try:
                for start in range(0, remote.size, _PIECE):
                    piece = (start, min(start + _PIECE, remote.size))
                    file.write(obstore.get(self._store, remote.path, options={**same, "range": piece}).bytes())
            except BaseError as error:
                raise self._silent(error) from error

    def _silent(self, error: Exception) -> ServerUnavailable:
        why = _first_line(error)
        if _METADATA in why:
            why = "no key for it is given, and this machine has no role."
        return ServerUnavailable(f"The source {self.url} cannot be read: {why}", hint=_KEYS, retry_after=60)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:300]
