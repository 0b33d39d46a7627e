"""Throughput and latency of yolov8n-640 over HTTP, as ratios to the limit of the same run.

    python benchmarks/detection_speed.py --repository DIR     (yolov8n-640 published there; random weights will do)
"""

from __future__ import annotations

import limit

if __name__ == "__main__":
    limit.compare("yolov8n-640", {}, "/infer/object_detection", {}, [1, 2, 4, 16])
