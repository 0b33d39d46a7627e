"""Which measure compares the answers of an output schema."""

from __future__ import annotations

from tritonvision.exporters.precision.measures.base import Measure
from tritonvision.exporters.precision.measures.boxes import Boxes, Masks
from tritonvision.exporters.precision.measures.classes import Classes
from tritonvision.exporters.precision.measures.places import Gaze, Prompts, Tracking
from tritonvision.exporters.precision.measures.texts import Chat, LineText, PageText
from tritonvision.exporters.precision.measures.vectors import Embeddings, Map

MEASURES: dict[str, type[Measure]] = {
    "dense-boxes": Boxes, "keypoints": Boxes, "query-boxes": Boxes, "prototype-masks": Masks, "classes": Classes,
    "embeddings": Embeddings, "dense-map": Map, "promptable-masks": Prompts, "gaze": Gaze,
    "line-text": LineText, "chat": Chat, "phrase-grounding": Boxes, "open-vocabulary": Boxes,
    "text-guided-boxes": Boxes, "page-text": PageText, "tracked-masks": Tracking,
}  # fmt: skip
