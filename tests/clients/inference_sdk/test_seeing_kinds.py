"""The unmodified client's calls for masks, queries and depth, on true architectures with random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from inference_sdk import InferenceConfiguration, InferenceHTTPClient

PHOTO = str(Path(__file__).parents[3] / "tritonvision" / "data" / "astronaut.png")


@pytest.fixture
def client(server_url: str) -> InferenceHTTPClient:
    return InferenceHTTPClient(api_url=server_url, api_key="any")


def test_instances_come_as_outlines_under_the_catalogues_name(client):
    answer = client.infer(PHOTO, model_id="yolov8n-seg-640")  # the client writes coco-dataset-vdnr1/2
    assert 10 <= len(answer["predictions"]) <= 60
    outlines = [p["points"] for p in answer["predictions"] if p["points"]]
    assert len(outlines) >= 5 and all(point.keys() == {"x", "y"} for outline in outlines for point in outline)


def test_instances_come_as_run_lengths_when_the_configuration_says_so(client):
    client.configure(InferenceConfiguration(response_mask_format="rle", confidence_threshold=0.5))
    answer = client.infer(PHOTO, model_id="yolov8n-seg-640")
    assert answer["predictions"] and all(p["rle"]["size"] == [512, 512] for p in answer["predictions"])


def test_the_legacy_route_answers_for_a_segmenter(client):
    client.select_api_v0()
    answer = client.infer(PHOTO, model_id="coco-dataset-vdnr1/2")
    assert {p["mask_format"] for p in answer["predictions"]} == {"polygon"}


def test_a_detector_with_queries(client):
    answer = client.infer(PHOTO, model_id="rfdetr-nano")
    assert 10 <= len(answer["predictions"]) <= 60


@pytest.mark.parametrize("form", ["json", "png16", "png8"])
@pytest.mark.parametrize("in_path", [False, True])
def test_depth_in_every_form(client, form, in_path):
    answer = client.depth_estimation(
        PHOTO, model_id="depth-anything-v2/small", model_id_in_path=in_path, depth_map_format=form
    )
    nearness = np.asarray(answer["normalized_depth"], dtype=np.float64)
    assert nearness.shape == (512, 512) and nearness.std() > 0
