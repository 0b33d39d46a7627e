"""What a model is, as far as its callers care."""

from __future__ import annotations

from dataclasses import dataclass

from tritonvision import machine
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
        precision: in which it runs on the machine that tells this; empty where it is unknown.
        precisions: in which it is published.
        grounding, grounding_pixels, asked_as, fingerprint: see :class:`tritonvision.publication.Manifest`.
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
    precision: str = ""
    precisions: tuple[str, ...] = ()
    grounding: str = ""
    grounding_pixels: tuple[int, int, int] | None = None
    asked_as: str = ""
    fingerprint: str = ""

    @classmethod
    def of(cls, manifest: Manifest) -> Facts:
        """Those of a published model."""
        runs = machine.choice(manifest).variant
        told = {name: getattr(manifest, name) for name in cls.__dataclass_fields__ if name != "precisions"}
        precisions = dict.fromkeys((manifest.precision, *(variant.precision for variant in manifest.variants)))
        return cls(**told | {"precision": runs.precision if runs else manifest.precision, "precisions": (*precisions,)})
