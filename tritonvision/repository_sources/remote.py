"""What a source is: files by path, each with a mark that changes when it does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Remote:
    """One file of a source.

    Attributes:
        path: below the repository, with slashes.
        size: bytes.
        mark: changes with its content: an ETag, a digest, a time.
        tagged: whether that is an ETag.
    """

    path: str
    size: int
    mark: str
    tagged: bool = False


class Source(Protocol):
    """Where a repository is copied from. Calls block, and raise ServerUnavailable where it does not answer."""

    url: str

    def list(self) -> Iterable[Remote]:
        """Every file of it now."""

    def fetch(self, remote: Remote, target: Path) -> None:
        """Write a file of it to ``target``. Raises OSError where that cannot be written."""
