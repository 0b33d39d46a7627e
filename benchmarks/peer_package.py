"""A package as Roboflow's server reads it from a folder: the network of a published id, with the same random weights.

    .venv-export/bin/python benchmarks/peer_package.py yolov8n-640 FOLDER
"""

from __future__ import annotations

import torch  # noqa: F401  # isort: skip

import json
import os
import sys
from pathlib import Path

from tritonvision import catalog
from tritonvision.exporters import registry
from tritonvision.exporters.libraries.ultralytics import load


def main(model_id: str, folder: Path) -> None:
    """Write ``weights.onnx`` as ultralytics exports it, and what describes it, into ``folder``."""
    load.prepare()
    entry = catalog.find(model_id)
    stem = model_id.rpartition("-")[0]  # yolov8n-640: its last part is the side
    side = entry.input_size[0]
    yolo = load.architecture(stem, 80, seed=0)
    registry.find(entry.family).calibrate(yolo.model, entry, seed=0)
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)  # where ultralytics writes
    Path(yolo.export(format="onnx", imgsz=side, simplify=False, verbose=False)).replace(folder / "weights.onnx")
    (folder / "class_names.txt").write_text("".join(f"class {i}\n" for i in range(80)))
    network_input = {
        "training_input_size": {"height": side, "width": side}, "dynamic_spatial_size_supported": False,
        "color_mode": "rgb", "resize_mode": "letterbox", "padding_value": 114, "input_channels": 3,
        "scaling_factor": 255,
    }  # fmt: skip
    (folder / "inference_config.json").write_text(json.dumps({
        "image_pre_processing": {"auto-orient": {"enabled": False}}, "network_input": network_input,
        "post_processing": {"type": "nms", "fused": False},
    }))  # fmt: skip
    (folder / "model_config.json").write_text(json.dumps({
        "model_architecture": "yolov8", "task_type": entry.task, "backend_type": "onnx",
        "static_batch_size": 1,
    }))  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]).absolute())
