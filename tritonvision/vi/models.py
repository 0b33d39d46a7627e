"""What Vi is told of a published model."""

from __future__ import annotations

from dataclasses import dataclass

from tritonvision.publication import Manifest
from tritonvision.vi.questions import VQA


@dataclass(frozen=True)
class ModelInfo:
    """A published model that writes.

    Attributes:
        run_id, model_name: its public id.
        architecture: its family.
        size_gb: of its networks, in memory.
        task_type: what its run was trained for; ``vqa`` of a model without a run.
        weights: ``official``, ``random`` or ``user``.
    """

    run_id: str
    model_name: str
    architecture: str
    size_gb: float
    task_type: str
    weights: str

    @classmethod
    def of(cls, manifest: Manifest) -> ModelInfo:
        """That of a manifest."""
        return cls(
            manifest.id, manifest.id, manifest.family, round(manifest.graph_bytes / 1e9, 3),
            manifest.asked_as or VQA, manifest.weights,
        )  # fmt: skip
