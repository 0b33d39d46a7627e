"""The model of a request at Roboflow's routes: the named one, otherwise the nearest to the route's default."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tritonvision.facade.dialects.roboflow.model_choice import fallback
from tritonvision.publication import MANIFEST, Manifest, Repository

FAMILIES = {
    "sam": ("SAM", "interactive-instance-segmentation"), "clip": ("CLIP", "embedding"),
    "trocr": ("TrOCR", "text-only-ocr"), "owlv2": ("OWLv2", "open-vocabulary-object-detection"),
    "grounding-dino": ("Grounding DINO", "open-vocabulary-object-detection"), "doctr": ("DocTR", "structured-ocr"),
    "perception": ("Perception Encoder", "embedding"), "depth": ("Depth Anything V2", "depth-estimation"),
    "l2cs": ("L2CS", "gaze-detection"), "yolo-world": ("YOLO-World", "open-vocabulary-object-detection"),
}  # fmt: skip


def publish(root: Path, model: str, kind: str = "", task: str = "") -> None:
    family, does = FAMILIES[kind or next(name for name in FAMILIES if model.startswith(name))]
    manifest = Manifest(
        id=model, family=family, task=task or does, head="h", weights="random", source="seed 0", sha256="0",
        license="MIT", precision="fp32", labels=(), input_size=None, steps=(), roles=("", "text"),
    )  # fmt: skip
    folder = root / manifest.triton_name
    folder.mkdir(exist_ok=True)
    (folder / MANIFEST).write_text(manifest.to_json())


@pytest.mark.parametrize("default, published, chosen", [
    ("sam/vit_h", ["sam-vit_b", "sam-vit_l"], "sam-vit_l"), ("sam/vit_h", ["sam-vit_b"], "sam-vit_b"),
    ("sam/vit_h", ["sam-vit_b", "sam-vit_h"], "sam/vit_h"), ("sam/vit_h", [], "sam/vit_h"),
    ("sam/vit_h", ["clip/RN50"], "sam/vit_h"),
    ("clip/ViT-B-16", ["clip/RN50", "clip/ViT-L-14", "clip/ViT-B-32"], "clip/ViT-B-32"),
    ("trocr/trocr-base-printed", ["trocr-base-handwritten", "trocr-large-printed"], "trocr-large-printed"),
    ("trocr/trocr-base-printed", ["trocr-base-handwritten"], "trocr-base-handwritten"),
    ("owlv2/owlv2-large-patch14-ensemble", ["owlv2-base-patch14"], "owlv2-base-patch14"),
    ("grounding_dino/default", ["grounding-dino-base"], "grounding-dino-base"),
    ("doctr/default", ["doctr-db_mobilenet_v3"], "doctr-db_mobilenet_v3"),
    ("depth-anything-v2/small", ["depth-anything-v2-large", "depth-anything-v2-base"], "depth-anything-v2-base"),
])  # fmt: skip
def test_a_default_falls_back_to_the_nearest_published_model_of_its_family(tmp_path, default, published, chosen):
    for model in published:
        publish(tmp_path, model)
    assert fallback(Repository(tmp_path), default) == chosen


def test_a_default_falls_back_to_a_users_export_only_without_one_of_the_catalogue(tmp_path):
    publish(tmp_path, "mine/segmenter/1", "sam")
    assert fallback(Repository(tmp_path), "sam/vit_h") == "mine/segmenter/1"
    publish(tmp_path, "sam-vit_b")
    assert fallback(Repository(tmp_path), "sam/vit_h") == "sam-vit_b"


def test_a_default_does_not_fall_back_to_a_model_of_another_task(tmp_path):
    publish(tmp_path, "sam-vit_b", task="classification")
    assert fallback(Repository(tmp_path), "sam/vit_h") == "sam/vit_h"


def test_a_model_that_a_user_published_under_the_defaults_own_name_is_the_default(tmp_path):
    publish(tmp_path, "sam-vit_b"), publish(tmp_path, "sam/vit_h", "sam")
    assert fallback(Repository(tmp_path), "sam/vit_h") == "sam/vit_h"


# ---- at the routes ---------------------------------------------------------------------------------------------------

IMAGE = "image"
ROUTES = {
    "/clip/embed_image": ("clip_version_id", "ViT-B-16", {}),
    "/perception_encoder/embed_image": ("perception_encoder_version_id", "PE-Core-L14-336", {}),
    "/doctr/ocr": ("doctr_version_id", "default", {}),
    "/ocr/trocr": ("trocr_version_id", "trocr-base-printed", {}),
    "/sam/segment_image": ("sam_version_id", "vit_h", {}), "/sam/embed_image": ("sam_version_id", "vit_h", {}),
    "/gaze/gaze_detection": ("gaze_version_id", "L2CS", {}),
    "/grounding_dino/infer": ("grounding_dino_version_id", "default", {"text": ["a"]}),
    "/owlv2/infer": ("owlv2_version_id", "owlv2-large-patch14-ensemble", {"text": ["a"]}),
    "/yolo_world/infer": ("yolo_world_version_id", "l", {"text": ["a"]}),
    "/infer/depth-estimation": ("depth_version_id", "small", {}),
}
OTHERS = (
    "clip/RN50", "perception-encoder/PE-Core-B16-224", "doctr-db_mobilenet_v3", "trocr-large-printed", "sam-vit_b",
    "grounding-dino-base", "owlv2-base-patch14", "yolo-world-s", "depth-anything-v2-base",
)  # fmt: skip


@pytest.fixture
def others(tmp_path, whole_house):
    """The facade with another model of each family than the route's default, except for the gaze model."""
    import shutil

    for folder in tmp_path.iterdir():
        if folder.name != "l2cs-gaze":
            shutil.rmtree(folder)
    for model in OTHERS:
        publish(tmp_path, model)
    return whole_house


@pytest.mark.parametrize("route", ROUTES)
def test_an_application_that_names_no_version_is_answered(others, picture, route):
    field, default, more = ROUTES[route]
    body = {"image": {"type": "base64", "value": base64.b64encode(picture).decode()}, **more}
    for absent in ({}, {field: None}):
        assert others.client.post(route, json=body | absent).status_code == 200
    asked = others.client.post(route, json=body | {field: default})
    if default == "L2CS":
        assert asked.status_code == 200
    else:
        assert asked.status_code == 404 and "tritonvision export" in asked.json()["message"], "named, so not replaced"


def test_an_unpublished_family_is_a_404_that_names_the_default(house, picture):
    body = {"image": {"type": "base64", "value": base64.b64encode(picture).decode()}}
    answer = house.client.post("/sam/segment_image", json=body)
    assert answer.status_code == 404 and "tritonvision export sam-vit_h" in answer.json()["message"]
