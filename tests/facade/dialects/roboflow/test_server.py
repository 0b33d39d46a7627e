"""The routes about the server and its models that Roboflow's client uses besides inference."""

from __future__ import annotations

import base64

import pytest

DETECTOR, FACE = "yolov8n-640", "mediapipe-face-detection"


def listed(answer) -> dict[str, dict]:
    assert answer.status_code == 200, answer.text
    return {entry["model_id"]: entry for entry in answer.json()["models"]}


def add(house, name: str):
    return house.client.post("/model/add", json={"model_id": name, "api_key": None, "model_type": None})


def test_only_loaded_models_are_listed_under_every_name(house):
    assert listed(house.client.get("/model/registry", params={"api_key": "None"})) == {}
    assert listed(add(house, "coco/3")).keys() == {DETECTOR, "coco/3"}
    entry = listed(house.client.get("/model/registry"))["coco/3"]
    assert entry == {
        "model_id": "coco/3", "task_type": "object-detection", "batch_size": None, "input_height": 480,
        "input_width": 640, "vram_bytes": None, "request_aliases": [], "request_paths": [],
        "weights": "random", "memory_bytes": 2**20, "last_used": 1.0,
    }  # fmt: skip


def test_the_answer_repeats_the_added_name(house):
    assert {DETECTOR, "coco/3", "anybody/coco/3"} == listed(add(house, "anybody/coco/3")).keys()


def test_adding_twice_changes_nothing(house):
    assert add(house, FACE).json() == add(house, FACE).json()
    assert listed(add(house, FACE))[FACE]["task_type"] == "keypoint-detection"


@pytest.mark.parametrize("name", [DETECTOR, "coco/3", "anybody/coco/3"])
def test_a_model_is_removed_by_any_of_its_names(house, name):
    add(house, DETECTOR), add(house, FACE)
    left = listed(house.client.post("/model/remove", json={"model_id": name}))
    assert DETECTOR not in left and FACE in left


def test_removing_a_model_that_is_not_loaded_succeeds(house):
    assert listed(house.client.post("/model/remove", json={"model_id": "nobody/1"})) == {}


def test_clear_unloads_everything(house):
    add(house, DETECTOR), add(house, FACE)
    assert listed(house.client.post("/model/clear")) == {}
    assert house.engine.loaded() == []


def test_clear_cache_is_a_json_string(house):
    add(house, DETECTOR)
    assert isinstance(house.client.get("/clear_cache").json(), str)
    assert house.engine.loaded() == []


def test_start_loads(house):
    answer = house.client.get("/start/coco/3").json()
    assert answer["status"] == 200 and isinstance(answer["message"], str)
    assert [manifest.id for manifest in house.engine.loaded()] == [DETECTOR]


def test_an_unknown_model_is_a_404(house):
    assert add(house, "nobody/1").status_code == 404
    assert "nobody/1" in add(house, "nobody/1").json()["message"]
    assert house.client.get("/start/nobody/1").status_code == 404


def test_info(house):
    answer = house.client.get("/info").json()
    assert answer["uuid"] == house.engine.server_id and {"name", "version"} <= answer.keys()


def test_health_and_readiness_follow_the_server(house):
    assert house.client.get("/healthz").json() == {"status": "healthy"}
    assert house.client.get("/readiness").json() == {"status": "ready"}
    house.engine.is_ready = False
    answer = house.client.get("/readiness")
    assert answer.status_code == 503 and answer.json() == {"status": "not ready", "reason": "It is starting."}


def test_pages_for_people(house):
    for path in ("/", "/docs", "/redoc"):
        answer = house.client.get(path)
        assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/html")


def test_the_schema_shows_every_route_and_its_fields(house):
    schema = house.client.get("/openapi.json").json()
    body = schema["paths"]["/infer/object_detection"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert {"model_id", "image", "confidence", "class_filter"} <= body["properties"].keys()
    routes = {"/{project}/{version}", "/models/{model}", "/model/registry", "/infer/segmentation"}
    assert routes <= schema["paths"].keys()
    names = [p["name"] for p in schema["paths"]["/{project}/{version}"]["post"]["parameters"]]
    assert {"confidence", "overlap", "image", "image_type", "format"} <= set(names)


def test_metrics_count_by_dialect_model_and_status(house, picture):
    image = {"type": "base64", "value": base64.b64encode(picture).decode()}
    house.client.post("/infer/object_detection", json={"model_id": "coco/3", "image": image})
    house.client.post("/infer/object_detection", json={"model_id": "made-up-by-a-caller", "image": image})
    house.client.post("/models/resnet18", content=picture, headers={"x-wait-for-model": "true"})
    text = house.client.get("/metrics").text
    assert f'tritonvision_requests_total{{dialect="roboflow",model="{DETECTOR}",outcome="ok",status="200"}} 1.0' in text
    assert 'tritonvision_requests_total{dialect="roboflow",model="",outcome="refused",status="404"} 1.0' in text
    assert 'tritonvision_requests_total{dialect="huggingface",model="resnet18",outcome="ok",status="200"} 1.0' in text
    assert f'tritonvision_request_seconds_count{{dialect="roboflow",model="{DETECTOR}",outcome="ok"}} 1.0' in text
    assert "tritonvision_pictures_in_flight 0.0" in text and "tritonvision_bytes_in_flight 0.0" in text
    assert "tritonvision_loaded_models 2.0" in text and "made-up" not in text
    for name in ("num_inferences_yolov8n_640 1.0", "num_inferences_total 2.0", "num_errors_total 0.0"):
        assert name in text
    assert "avg_inference_time_yolov8n_640 " in text


def test_a_slash_at_the_end_is_no_redirect(house):
    for path in ("/info/", "/model/registry/", "/healthz/"):
        assert house.client.get(path, follow_redirects=False).status_code == 200


def test_the_registry_and_the_metrics_give_the_memory_of_loaded_models(house):
    add(house, "coco/3")
    body = house.client.get("/model/registry").json()
    assert (body["memory_bytes"], body["memory_budget_bytes"], body["max_loaded"], body["evicted"]) == (
        2**20, None, None, 0,
    )  # fmt: skip
    text = house.client.get("/metrics").text
    assert "tritonvision_memory_bytes 1.048576e+06" in text and "tritonvision_evicted_models 0.0" in text
