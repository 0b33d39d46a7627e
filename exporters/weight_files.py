"""Weights files: is there one, what is its hash, how many classes does it name, and where official ones come from."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tritonvision.errors import ExportFailed
from tritonvision.exporters import pins
from tritonvision.exporters.contract import Weights
from tritonvision.exporters.sources import hub


def user_file(weights: Weights, suffixes: tuple[str, ...]) -> Path:
    """The file the user named, or the one such file in the folder the user named.

    Raises:
        ExportFailed: there is none, it is not of a kind this family reads, or the folder holds several.
    """
    path = weights.path
    if path is not None and path.is_dir():
        found = sorted(file for file in path.iterdir() if file.suffix.lower() in suffixes and file.is_file())
        if len(found) != 1:
            raise ExportFailed(
                f"The weights folder holds {len(found)} files of weights that this family reads, not one.",
                hint=f"Name the file itself: {', '.join(file.name for file in found[:5]) or ' or '.join(suffixes)}.",
            )
        return found[0]
    return _file(path, suffixes, "weights", "--weights PATH")


def head_file(weights: Weights, suffixes: tuple[str, ...]) -> Path:
    """The file of a last layer that the user named. Raises ExportFailed as :func:`user_file`."""
    return _file(weights.head, suffixes, "head's", "--head FILE")


def _file(path: Path | None, suffixes: tuple[str, ...], whose: str, option: str) -> Path:
    if path is None or not path.is_file():
        raise missing(whose, option)
    if path.suffix.lower() not in suffixes:
        raise ExportFailed(
            f"This family reads {' and '.join(suffixes)} files, not '{path.suffix}'.",
            hint="Save the weights in one of these formats.",
        )
    return path


def missing(whose: str = "weights", option: str = "--weights PATH") -> ExportFailed:
    """The error for a file that is not there."""
    return ExportFailed(f"There is no such {whose} file.", hint=f"Name an existing file with {option}.")


def refuse_graphs(weights: Weights, named: str = "") -> None:
    """Raise ExportFailed where the user's weights are an ONNX file.

    Args:
        named: what the user called them, where that is not their path.
    """
    if weights.path is not None and weights.path.suffix.lower() == ".onnx":
        raise ExportFailed(
            "An ONNX file is a graph already, so it is imported instead of exported.",
            hint=f"Say: tritonvision import {(named or weights.path.name)[:120]} --as PROJECT/VERSION",
        )


def named_lines(text: str) -> tuple[str, ...]:
    """Class names, one a line, without spaces around them; empty lines at the end do not count.

    Only a line feed ends a line, or a carriage return and a line feed: a name can hold any other separator.
    """
    return tuple(line.strip() for line in text.rstrip().replace("\r\n", "\n").split("\n"))


def unavailable(name: str, why: str = "", hint: str = "") -> ExportFailed:
    """The error for official weights that cannot be fetched.

    Args:
        why: a sentence, where it is known; ``hint`` is what to do about it.
    """
    return ExportFailed(
        f"The official weights {name} could not be fetched{f': {why}' if why else '.'}",
        hint=f"{f'{hint} Or fetch' if hint else 'Fetch'} {name} where there is a network and name it with "
        "--weights PATH; or --weights random.",
    )


def hub_file(repository: str, name: str) -> Path:
    """A file of a Hugging Face repository at its pinned revision, from the hub's own cache when it is there.

    Raises:
        ExportFailed: it cannot be had, or is another one than is pinned, see :mod:`tritonvision.exporters.pins`.
        SetupError: the disk is full.
    """
    try:
        path = hub.file(repository, name, pins.revision_of(repository))
    except ExportFailed as error:
        raise unavailable(f"{repository}/{name}", error.message, error.hint) from error
    parts = path.parts  # .../snapshots/<commit>/<name>
    return pins.take(repository, path, parts[parts.index("snapshots") + 1] if "snapshots" in parts else "")


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def class_names(weights: Weights, own: tuple[str, ...]) -> tuple[str, ...]:
    """The user's labels, or the weights' ``own``. Raises ExportFailed when their number differs."""
    if weights.labels is None:
        return own
    if len(weights.labels) != len(own):
        raise ExportFailed(
            f"The labels name {len(weights.labels)} classes, the weights have {len(own)}.",
            hint="Give one line for each class, in the order of the class ids.",
        )
    return weights.labels


def labels_of(weights: Weights, own: tuple[str, ...], named: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Class names as :func:`class_names` gives them, and the note for the manifest where nobody gives them.

    Args:
        named: whether ``own`` are the weights' own names, or only numbers.

    Raises:
        ExportFailed: as :func:`class_names`.
    """
    unnamed = () if named or weights.labels else ("The weights do not name their classes; --labels FILE does.",)
    return class_names(weights, own), unnamed
