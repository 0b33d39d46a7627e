"""Whose a path is, decided here and nowhere else.

Three dialects share one address, and Roboflow's legacy route ``/{project}/{version}`` would take every path of two
segments. So the first segment decides: those below are no project, whatever follows and whatever the method; what is
not a route under one of them is a 404 in its owner's words. The legacy route comes last.
"""

from __future__ import annotations

# First segments with an owner other than Roboflow, by the owner's name.
_OWNERS = {"v1": "openai", "models": "huggingface", "pipeline": "huggingface", "predict": "huggingface"}
# First segments that are no project.
RESERVED = (
    *_OWNERS, "infer", "model", "clip", "perception_encoder", "sam", "sam2", "sam3", "grounding_dino", "yolo_world",
    "owlv2", "doctr", "easy_ocr", "ocr", "gaze", "workflows", "static", "docs", "start", "v2", "api",
)  # fmt: skip


def owner_of(path: str) -> str:
    """The name of the dialect whose clients call ``path``: ``roboflow``, ``huggingface`` or ``openai``."""
    return _OWNERS.get(path.removeprefix("/").partition("/")[0], "roboflow")
