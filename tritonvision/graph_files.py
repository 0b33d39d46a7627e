"""The files of a graph: an ONNX file, or that file and ``<name>.data`` beside it with its weights.

An ONNX file itself holds 2 GB at most; ONNX calls weights in another file external data. The graph names that file, so
both keep their names wherever they are moved.
"""

from __future__ import annotations

from pathlib import Path


def data_file(graph: Path) -> Path:
    """The file of the weights of ``graph`` when they are external data; who writes external data uses this name."""
    return graph.with_name(f"{graph.name}.data")


def files_of(graph: Path) -> tuple[Path, ...]:
    """The files of ``graph``: itself first, then its external data if there is any."""
    data = data_file(graph)
    return (graph, data) if data.is_file() else (graph,)


def size(graph: Path) -> int:
    """Bytes of the graph and its weights."""
    return sum(path.stat().st_size for path in files_of(graph))
