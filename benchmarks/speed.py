"""Throughput and latency of published models over HTTP, each variant against the limit of the same run.

    python benchmarks/speed.py --repository DIR [MODEL ...] [--variants openvino-bf16 ...] [--concurrency 1 4]

The limit is what was exported, in fp32, on ONNX Runtime, called directly. Random weights will do; variants must have
been added (``tritonvision variants add``).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import limit
import machine
import pictures
from limit import Question

from tritonvision.publication import Repository

# Low enough for every picture to have 25 instances, also with random weights.
_INSTANCES = {"confidence": 0.01, "max_detections": 25}

QUESTIONS = {
    question.model: question
    for question in (
        Question("yolov8n-640", "/infer/object_detection"),
        Question("resnet50", "/infer/classification"),
        Question("clip/ViT-B-32", "/clip/embed_image"),
        Question(
            "yolov8n-seg-640", "/infer/instance_segmentation", _INSTANCES | {"response_mask_format": "rle"},
            _INSTANCES | {"mask_format": "rle"},
        ),
        Question("rfdetr-nano", "/infer/object_detection"),
        Question("depth-anything-v2-small", "/infer/depth-estimation", {"depth_map_format": "png16"}),
    )
}  # fmt: skip


def main() -> None:
    """Print a table in Markdown for each model."""
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*", default=["yolov8n-640"])
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--variants", nargs="*", help="all that the model has, if none are named")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    mean = sum(map(len, jpegs := pictures.jpegs(32))) / len(jpegs)
    print(f"{machine.describe('openvino')}; JPEGs of 1280x720, {mean / 1000:.0f} KB")
    for model in given.models:
        manifest = Repository(given.repository).resolve(model)
        variants = given.variants or [manifest.base_variant, *(variant.name for variant in manifest.variants)]
        windows = limit.compare(
            QUESTIONS[model], given.repository, variants, given.concurrency, given.seconds, given.rounds
        )
        print(f"\n{model}\n")
        limit.report(windows)


if __name__ == "__main__":
    main()
