"""``/sam2/*``: one prediction a prompt, prompts in every form that clients send, pictures kept by id."""

import base64
import io

import numpy as np
import pytest
from manifests import publish
from pycocotools import mask as coco

from tritonvision import tasks
from tritonvision.facade.dialects.roboflow.kept_pictures import KeptPictures
from tritonvision.publication import Manifest
from tritonvision.results import InstancesRLEMasks, SAMImageEmbeddings, SAMPrediction

SEGMENT, EMBED = "/sam2/segment_image", "/sam2/embed_image"
WIDTH, HEIGHT = 40, 30
POINT, BOX = {"points": [{"x": 9, "y": 8, "positive": True}]}, {"box": {"x": 20, "y": 10, "width": 8, "height": 6}}


def run_lengths(*boxes):
    masks = np.zeros((len(boxes), HEIGHT, WIDTH), np.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = 1
    masks[0, 20:22, 30:33] = 1  # a second part
    return InstancesRLEMasks((HEIGHT, WIDTH), [coco.encode(np.asfortranarray(mask))["counts"] for mask in masks])


@pytest.fixture
def house(house, monkeypatch):
    """A facade with two sizes of SAM2, whose engine answers three proposals, the second of them the best."""
    for name in ("sam2-tiny", "sam2-large"):
        manifest = Manifest(
            id=name, family="SAM2", task=tasks.PROMPTABLE.name, head="promptable-masks", weights="random",
            source="seed 0", sha256="0", license="Apache-2.0", precision="fp32", labels=(), input_size=(1024, 1024),
            steps=(),
        )  # fmt: skip
        publish(house.settings.repository, [manifest])

    async def ask(model, samples, parameters, *, role="", outputs=(), wait=True):
        manifest = await house.engine.load(model.id, wait=wait)
        house.engine.samples.append((manifest.id, dict(samples[0]), dict(parameters)))
        if "embeddings" in outputs:
            return manifest, [SAMImageEmbeddings(np.zeros((256, 64, 64), np.float32), (HEIGHT, WIDTH))]
        proposals = [(2, 2, 9, 9), (5, 5, 21, 10), (0, 0, 3, 3)] if parameters["multimask"] else [(5, 5, 21, 10)]
        scores = np.float32([0.3, 0.9, 0.5] if parameters["multimask"] else [0.4])
        logits = np.stack([np.full((256, 256), len(house.engine.samples) + i, np.float32) for i in range(len(scores))])
        size = {"height": HEIGHT, "width": WIDTH}
        return manifest, [SAMPrediction(scores, run_lengths(*proposals), None, logits, size)]

    monkeypatch.setattr(house.engine, "ask", ask)
    return house


@pytest.fixture
def image(picture):
    return {"type": "base64", "value": base64.b64encode(picture).decode()}


def segment(house, status=200, **body):
    answer = house.client.post(SEGMENT, json={"sam2_version_id": "hiera_tiny", **body})
    assert answer.status_code == status, answer.text
    return answer.json() if answer.headers["content-type"] == "application/json" else answer


@pytest.mark.parametrize("prompts, count", [
    ({"prompts": [POINT, BOX]}, 2), ([POINT, BOX, {}], 3), (POINT, 1), (None, 1), ([], 1), ({"prompts": []}, 1),
])  # fmt: skip
def test_one_prediction_a_prompt_in_every_form_that_they_come_in(house, image, prompts, count):
    answer = segment(house, image=image, prompts=prompts)
    assert len(answer["predictions"]) == count and answer["time"] > 0
    assert {prediction["format"] for prediction in answer["predictions"]} == {"polygon"}


def test_the_best_proposal_is_answered_with_the_outline_of_each_of_its_parts(house, image):
    (prediction,) = segment(house, image=image, prompts=[POINT])["predictions"]
    assert prediction["confidence"] == pytest.approx(0.9)
    assert prediction["masks"] == [[[5, 5], [5, 9], [20, 9], [20, 5]]]
    (single,) = segment(house, image=image, prompts=[POINT], multimask_output=False)["predictions"]
    assert single["confidence"] == pytest.approx(0.4) and len(single["masks"]) == 2


def test_a_box_is_its_centre_and_size_and_points_may_be_off_the_object(house, image):
    both = {**BOX, "points": [{"x": 1, "y": 2, "positive": False}, {"x": 3, "y": 4}]}
    segment(house, image=image, prompts=[both])
    _, sample, settings = house.engine.samples[-1]
    assert settings["box"] == [16, 7, 24, 13] and settings["points"] == [[1, 2], [3, 4]]
    assert settings["point_labels"] == [0, 1] and "mask_input" not in sample


def test_run_lengths_and_arrays(house, image):
    (prediction,) = segment(house, image=image, prompts=[POINT], format="rle")["predictions"]
    assert prediction["format"] == "rle" and prediction["masks"]["size"] == [HEIGHT, WIDTH]
    assert coco.decode(prediction["masks"]).sum() == 16 * 5
    binary = segment(house, image=image, prompts=[POINT, BOX], format="binary")
    with np.load(io.BytesIO(binary.content), allow_pickle=False) as arrays:
        assert arrays["masks"].shape == (2, HEIGHT, WIDTH) and arrays["low_res_masks"].shape == (2, 256, 256)


def test_without_a_version_the_large_model_is_asked_and_the_nearest_one_where_it_is_not_there(house, image):
    assert house.client.post(SEGMENT, json={"image": image}).status_code == 200
    assert house.engine.samples[-1][0] == "sam2-large"
    assert segment(house, 404, image=image, sam2_version_id="hiera_small")["message"]


def test_a_picture_is_kept_under_its_id_or_one_made_of_its_bytes(house, image, picture):
    named = house.client.post(EMBED, json={"image": image, "image_id": "a", "sam2_version_id": "hiera_tiny"}).json()
    assert named["image_id"] == "a" and named.keys() == {"image_id", "time"}
    made = house.client.post(EMBED, json={"image": image, "sam2_version_id": "hiera_tiny"}).json()["image_id"]
    for image_id in ("a", made):
        segment(house, image_id=image_id, prompts=[POINT])
        assert house.engine.samples[-1][1]["image"] == picture
    assert "image_id" in segment(house, 400, image_id="b", prompts=[POINT])["message"]


def test_masks_that_were_kept_are_refined_prompt_by_prompt(house, image):
    segment(house, image=image, image_id="a", prompts=[POINT, BOX], save_logits_to_cache=True)
    segment(house, image_id="a", prompts=[POINT, BOX, {}], load_logits_from_cache=True)
    first, second, third = (sample for _, sample, _ in house.engine.samples[-3:])
    assert (first["mask_input"] == 2).all() and (second["mask_input"] == 3).all() and "mask_input" not in third
    segment(house, image_id="a", prompts=[POINT])
    assert "mask_input" not in house.engine.samples[-1][1]


@pytest.mark.parametrize("prompts", [
    "points", 7, [7], {"prompts": "all"}, [{"box": [1, 2, 3, 4]}], [{"boxes": []}], {"point": [1, 2]},
    [{"points": [{"x": 1}]}],
    [{"points": [{"x": None, "y": 1}]}],
])  # fmt: skip
def test_what_is_no_prompt_is_refused(house, image, prompts):
    assert segment(house, 422, image=image, prompts=prompts)["detail"]


def test_more_prompts_than_a_request_may_have_are_refused(house, image):
    assert "256" in segment(house, 400, image=image, prompts=[{}] * 257)["message"]


def test_pictures_of_both_families_are_kept_in_one_place(house, image):
    house.client.post(EMBED, json={"image": image, "image_id": "a", "sam2_version_id": "hiera_tiny"})
    assert isinstance(house.client.app.state.kept_pictures, KeptPictures)
