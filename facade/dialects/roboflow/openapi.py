"""Roboflow's routes described: what they answer, with examples, and bodies that work."""

from __future__ import annotations

from typing import Any

from tritonvision.facade.dialects.operations import ASKS, BINARY, PICTURE, READS_BODY, Operation
from tritonvision.facade.dialects.roboflow.answer_types import (
    Classified,
    Compared,
    Depth,
    Detected,
    Embedded,
    Features,
    Gazes,
    LoadedModels,
    ManyLabels,
    Named,
    Posed,
    Read,
    Sam2Embedded,
    Sam2Segmented,
    SamEmbedded,
    SamSegmented,
    Segmented,
    Started,
    Written,
)
from tritonvision.facade.dialects.roboflow.routes.tasks import NOT_YET

# ---- examples --------------------------------------------------------------------------------------------------------

_ID = "5b0c9a0e-0000-4000-8000-000000000000"
_IMAGE = {"type": "base64", "value": PICTURE}
_SIZE = {"width": 48, "height": 36}
_BOXED = {
    "x": 24.0, "y": 18.0, "width": 21.0, "height": 21.0, "confidence": 0.91, "class": "sports ball", "class_id": 32,
    "detection_id": _ID,
}  # fmt: skip
_TOLD = {"inference_id": _ID, "time": 0.031}
_NOTHING = {"inference_id": None, "frame_id": None, "parent_id": None}
_LISTED: dict[str, Any] = {
    "models": [{
        "model_id": "coco/3", "task_type": "object-detection", "batch_size": None, "input_height": 640,
        "input_width": 640, "vram_bytes": None, "request_aliases": [], "request_paths": [], "weights": "official",
        "memory_bytes": 55000000, "last_used": 1750000000.0, "variant": "openvino-bf16", "variant_note": "",
    }],
    "total_vram_bytes": None, "memory_bytes": 55000000, "memory_budget_bytes": None, "max_loaded": None, "evicted": 0,
    "refused": [],
}  # fmt: skip


def _image(model: str | None = None, **more: Any) -> dict[str, Any]:
    return ({"model_id": model} if model else {}) | {"image": _IMAGE} | more


def _boxes(model: str, **more: Any) -> dict[str, Any]:
    return {
        "one picture": _image(model, confidence=0.4, **more),
        "several pictures": {"model_id": model, "image": [_IMAGE, _IMAGE], **more},
        "drawn": _image(model, visualize_predictions=True, visualization_labels=True, **more),
    }


_REFUSES = (*ASKS, *READS_BODY)
_LISTS = (502, 504)  # unloading asks the inference server
_INSTANCES = Operation(
    "Boxes with masks", Segmented | list[Segmented],
    _TOLD | {"image": _SIZE, "predictions": [_BOXED | {
        "mask_format": "polygon", "points": [{"x": 14.0, "y": 18.0}, {"x": 24.0, "y": 8.0}, {"x": 34.0, "y": 18.0}],
    }]},
    _boxes("yolov8n-seg-640") | {"run lengths": _image("yolov8n-seg-640", response_mask_format="rle")}, _REFUSES,
)  # fmt: skip
_DEPTHS = {
    "numbers": _image("depth-anything-v2-small"),
    "16 bits": _image("depth-anything-v2-small", depth_map_format="png16"),
}
_DEPTH = Operation(
    "How near each pixel is", Depth,
    _TOLD | {
        "normalized_depth": [[0.0, 0.25], [0.5, 1.0]], "depth_map_format": "json", "image": "/9j/4AAQSkZJRg==",
        "frame_id": None, "resolved_model": None,
    },
    _DEPTHS, _REFUSES,
)  # fmt: skip
_LMM = Operation(
    "What a model writes about a picture", Written | Detected,
    _TOLD | {"image": _SIZE, "response": "A yellow disc on a blue ground."},
    {"a question": _image("smolvlm-256m", prompt="What is this?", max_new_tokens=16)}, _REFUSES,
)  # fmt: skip
_LEGACY = Operation(
    "One picture, whatever the model does",
    Detected | Segmented | Posed | Classified | ManyLabels, _TOLD | {"image": _SIZE, "predictions": [_BOXED]},
    statuses=_REFUSES, media={"image/jpeg": BINARY},
)  # fmt: skip
_LEGACY_WAYS: dict[str, Any] = {
    "text/plain": {"schema": {"type": "string", "description": "The picture in base64."}, "example": PICTURE},
    "application/json": {
        "schema": {"type": "string", "description": "The same: clients call it JSON, and it is not quoted."},
    },
    "application/octet-stream": {
        "schema": {"type": "string", "format": "binary", "description": "A pickled array, with image_type=numpy."},
    },
    "multipart/form-data": {"schema": {
        "type": "object", "required": ["file"], "properties": {"file": {"type": "string", "format": "binary"}},
    }},
}  # fmt: skip



def _towers(core: str) -> dict[tuple[str, str], Operation]:
    """The three routes of models of two encoders."""
    vectors = _NOTHING | {"embeddings": [[0.12, -0.4]], "time": 0.02}
    return {
        ("post", f"/{core}/embed_image"): Operation(
            "Vectors of pictures", Embedded, vectors,
            {"one picture": _image(), "several pictures": {"image": [_IMAGE, _IMAGE]}}, _REFUSES,
        ),
        ("post", f"/{core}/embed_text"): Operation(
            "Vectors of texts", Embedded, vectors,
            {"one text": {"text": "a ball"}, "several texts": {"text": ["a ball", "the sun"]}}, _REFUSES,
        ),
        ("post", f"/{core}/compare"): Operation(
            "How alike a picture or a text is to others", Compared,
            _NOTHING | {"similarity": [0.27, 0.21], "time": 0.03},
            {
                "a picture and texts": {"subject": _IMAGE, "prompt": ["a ball", "the sun"]},
                "by name": {"subject": _IMAGE, "prompt": {"round": "a ball", "bright": "the sun"}},
                "two pictures": {"subject": _IMAGE, "prompt": _IMAGE, "prompt_type": "image"},
            }, _REFUSES,
        ),
    }  # fmt: skip


OPERATIONS: dict[tuple[str, str], Operation] = {
    ("get", "/model/registry"): Operation("The loaded models", LoadedModels, _LISTED),
    ("post", "/model/add"): Operation(
        "Load a model", LoadedModels, _LISTED, {"a model": {"model_id": "yolov8n-640"}}, _REFUSES
    ),
    ("post", "/model/remove"): Operation(
        "Unload a model", LoadedModels, _LISTED, {"a model": {"model_id": "yolov8n-640"}}, (*_LISTS, *READS_BODY)
    ),
    ("post", "/model/clear"): Operation("Unload all models", LoadedModels, _LISTED, statuses=_LISTS),
    ("get", "/start/{project}/{version}"): Operation(
        "Load a model before its first picture", Started, {"status": 200, "message": "coco/3 is loaded."},
        statuses=ASKS,
    ),
    ("get", "/clear_cache"): Operation("Unload all models", str, "Cache cleared.", statuses=_LISTS),
    ("post", "/infer/object_detection"): Operation(
        "Boxes with names", Detected | list[Detected], _TOLD | {"image": _SIZE, "predictions": [_BOXED]},
        _boxes("yolov8n-640"), _REFUSES,
    ),
    ("post", "/infer/keypoints_detection"): Operation(
        "Boxes with named points", Posed | list[Posed],
        _TOLD | {"image": _SIZE, "predictions": [_BOXED | {"keypoints": [
            {"x": 20.0, "y": 14.0, "confidence": 1.0, "class": "right-eye", "class_id": 0},
        ]}]},
        _boxes("mediapipe-face-detection"), _REFUSES,
    ),
    ("post", "/infer/classification"): Operation(
        "Classes of the whole picture", Classified | ManyLabels | list[Classified | ManyLabels],
        _TOLD | {
            "image": _SIZE, "predictions": [{"class": "ball", "class_id": 3, "confidence": 0.8731}], "top": "ball",
            "confidence": 0.8731,
        },
        _boxes("resnet18") | {
            "regions": _image("resnet18", confidence=0, regions=[{"x": 24, "y": 18, "width": 21, "height": 21}]),
        }, _REFUSES,
    ),
    ("post", "/infer/instance_segmentation"): _INSTANCES,
    ("post", "/infer/segmentation"): _INSTANCES,
    ("post", "/infer/depth-estimation"): _DEPTH,
    ("post", "/infer/depth-estimation/{model_id}"): _DEPTH,
    ("post", "/infer/lmm"): _LMM,
    ("post", "/infer/lmm/{model_id}"): _LMM,
    **_towers("clip"),
    **_towers("perception_encoder"),
    ("post", "/infer/embeddings"): Operation(
        "A vector of each picture, by any classifier or embedder", Features,
        {
            "embeddings": [[0.12, -0.4]], "time": 0.02, "inference_id": None,
            "embedding_info": {
                "model_id": "resnet18", "feature_definition": "input of the last layer",
                "output_type": "feature_vector", "dimension": 2, "normalization": "none", "preprocessing": {},
                "space_id": "0" * 64, "backend": "onnx", "precision": "fp32",
            },
        },
        {
            "one picture": _image("resnet18"), "several pictures": {"model_id": "resnet18", "image": [_IMAGE, _IMAGE]},
            "logits": _image("resnet18", output_type="logits"),
        }, _REFUSES,
    ),
    ("post", "/doctr/ocr"): Operation(
        "The text of pages", Read | list[Read], _TOLD | {"result": "A page", "parent_id": None},
        {"one page": _image(), "with boxes": _image(generate_bounding_boxes=True)}, _REFUSES,
    ),
    ("post", "/easy_ocr/ocr"): Operation(
        "The text of pages and its regions", Read | list[Read], _TOLD | {"result": "A page", "parent_id": None},
        {"one page": _image(), "a language": _image(easy_ocr_version_id="english_g2", language_codes=["en"])}, _REFUSES,
    ),
    ("post", "/ocr/trocr"): Operation(
        "The text of a line", Read, _TOLD | {"result": "A line", "parent_id": None}, {"one line": _image()}, _REFUSES
    ),
    ("post", "/sam/embed_image"): Operation(
        "The encoding of a picture", SamEmbedded, {"embeddings": [[[[0.1, 0.2]]]], "time": 0.4},
        {"an array": _image(format="binary"), "kept for prompts": _image(image_id="disc", format="binary")}, _REFUSES,
        {"application/octet-stream": BINARY},
    ),
    ("post", "/sam/segment_image"): Operation(
        "The mask of what is at a point, or in a box", SamSegmented,
        {
            "masks": [[[14, 18], [24, 8], [34, 18]]], "low_res_masks": [[[74, 96], [128, 42], [181, 96]]],
            "scores": [0.97], "time": 0.1,
        },
        {
            "a point": _image(point_coords=[[24, 18]], point_labels=[1]),
            "a box, three proposals": _image(box=[14, 8, 34, 28], multimask_output=True),
            "as arrays": _image(point_coords=[[24, 18]], point_labels=[1], format="binary"),
        }, _REFUSES, {"application/octet-stream": BINARY},
    ),
    ("post", "/sam2/embed_image"): Operation(
        "Keep a picture for prompts", Sam2Embedded, {"image_id": "disc", "time": 0.4},
        {"a picture": _image(), "under an id": _image(image_id="disc")}, _REFUSES,
    ),
    ("post", "/sam2/segment_image"): Operation(
        "The masks of what prompts mean", Sam2Segmented,
        {
            "time": 0.1,
            "predictions": [{"masks": [[[14, 18], [24, 8], [34, 18]]], "confidence": 0.97, "format": "polygon"}],
        },
        {
            "a point": _image(prompts=[{"points": [{"x": 24, "y": 18, "positive": True}]}]),
            "a box, run lengths": _image(
                prompts=[{"box": {"x": 24, "y": 18, "width": 20, "height": 20}}], format="rle"
            ),
            "as arrays": _image(prompts=[{"points": [{"x": 24, "y": 18}]}], format="binary"),
        }, _REFUSES, {"application/octet-stream": BINARY},
    ),
    ("post", "/gaze/gaze_detection"): Operation(
        "Faces and where they look", list[Gazes],
        [{
            "predictions": [{
                "face": {
                    "x": 24.0, "y": 18.0, "width": 20.0, "height": 20.0, "confidence": 0.9, "class": "face",
                    "class_id": 0, "landmarks": [{"x": 20.0, "y": 14.0}],
                },
                "yaw": 0.1, "pitch": -0.2,
            }],
            "time": 0.05, "time_face_det": 0.01, "time_gaze_det": 0.04,
        }],
        {"faces": _image(), "the picture is a face": _image(do_run_face_detection=False)}, _REFUSES,
    ),
    ("post", "/grounding_dino/infer"): Operation(
        "Boxes of what texts name", Named | list[Named],
        _TOLD | {"image": _SIZE, "predictions": [_BOXED], "frame_id": None, "resolved_model": None},
        {"two classes": _image(text=["a ball", "the sun"], box_threshold=0.3, text_threshold=0.25)}, _REFUSES,
    ),
    ("post", "/owlv2/infer"): Operation(
        "Boxes of what looks like examples, or of what texts name", Named | list[Named],
        _TOLD | {"image": _SIZE, "predictions": [_BOXED], "frame_id": None, "resolved_model": None},
        {
            "texts": _image(text=["a ball", "the sun"]),
            "an example": _image(training_data=[
                {"image": _IMAGE, "boxes": [{"x": 24, "y": 18, "w": 21, "h": 21, "cls": "ball"}]},
            ]),
        }, _REFUSES,
    ),
    ("post", "/yolo_world/infer"): Operation(
        "Boxes of what texts name", Detected | list[Detected],
        _TOLD | {"image": _SIZE, "predictions": [_BOXED]},
        {"two classes": _image(text=["a ball", "the sun"], confidence=0.1)}, _REFUSES,
    ),
    ("get", "/{project}/{version}"): _LEGACY,
    ("post", "/{project}/{version}"): Operation(
        _LEGACY.summary, _LEGACY.answer, _LEGACY.example, statuses=_REFUSES, media=_LEGACY.media, ways=_LEGACY_WAYS
    ),
    **{("post", path): Operation("Not answered yet", statuses=(501,)) for path in NOT_YET},
}  # fmt: skip
