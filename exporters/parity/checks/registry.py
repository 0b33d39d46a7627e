"""Which parity check compares the answers of an output schema."""

from __future__ import annotations

from tritonvision.exporters.parity.checks.base import ParityCheck
from tritonvision.exporters.parity.checks.boxes import Boxes
from tritonvision.exporters.parity.checks.chat import Chat
from tritonvision.exporters.parity.checks.classes import Classes
from tritonvision.exporters.parity.checks.depth import Map
from tritonvision.exporters.parity.checks.embeddings import Embeddings
from tritonvision.exporters.parity.checks.gaze import Gaze
from tritonvision.exporters.parity.checks.line import LineText
from tritonvision.exporters.parity.checks.masks import Masks
from tritonvision.exporters.parity.checks.open_vocabulary import OpenVocabulary
from tritonvision.exporters.parity.checks.page import PageText
from tritonvision.exporters.parity.checks.prompts import Prompts
from tritonvision.exporters.parity.checks.tracking import Tracking

CHECKS: dict[str, type[ParityCheck]] = {
    "dense-boxes": Boxes, "keypoints": Boxes, "query-boxes": Boxes, "prototype-masks": Masks, "classes": Classes,
    "embeddings": Embeddings, "dense-map": Map, "promptable-masks": Prompts, "gaze": Gaze,
    "line-text": LineText, "chat": Chat, "phrase-grounding": OpenVocabulary, "open-vocabulary": OpenVocabulary,
    "text-guided-boxes": OpenVocabulary, "page-text": PageText, "tracked-masks": Tracking,
}  # fmt: skip
