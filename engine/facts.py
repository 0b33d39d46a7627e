"""What a model is, as far as its callers care."""

from __future__ import annotations

from dataclasses import dataclass

from tritonvision.publication import Manifest


@dataclass(frozen=True)
class Facts:
    """What a model is, as far as its callers care.

    Attributes:
        weights: ``official``, ``random`` or ``user``; empty where it is unknown.
        backend: what it is published as.
        labels: class names by class id.
        keypoint_labels: names of the key points, in order.
        map_meaning: of a depth map, see :class:`tritonvision.results.DepthMap`.
    """

    id: str
    task: str
    family: str = ""
    license: str = ""
    weights: str = ""
    backend: str = "onnx"
    labels: tuple[str, ...] = ()
    keypoint_labels: tuple[str, ...] = ()
    multi_label: bool = False
    map_meaning: str = ""

    @classmethod
    def of(cls, manifest: Manifest) -> Facts:
        """Those of a published model."""
        return cls(**{name: getattr(manifest, name) for name in cls.__dataclass_fields__})
