"""Manifests of models that the tests of the facade ask: one a task, and a repository that holds them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tritonvision.publication import MANIFEST, Manifest

FACE, DETECTOR, CLASSIFIER, MANY_LABELS, SEGMENTER = (
    "mediapipe-face-detection", "yolov8n-640", "resnet18", "mine/weather/1", "yolov8n-seg-640",
)  # fmt: skip
WRITER, PAGES, LINES, PHRASES, EXAMPLES, NAMED = (
    "smolvlm-256m", "doctr-db_resnet50", "trocr-base-printed", "grounding-dino-tiny", "owlv2-large-patch14",
    "yolo-world-l",
)
REGIONS = "easyocr-en"  # fmt: skip
TOWERS = "clip/ViT-B-32"
SIZE = (40, 30)  # width, height
POINTS = ("right-eye", "left-eye")


def manifest_of(model: str, task: str, **more: Any) -> Manifest:
    return Manifest(**{
        "id": model, "family": "f", "task": task, "head": "h", "weights": "random", "source": "seed 0", "sha256": "0",
        "license": "Apache-2.0", "precision": "fp32", "labels": ("cat", "dog", "fox"), "input_size": (480, 640),
        "steps": (), **more,
    })  # fmt: skip


MANIFESTS = (
    manifest_of(DETECTOR, "object-detection"),
    manifest_of(FACE, "keypoint-detection", labels=("face",), keypoint_labels=POINTS, input_size=(128, 128)),
    manifest_of(CLASSIFIER, "classification", input_size=(224, 224), roles=("", "features")),
    manifest_of(MANY_LABELS, "classification", labels=("sunny", "windy"), multi_label=True),
    manifest_of(SEGMENTER, "instance-segmentation"),
    manifest_of(WRITER, "vlm", labels=()),
    manifest_of(PAGES, "structured-ocr", labels=("block", "line", "word")),
    manifest_of(REGIONS, "structured-ocr", labels=("block", "line", "word"), family="EasyOCR"),
    manifest_of(LINES, "text-only-ocr", labels=()),
    manifest_of(PHRASES, "open-vocabulary-object-detection", labels=()),
    manifest_of(EXAMPLES, "open-vocabulary-object-detection", labels=()),
    manifest_of(NAMED, "open-vocabulary-object-detection", labels=()),
    manifest_of(TOWERS, "embedding", labels=(), roles=("", "text")),
)

# Not among them, since a request without a model means the only one that writes.
FLORENCE = manifest_of("florence-2-base", "vlm", labels=(), family="Florence-2", grounding="florence")

OTHERS = (
    manifest_of("depth-anything-v2-small", "depth-estimation", labels=(), map_meaning="inverse-depth"),
    manifest_of("sam-vit_b", "interactive-instance-segmentation", labels=(), family="SAM"),
    manifest_of("sam2-tiny", "interactive-instance-segmentation", labels=(), family="SAM2"),
    manifest_of("l2cs-gaze", "gaze-detection", labels=("face",)),
    manifest_of("clip/RN50", "embedding", labels=(), roles=("", "text"), family="CLIP"),
    manifest_of(
        "perception-encoder/PE-Core-B16-224", "embedding", labels=(), roles=("", "text"), family="Perception Encoder"
    ),
)


def publish(root: Path, manifests: Sequence[Manifest]) -> None:
    """Write a repository: a folder a model, with its manifest and nothing to load."""
    for manifest in manifests:
        folder = root / manifest.triton_name
        folder.mkdir(parents=True)
        (folder / MANIFEST).write_text(manifest.to_json())
