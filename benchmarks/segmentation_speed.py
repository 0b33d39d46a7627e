"""Throughput and latency of yolov8n-seg-640 over HTTP with 25 masks as run lengths, as ratios to the limit.

    python benchmarks/segmentation_speed.py --repository DIR     (yolov8n-seg-640 there; random weights will do)
"""

from __future__ import annotations

import limit

# Low enough for every picture to have 25 instances, also with random weights.
_ASKED = {"confidence": 0.01, "max_detections": 25}

if __name__ == "__main__":
    limit.compare(
        "yolov8n-seg-640", _ASKED | {"mask_format": "rle"},
        "/infer/instance_segmentation", _ASKED | {"response_mask_format": "rle"}, [1, 4],
    )  # fmt: skip
