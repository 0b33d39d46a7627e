"""The files of a graph: their names, size, hashes, and how to move them. Only this module knows them.

A graph is one ONNX file, or that file and ``<name>.data`` beside it with its weights (ONNX external data: an ONNX file
itself holds 2 GB at most). The graph names its data file, so the data keeps its name wherever the two are moved.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

_BLOCK = 1 << 20


def data_file(graph: Path) -> Path:
    """The file of the weights of ``graph`` when they are external data; the writer of external data uses this name."""
    return graph.with_name(f"{graph.name}.data")


def files_of(graph: Path) -> tuple[Path, ...]:
    """The files of ``graph``: itself first, then its external data if there is any."""
    data = data_file(graph)
    return (graph, data) if data.is_file() else (graph,)


def size(graph: Path) -> int:
    """Bytes of the graph and its weights."""
    return sum(path.stat().st_size for path in files_of(graph))


def digest(graphs: Iterable[Path]) -> str:
    """sha256, hex, of the bytes of all these graphs one after another."""
    whole = hashlib.sha256()
    for path in (path for graph in graphs for path in files_of(graph)):
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                whole.update(block)
    return whole.hexdigest()


def placed(graph: Path, target: str) -> dict[str, Path]:
    """The files of ``graph`` by the path that each gets when the graph is moved to ``target``, a path with ``/``."""
    folder, slash, _ = target.rpartition("/")
    return {target: graph} | {f"{folder}{slash}{path.name}": path for path in files_of(graph)[1:]}


def digests(graph: Path, target: str) -> dict[str, str]:
    """sha256, hex, of each file of ``graph``, by the path that :func:`placed` gives it."""
    found = {}
    for place, path in placed(graph, target).items():
        with path.open("rb") as file:
            found[place] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def move(graph: Path, root: Path, target: str) -> None:
    """Move ``graph`` to ``target`` below ``root``, on the same file system and into a folder that exists."""
    for place, path in placed(graph, target).items():
        path.rename(root / place)
