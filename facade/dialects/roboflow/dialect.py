"""The dialect of Roboflow Inference."""

from __future__ import annotations

from tritonvision.facade.dialects.base import Dialect
from tritonvision.facade.dialects.roboflow import answer_types, errors, openapi
from tritonvision.facade.dialects.roboflow.routes import (
    clip,
    depth,
    embeddings,
    gaze,
    legacy,
    lmm,
    masks,
    models,
    ocr,
    open_vocabulary,
    perception_encoder,
    sam,
    sam2,
    tasks,
)

ROBOFLOW = Dialect(
    "roboflow", (),
    tuple(
        module.router
        for module in (
            tasks, masks, embeddings, models, clip, perception_encoder, depth, sam, sam2, gaze, lmm, ocr,
            open_vocabulary,
        )
    ),
    errors, answer_types.RoboflowError, openapi.OPERATIONS,
    reserved=(
        "infer", "model", "clip", "perception_encoder", "sam", "sam2", "sam3", "grounding_dino", "yolo_world", "owlv2",
        "doctr", "easy_ocr", "ocr", "gaze", "workflows", "start", "v2", "api",
    ),
    last=legacy.router,
)  # fmt: skip
