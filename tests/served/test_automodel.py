"""AutoModel over an embedded server, a facade and a Triton of one's own: the same model gives the same results.

The weights are random (but the face model's): what is tested is that the ways agree with each other.
"""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
import supervision as sv
from PIL import Image

from tritonvision import AutoModel, results
from tritonvision.client.automodel import model as automodel
from tritonvision.errors import UnknownModel

TREE = Path(__file__).parents[2]
PHOTO = TREE / "tritonvision" / "data" / "astronaut.png"
FACE = "mediapipe-face-detection"


@pytest.fixture(scope="module", autouse=True)
def local(served_repository, few_models):
    """AutoModel's own server over the models of the tests, gone with the module."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"TRITONVISION_REPOSITORY": str(served_repository), **few_models}.items():
            patch.setenv(name, value)
        patch.delenv("TRITONVISION_SERVER", raising=False)
        yield
    AutoModel.close()


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """The photograph as OpenCV reads it."""
    return cv2.imread(str(PHOTO))


@pytest.fixture(scope="module")
def triton(local) -> str:
    """The address of AutoModel's own Triton: somebody else's, to whoever has its address alone."""
    AutoModel.from_pretrained(FACE)
    return automodel._SERVERS._embedded.address


@pytest.fixture(scope="module")
def http_url(serve_with, triton):
    """A facade before that Triton: no model is loaded twice."""
    with serve_with("--triton-url", triton) as url:
        yield url


@pytest.fixture(scope="module")
def three_ways(http_url, triton):
    """``three_ways(id)``: the model in our own server, behind HTTP, and in a Triton by its address."""

    def make(model_id: str) -> list[AutoModel]:
        own = AutoModel.from_pretrained(model_id)
        return [own, *(AutoModel.from_pretrained(model_id, server=at) for at in (http_url, f"grpc://{triton}"))]

    return make


def boxes_agree(one: results.Detections, other: results.Detections) -> None:
    assert type(one) is type(other) and one.xyxy.dtype == other.xyxy.dtype == np.float32
    np.testing.assert_array_equal(one.class_id, other.class_id)
    np.testing.assert_allclose(one.confidence, other.confidence, atol=1e-6)
    np.testing.assert_allclose(one.xyxy, other.xyxy, atol=1e-3)
    assert one.image_metadata["height"] == other.image_metadata["height"]


# ---- one test a kind -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model_id", ["yolov8n-640", "rfdetr-nano"])
def test_boxes_are_the_same_three_ways(three_ways, image, model_id):
    models = three_ways(model_id)
    first, *others = (model([image, image[:300]], confidence=0.3) for model in models)
    assert len(first) == 2 and len(first[0]) > 3
    for other in others:
        boxes_agree(first[0], other[0])
        boxes_agree(first[1], other[1])
    assert len({tuple(model.class_names) for model in models}) == 1 and len(models[0].class_names) == 80


def test_settings_mean_the_same_three_ways(three_ways, image):
    models = three_ways("yolov8n-640")
    name = models[0].class_names[int(models[0](image)[0].class_id[0])]
    given = {"iou_thresh": 0.2, "conf_thresh": 0.35, "max_detections": 7, "class_agnostic_nms": True}
    for setting in (given, {"class_filter": [name]}, {"classes": [name], "confidence": np.float32(0.2)}):
        first, *others = (model(image, **setting)[0] for model in models)
        assert len(first) > 0
        for other in others:
            boxes_agree(first, other)


def test_masks_are_the_same_three_ways(three_ways, image):
    first, *others = (model(image)[0] for model in three_ways("yolov8n-seg-640"))
    assert len(first) > 3 and isinstance(first, results.InstanceDetections)
    for other in others:
        boxes_agree(first, other)
        np.testing.assert_array_equal(first.mask.to_dense(), other.mask.to_dense())
    outlines = [model(image, mask_format="polygon")[0] for model in three_ways("yolov8n-seg-640")]
    for other in outlines:
        assert other.mask is None
        for a, b in zip(outlines[0].polygons, other.polygons, strict=True):
            np.testing.assert_array_equal(a, b)
    bare = [model(image, mask_format="none")[0] for model in three_ways("yolov8n-seg-640")]
    assert all(found.mask is None and found.polygons is None and len(found) == len(first) for found in bare)


def test_key_points_are_the_same_three_ways(three_ways, image):
    models = three_ways(FACE)
    blank = np.zeros_like(image)
    first, *others = (model([image, blank]) for model in models)
    points, faces = first
    assert points[0].xy.shape == (1, 6, 2) and points[1].xy.shape == (0, 6, 2) and len(faces[1]) == 0
    for other in others:
        boxes_agree(faces[0], other[1][0])
        np.testing.assert_allclose(points[0].xy, other[0][0].xy, atol=1e-3)
        assert other[0][1].xy.shape == (0, 6, 2)
    assert [model.key_points_classes[0][0] for model in models] == ["right-eye"] * 3


def test_one_classification_holds_all_pictures_three_ways(three_ways, image):
    first, *others = (model([image, image[::2, ::2]]) for model in three_ways("resnet18"))
    assert isinstance(first, results.ClassificationPrediction) and first.confidence.shape == (2, 1000)
    for other in others:
        np.testing.assert_array_equal(first.class_id, other.class_id)
        np.testing.assert_allclose(first.confidence, other.confidence, atol=6e-5)  # the route rounds to four digits


def test_vectors_are_the_same_three_ways(three_ways, image):
    models = three_ways("clip/RN50")
    two = [image, image[::-1]]
    first, *others = (model.embed_images(two) for model in models)
    assert first.shape == (2, 1024) and models[0].embed_image(image).shape == (1, 1024)
    texts = [f"a photo of {i} cats" for i in range(10)]  # more than a request of the route takes
    for model, found in zip(models[1:], others, strict=True):
        np.testing.assert_allclose(found, first, atol=1e-5)
        np.testing.assert_allclose(model.embed_text(texts), models[0].embed_text(texts), atol=1e-5)
    cosines = models[0].compare(two, texts)
    assert cosines.shape == (2, 10) and np.abs(cosines).max() <= 1
    np.testing.assert_allclose(models[0].compare(image, image, y_type="image"), [[1]], atol=1e-5)


@pytest.mark.parametrize(("name", "length"), [("resnet18", 512), ("clip/RN50", 1024)])
def test_features_are_the_same_three_ways(three_ways, image, name, length):
    models = three_ways(name)
    two = [image, image[::-1]]
    first, *others = (model.features(two) for model in models)
    assert first.shape == (2, length) and first.dtype == np.float32 and np.ptp(first - first[::-1]) > 1e-3
    for other in others:
        np.testing.assert_allclose(other, first, atol=1e-5)
    unit = models[0].features(two, normalize=True)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-5)


def test_depth_is_the_same_three_ways(three_ways, image):
    first, *others = (model(image[:96, :128]) for model in three_ways("depth-anything-v2-small"))
    assert [depth.shape for depth in first] == [(96, 128)] and first[0].dtype == np.float32
    for (other,) in others:
        np.testing.assert_allclose(other, first[0], atol=6e-5)  # the route rounds to four digits


def test_what_is_pointed_at_is_the_same_three_ways(three_ways):
    models = three_ways("sam-vit_b")
    first, *others = (model.segment(PHOTO, points=[[220, 140]])[0] for model in models)
    assert first.masks.to_dense().shape == (3, 512, 512) and first.logits.shape == (3, 256, 256)
    for other in others:
        np.testing.assert_array_equal(first.masks.to_dense(), other.masks.to_dense())
        np.testing.assert_allclose(first.scores, other.scores, atol=1e-6)
    outlined = [model.segment(PHOTO, box=[100, 50, 300, 400], mask_format="polygon")[0] for model in models]
    for other in outlined:
        assert other.masks is None and len(other.polygons) == 3
        for a, b in zip(outlined[0].polygons, other.polygons, strict=True):
            np.testing.assert_array_equal(a, b)
    boxes = np.array([[100, 50, 300, 400], [10, 10, 200, 200]])
    found = models[0](PHOTO, boxes=boxes, multimask=False)  # the picture is encoded already
    assert [prediction.masks.to_dense().shape for prediction in found] == [(1, 512, 512)] * 2


def test_every_object_is_the_same_three_ways(three_ways):
    grid = {"points_per_side": 2, "points_per_batch": 2, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
    steps: list = []
    first, *others = (
        model.generate_masks(PHOTO, progress=lambda done, total: steps.append((done, total)), **grid)[0]
        for model in three_ways("sam-vit_b")
    )
    assert len(first.scores) > 0 and steps == [(0, 4), (2, 4), (4, 4)] * 3
    for other in others:
        np.testing.assert_array_equal(first.masks.to_dense(), other.masks.to_dense())
        np.testing.assert_allclose(first.scores, other.scores, atol=1e-6)


def test_gazes_are_the_same_three_ways(three_ways, image):
    first, *others = (model(image) for model in three_ways("l2cs-gaze"))
    points, faces, gazes = first
    assert len(faces[0]) == 1 and gazes[0].yaw.shape == (1,)
    for other in others:
        boxes_agree(faces[0], other[1][0])
        np.testing.assert_allclose(gazes[0].yaw, other[2][0].yaw, atol=1e-6)
        np.testing.assert_allclose(points[0].xy, other[0][0].xy, atol=1e-3)


@pytest.mark.parametrize("model_id", ["tests/small-owl/1", "tests/small-dino/1", "tests/small-world/1"])
def test_words_find_the_same_three_ways(three_ways, image, model_id):
    texts = ["a helmet", "a flag"]
    first, *others = (model(image, texts, confidence=0.05)[0] for model in three_ways(model_id))
    assert len(first) > 0 and set(first.class_id) <= {0, 1, 2}
    for other in others:
        boxes_agree(first, other)


def test_pages_are_read_the_same_three_ways(three_ways, image):
    first, *others = (model(image) for model in three_ways("doctr-db_mobilenet_v3"))
    texts, regions = first
    assert len(texts) == len(regions) == 1 and isinstance(texts[0], str)
    for other in others:
        assert other[0] == texts
        np.testing.assert_allclose(other[1][0].xyxy, regions[0].xyxy, atol=1e-3)
        assert other[1][0].bboxes_metadata == regions[0].bboxes_metadata


def test_lines_are_read_the_same_three_ways(three_ways, image):
    first, *others = (model(image[:40], max_new_tokens=8) for model in three_ways("tests/small-line/1"))
    assert len(first) == 1 and isinstance(first[0], str)
    assert others == [first, first]


def test_a_chat_model_gives_the_same_text_over_three_routes_and_streamed(three_ways, image):
    models = three_ways("tests/small-vlm/1")
    first, *others = (model.prompt([image], "What is this?", max_new_tokens=6) for model in models)
    assert len(first) == 1 and first[0] and others == [first, first]
    for model in models:
        pieces = model.prompt(image, "What is this?", max_new_tokens=6, stream=True)
        assert "".join(pieces) == first[0]
    drawn = [model(image, prompt="Who?", temperature=0.7, seed=5, max_new_tokens=6, top_k=50) for model in models]
    assert drawn[0] == drawn[1] == drawn[2]


def test_a_stream_that_is_closed_early_ends(image):
    pieces = AutoModel.from_pretrained("tests/small-vlm/1").prompt(image, "What?", max_new_tokens=400, stream=True)
    assert next(pieces)
    pieces.close()


# ---- pictures of every kind ------------------------------------------------------------------------------------------


def test_every_kind_of_picture_is_the_same_picture(http_url, image):
    stream = io.BytesIO()
    Image.open(PHOTO).save(stream, "PNG")
    kinds = [image, Image.open(PHOTO), str(PHOTO), PHOTO, stream.getvalue()]
    for server in (None, http_url):
        model = AutoModel.from_pretrained(FACE, server=server)
        _, faces = model(kinds)
        _, (flipped,) = model(np.ascontiguousarray(image[..., ::-1]), input_color_format="rgb")
        for found in [*faces, flipped]:
            boxes_agree(faces[0], found)


def test_a_result_is_drawn_by_supervision(image):
    for model_id in ("yolov8n-640", "yolov8n-seg-640"):
        predictions = AutoModel.from_pretrained(model_id)(image)
        found = predictions[0].to_supervision()
        annotated = sv.BoxAnnotator().annotate(image.copy(), found)
        assert annotated.shape == image.shape and (annotated != image).any()
        assert found.xyxy.dtype == np.float32 and len(found) == len(predictions[0])
    assert found.mask.shape == (len(found), 512, 512)


# ---- what is told before anything is asked ---------------------------------------------------------------------------


def test_what_is_published_is_listed_and_described(capsys):
    listed = {entry.id: entry for entry in AutoModel.list_models()}
    assert len(listed) > 153 and listed[FACE].weights == "official" and listed[FACE].backend == "onnx"
    assert not listed["rfdetr-base"].published and "tests/small-vlm/1" in listed
    assert {e.id for e in AutoModel.list_models(published_only=True)} == {i for i, e in listed.items() if e.published}
    described = AutoModel.describe("coco/3")
    assert described.id == "yolov8n-640" and described.input_size == (640, 640) and len(described.class_names) == 80
    assert "YOLOv8" in capsys.readouterr().out


@pytest.mark.parametrize("server", ["http", "embedded"])
def test_a_name_that_nobody_has_is_unknown(server, http_url):
    with pytest.raises(UnknownModel):
        AutoModel.from_pretrained("my/nobody/1", server=http_url if server == "http" else None)
