"""The caller's options for a bare ONNX file: facts that the file does not contain."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FileOptions:
    """None for facts that are taken from the file.

    Attributes:
        labels: class names, in the order of the class ids.
        task: ``object-detection``, ``instance-segmentation``, ``classification`` or ``multi-label-classification``.
        size: (height, width) of the network's pictures, for a graph with dynamic sizes.
        resize: ``stretch``, ``letterbox``, ``center-crop`` or ``crop-PERCENT-FILTER``.
        normalize: ``0-1``, ``0-255``, ``-1-1``, ``imagenet``, or means and deviations ``M,M,M/S,S,S``.
        colors: ``rgb`` or ``bgr``.
    """

    labels: tuple[str, ...] | None = None
    task: str | None = None
    size: tuple[int, int] | None = None
    resize: str | None = None
    normalize: str | None = None
    colors: str | None = None
