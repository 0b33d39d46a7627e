"""Roboflow's server on 127.0.0.1, for packages in folders of this machine; it runs in an environment of its own.

    PEER/bin/python benchmarks/peer_roboflow.py PORT
"""

# ruff: noqa: E402  (the environment is read at import)

from __future__ import annotations

import os
import sys

os.environ |= {
    "ALLOW_INFERENCE_MODELS_DIRECTLY_ACCESS_LOCAL_PACKAGES": "True", "TELEMETRY_OPT_OUT": "True",
    "METRICS_ENABLED": "False", "OFFLINE_MODE": "True", "CORE_MODELS_ENABLED": "False", "NUM_WORKERS": "1",
    "ONNXRUNTIME_EXECUTION_PROVIDERS": "[CPUExecutionProvider]", "DISABLE_WORKFLOW_ENDPOINTS": "True",
    "ALLOW_OFFLINE_MODEL_CACHE_AUTH_BYPASS": "True",
}  # fmt: skip

import torch

_nms = torch.library.Library("torchvision", "FRAGMENT")


def greedy(boxes: torch.Tensor, scores: torch.Tensor, limit: float) -> torch.Tensor:
    """``torchvision.ops.nms``: a torchvision that was built for CUDA has no operators beside a torch that was not."""
    order, kept = scores.argsort(descending=True, stable=True), []
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    while len(order):
        best, rest = order[0], order[1:]
        kept.append(best)
        corners = torch.maximum(boxes[best, :2], boxes[rest, :2]), torch.minimum(boxes[best, 2:], boxes[rest, 2:])
        shared = (corners[1] - corners[0]).clamp(min=0).prod(1)
        order = rest[shared / (areas[best] + areas[rest] - shared) <= limit]
    return torch.stack(kept) if kept else torch.zeros(0, dtype=torch.int64)


if not hasattr(torch.ops.torchvision, "nms"):
    _nms.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _nms.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _nms.impl("nms", greedy, "CPU")

import torchvision.ops.boxes

torchvision.ops.boxes._assert_has_ops = lambda: None

import uvicorn
from inference.core.interfaces.http.http_api import HttpInterface
from inference.core.managers.base import ModelManager
from inference.core.registries.roboflow import RoboflowModelRegistry
from inference.models.utils import ROBOFLOW_MODEL_TYPES

if __name__ == "__main__":
    interface = HttpInterface(ModelManager(model_registry=RoboflowModelRegistry(ROBOFLOW_MODEL_TYPES)))
    uvicorn.run(interface.app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
