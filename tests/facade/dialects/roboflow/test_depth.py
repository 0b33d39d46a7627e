"""Depth maps in both dialects: the meaning of the numbers, their formats, and what is refused."""

from __future__ import annotations

import base64
import io
import json
import uuid

import cv2
import numpy as np
import pytest
from PIL import Image

from tritonvision.errors import InvalidParameter
from tritonvision.facade.dialects.huggingface.tasks import depth as huggingface_depth
from tritonvision.facade.dialects.roboflow.routes import depth as roboflow_depth
from tritonvision.facade.rendering import depth_maps
from tritonvision.publication import MANIFEST, Manifest
from tritonvision.results import DepthMap
from tritonvision.tasks import resolve

DEPTH = "depth-anything-v2-small"
ROUTE = "/infer/depth-estimation"


def ramp(height: int, width: int) -> np.ndarray:
    """float32, 2 at the upper left and 6 at the lower right."""
    return np.linspace(2, 6, height * width, dtype=np.float32).reshape(height, width)


@pytest.fixture
def depth_house(house, tmp_path, monkeypatch):
    """A facade with a depth model, whose map is a ramp of the picture's size."""
    manifest = Manifest(
        id=DEPTH, family="Depth Anything V2", task="depth-estimation", head="dense-map", weights="random",
        source="seed 0", sha256="0", license="Apache-2.0", precision="fp32", labels=(), input_size=None, steps=(),
        map_meaning="inverse-depth",
    )  # fmt: skip
    (tmp_path / DEPTH).mkdir()
    (tmp_path / DEPTH / MANIFEST).write_text(manifest.to_json())

    def result(manifest, picture, settings):
        width, height = Image.open(io.BytesIO(picture)).size
        return DepthMap(ramp(height, width), manifest.map_meaning, {"height": height, "width": width})

    monkeypatch.setattr(house.engine, "_result", result)
    return house


def b64(data: bytes) -> dict:
    return {"type": "base64", "value": base64.b64encode(data).decode()}


def ask(house, picture: bytes, path: str = ROUTE, **body):
    return house.client.post(path, json={"image": b64(picture), **body})


def pixels(text: str) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(base64.b64decode(text), np.uint8), cv2.IMREAD_UNCHANGED)


def test_depth_is_one_at_the_nearest_and_zero_at_the_farthest_pixel(depth_house, picture):
    answer = ask(depth_house, picture).json()
    depth = np.array(answer["normalized_depth"])
    assert depth.shape == (30, 40)
    assert (depth[0, 0], depth[-1, -1]) == (0, 1)
    np.testing.assert_allclose(depth, (ramp(30, 40) - 2) / 4, atol=1e-5)
    assert answer["depth_map_format"] == "json"


def test_nullable_fields_are_there_and_the_callers_id_comes_back(depth_house, picture):
    answer = ask(depth_house, picture).json()
    assert uuid.UUID(answer["inference_id"]) and answer["time"] > 0
    assert answer["frame_id"] is None and answer["resolved_model"] is None
    assert ask(depth_house, picture, id="my-1").json()["inference_id"] == "my-1"


@pytest.mark.parametrize("form, dtype", [("png16", np.uint16), ("png8", np.uint8)])
def test_a_png_holds_the_same_in_grey(depth_house, picture, form, dtype):
    answer = ask(depth_house, picture, depth_map_format=form).json()
    depth = pixels(answer["normalized_depth"])
    assert (depth.dtype, depth.shape, answer["depth_map_format"]) == (dtype, (30, 40), form)
    np.testing.assert_allclose(depth / np.iinfo(dtype).max, (ramp(30, 40) - 2) / 4, atol=0.51 / np.iinfo(dtype).max)


def test_the_image_is_a_colour_map_brighter_for_near_pixels(depth_house, picture):
    image = pixels(ask(depth_house, picture, depth_map_format="png8").json()["image"])
    assert image.shape == (30, 40, 3)
    assert image[-1, -1].sum() > image[15, 20].sum() > image[0, 0].sum()


def test_a_map_of_distances_is_inverted():
    depth = json.loads(depth_maps.orjson.dumps(roboflow_depth.depth(DepthMap(ramp(4, 5), "depth"), "json")))
    assert (depth["normalized_depth"][0][0], depth["normalized_depth"][-1][-1]) == (1, 0)


@pytest.mark.parametrize("form", ["json", "png16", "png8"])
def test_a_constant_map_gives_zeros(form):
    flat = roboflow_depth.depth(DepthMap(np.full((3, 4), 7, np.float32), "inverse-depth"), form)["normalized_depth"]
    values = pixels(flat) if isinstance(flat, str) else json.loads(depth_maps.orjson.dumps(flat))
    assert np.array_equal(np.array(values), np.zeros((3, 4)))


@pytest.mark.parametrize("body", [{}, {"depth_version_id": "small"}, {"model_id": DEPTH}, {"model_id": None}])
def test_the_model_is_named_by_its_id_or_by_its_version(depth_house, picture, body):
    assert ask(depth_house, picture, **body).status_code == 200
    assert depth_house.engine.asked[0][0] == DEPTH


@pytest.mark.parametrize("body", [{}, {"model_id": "depth-anything-v2/small"}, {"model_id": DEPTH}])
@pytest.mark.parametrize("path_id", [DEPTH, "depth-anything-v2/small"])
def test_the_path_may_name_the_model(depth_house, picture, path_id, body):
    assert ask(depth_house, picture, f"{ROUTE}/{path_id}", **body).status_code == 200


def test_a_path_and_a_body_that_disagree_are_refused(depth_house, picture):
    answer = ask(depth_house, picture, f"{ROUTE}/{DEPTH}", model_id="depth-anything-v2-base")
    assert answer.status_code == 400 and "different models" in answer.json()["message"]
    assert not depth_house.engine.asked


def test_an_unknown_version_is_not_found(depth_house, picture):
    assert ask(depth_house, picture, depth_version_id="enormous").status_code == 404


def test_an_array_of_pictures_is_refused(depth_house, picture):
    answer = depth_house.client.post(ROUTE, json={"image": [b64(picture)]})
    assert answer.status_code == 400 and "one picture" in answer.json()["message"]


def test_another_format_is_refused(depth_house, picture):
    assert ask(depth_house, picture, depth_map_format="exr").status_code == 422


def test_a_model_of_another_task_is_refused(depth_house, picture):
    answer = ask(depth_house, picture, model_id="yolov8n-640")
    assert answer.status_code == 400 and "object-detection" in answer.json()["message"]


def test_what_is_no_picture_is_refused(depth_house):
    assert ask(depth_house, b"nothing of the kind").status_code == 400


def test_orientation_is_the_callers_choice(depth_house, picture):
    ask(depth_house, picture, disable_preproc_auto_orient=True)
    assert depth_house.engine.asked[0][2] == {"auto_orient": False}


@pytest.mark.parametrize("shape", [(1, 1), (1, 250_000), (250_000, 1), (1200, 333)])
def test_numbers_are_written_in_blocks_and_read_as_one_list(shape):
    values = np.random.default_rng(0).random(shape, dtype=np.float32)
    written = np.array(json.loads(depth_maps.orjson.dumps(depth_maps.numbers(values, 5))))
    assert written.shape == shape
    np.testing.assert_allclose(written, values, atol=6e-6)


def test_a_map_too_large_for_json_is_refused_with_the_other_format_named():
    with pytest.raises(InvalidParameter, match="too large") as refused:
        depth_maps.numbers(np.broadcast_to(np.float32(0), (4001, 4000)), 5)
    assert "PNG" in refused.value.hint


# ---- the Hugging Face dialect ----------------------------------------------------------------------------------------


def test_hugging_face_gets_a_grey_picture_and_numbers_only_when_asked():
    result = DepthMap(ramp(30, 40), "inverse-depth")
    plain = huggingface_depth.depth(result, None, resolve(huggingface_depth.PARAMETERS, {}))
    assert list(plain) == ["depth"]
    grey = pixels(plain["depth"])
    assert (grey.dtype, grey.shape, grey[0, 0], grey[-1, -1]) == (np.uint8, (30, 40), 0, 255)
    given = resolve(huggingface_depth.PARAMETERS, {"return_tensor": True, "depth_map_format": "png16"})
    both = json.loads(depth_maps.orjson.dumps(huggingface_depth.depth(result, None, given)))
    assert pixels(both["depth"]).dtype == np.uint16
    np.testing.assert_allclose(both["predicted_depth"], ramp(30, 40), atol=1e-4)


def test_hugging_face_gets_the_map_unchanged():
    far = huggingface_depth.depth(
        DepthMap(ramp(4, 5), "depth"), None, resolve(huggingface_depth.PARAMETERS, {})
    )  # fmt: skip
    assert pixels(far["depth"])[-1, -1] == 255
