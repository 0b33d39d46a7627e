"""One model of every seeing kind through the whole running server: routes, ``predict``, and each kind's own bad input.

The weights are random (but the face model's): what is tested is that the parts agree with each other.
"""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image, ImageOps
from pycocotools import mask

TREE = Path(__file__).parents[2]
PHOTO = TREE / "tritonvision" / "data" / "astronaut.png"


@pytest.fixture(scope="module")
def http(server_url: str):
    with httpx.Client(base_url=server_url, timeout=90) as client:
        yield client


def b64(data: bytes) -> dict:
    return {"type": "base64", "value": base64.b64encode(data).decode()}


def png(width: int, height: int) -> dict:
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return b64(stream.getvalue())


def ask(http: httpx.Client, path: str, **body) -> dict:
    answer = http.post(path, json=body)
    assert answer.status_code == 200, answer.text[:300]
    return answer.json()


# ---- prototype masks -------------------------------------------------------------------------------------------------


def test_polygons_match_run_lengths_and_boxes_do_not_depend_on_the_mask_format(http, photo):
    body = {"model_id": "yolov8n-seg-640", "image": b64(photo), "confidence": 0.4}
    outlines = ask(http, "/infer/instance_segmentation", **body)["predictions"]
    runs = ask(http, "/infer/segmentation", response_mask_format="rle", **body)["predictions"]
    boxes = ask(http, "/infer/object_detection", **body)["predictions"]
    assert 10 <= len(runs) <= 60
    for outline, run, box in zip(outlines, runs, boxes, strict=True):
        dense = mask.decode(run["rle"])
        assert dense.shape == (512, 512) and "rle" not in box and "points" not in box
        points = np.array([[p["x"], p["y"]] for p in outline["points"]], dtype=int).reshape(-1, 2)
        assert dense[points[:, 1], points[:, 0]].all()
        for name in ("x", "y", "width", "height", "confidence", "class"):
            assert outline[name] == run[name] == box[name]
        rows, columns = np.nonzero(dense)
        assert columns.min(initial=512) >= run["x"] - run["width"] / 2 - 1
        assert rows.max(initial=0) <= run["y"] + run["height"] / 2 + 1


def test_the_legacy_route_answers_with_outlines(http, photo):
    text = base64.b64encode(photo)
    answer = http.post("/coco-dataset-vdnr1/2?api_key=k", content=text, headers={"content-type": "application/json"})
    assert answer.status_code == 200 and answer.json()["predictions"][0]["mask_format"] == "polygon"


# ---- queries ---------------------------------------------------------------------------------------------------------


def test_a_detector_with_queries_has_nothing_to_suppress(http, photo):
    body = {"model_id": "coco/38", "image": b64(photo)}
    strict, loose = (ask(http, "/infer/object_detection", iou_threshold=t, **body)["predictions"] for t in (0.01, 0.99))
    assert 10 <= len(strict) <= 60
    assert [p["x"] for p in strict] == [p["x"] for p in loose]
    scores = [p["confidence"] for p in strict]
    assert scores == sorted(scores, reverse=True)


# ---- dense maps ------------------------------------------------------------------------------------------------------


def test_depth_is_the_same_as_numbers_and_as_a_picture_and_keeps_the_size(http):
    body = {"model_id": "depth-anything-v2/small", "image": png(97, 61)}
    numbers = np.array(ask(http, "/infer/depth-estimation", **body)["normalized_depth"])
    encoded = ask(http, "/infer/depth-estimation", depth_map_format="png16", **body)["normalized_depth"]
    grey = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded)))) / 65535
    assert numbers.shape == grey.shape == (61, 97)
    assert numbers.min() == 0 and numbers.max() == 1
    np.testing.assert_allclose(numbers, grey, atol=2e-5)


@pytest.mark.parametrize(("width", "height"), [(5000, 1), (6000, 300)])
def test_a_strip_that_no_depth_can_be_seen_in_is_a_400(http, width, height):
    body = {"model_id": "depth-anything-v2-small", "image": png(width, height)}
    answer = http.post("/infer/depth-estimation", json=body)
    assert answer.status_code == 400 and answer.json()["message"].startswith("Could not load input image. Cause:")


# ---- encode once, prompt many ----------------------------------------------------------------------------------------


def test_a_second_prompt_over_another_connection_costs_no_second_encoding(http, server_url):
    stream = io.BytesIO()
    with Image.open(PHOTO) as image:  # a picture that no other test has asked about: all share this server
        ImageOps.mirror(image).save(stream, "PNG")
    body = {"sam_version_id": "vit_b", "image": b64(stream.getvalue())}
    body |= {"point_coords": [[220, 140]], "point_labels": [1]}
    first = ask(http, "/sam/segment_image", **body)
    with httpx.Client(base_url=server_url, timeout=90) as other:
        second, *further = [ask(other, "/sam/segment_image", **body) for _ in range(3)]
        no_points = {"point_coords": None, "point_labels": None}
        box = ask(other, "/sam/segment_image", **body | no_points, box=[90, 60, 330, 500])
    assert first["masks"] == second["masks"] != box["masks"]
    # the encoder takes most of the first request; a busy machine may slow single ones of the others
    assert min(answer["time"] for answer in (second, *further)) < first["time"] / 2


def test_an_earlier_mask_refines_the_next_one(http, photo):
    body = {"sam_version_id": "vit_b", "image": b64(photo), "point_coords": [[220, 140]], "point_labels": [1]}
    ask(http, "/sam/segment_image", image_id="refined", **body)
    again = {**body, "image_id": "refined"}
    del again["image"]  # the picture is kept under its id, and so is its last mask
    assert ask(http, "/sam/segment_image", has_mask_input=True, **again)["masks"] != ask(
        http, "/sam/segment_image", **again
    )["masks"]


@pytest.mark.parametrize(
    "prompt",
    [
        {"point_coords": [[600, 10]], "point_labels": [1]},
        {"point_coords": [[-1, 10]], "point_labels": [1]},
        {"point_coords": [[1, 2], [3, 4]], "point_labels": [1]},
        {"box": [10, 10, 600, 20]},
    ],
)
def test_an_invalid_prompt_is_a_400_in_a_sentence(http, photo, prompt):
    answer = http.post("/sam/segment_image", json={"sam_version_id": "vit_b", "image": b64(photo), **prompt})
    assert answer.status_code == 400 and answer.json()["message"].endswith(".")


# ---- on the command line ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "options", "told"),
    [
        ("yolov8n-seg-640", (), {"class", "box", "area", "rle"}),
        ("rfdetr-nano", (), {"class", "box"}),
        ("depth-anything-v2-small", (), {"meaning", "nearest"}),
        ("clip/RN50", ("--text", "a cat", "--text", "an astronaut"), {"class", "confidence"}),
        ("clip/RN50", (), {"dimensions", "norm"}),
        ("sam-vit_b", ("--point", "220,140"), {"class", "area", "confidence"}),
        ("sam-vit_b", ("--box", "90,60,330,500"), {"class", "area", "confidence"}),
        ("l2cs-gaze", (), {"box", "yaw", "pitch"}),
    ],
)
def test_predict_shows_what_the_server_sees_and_draws_it(server_url, tmp_path, model, options, told):
    python = os.environ.get("TRITONVISION_TEST_PYTHON", sys.executable)
    command = [python, "-m", "tritonvision", "predict", model, str(PHOTO), *options, "--url", server_url, "--json"]
    done = subprocess.run([*command, "--save", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (answer,) = json.loads(done.stdout)
    assert told <= answer["predictions"][0].keys()
    with Image.open(answer["saved"]) as drawn:
        assert drawn.size == (512, 512)
        same = np.array_equal(np.asarray(drawn.convert("RGB")), np.asarray(Image.open(PHOTO).convert("RGB")))
    assert same == ("norm" in told)  # a vector is not drawn


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("sam-vit_b",), "has to be shown"),
        (("yolov8n-640", "--point", "1,2"), "takes no --point"),
        (("resnet18", "--text", "a cat"), "takes no --text"),
        (("sam-vit_b", "--point", "9999,2"), "outside the picture"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(server_url, options, words):
    python = os.environ.get("TRITONVISION_TEST_PYTHON", sys.executable)
    model, *rest = options
    command = [python, "-m", "tritonvision", "predict", model, str(PHOTO), *rest, "--url", server_url]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in (1, 2) and words in done.stderr and "Traceback" not in done.stderr
