"""Five dialects at one address: which dialect a path belongs to, and that no route is taken for a project."""

from __future__ import annotations

import pytest
from fastapi.routing import iter_route_contexts

from tritonvision.facade.dialects.registry import RESERVED, dialect_of


@pytest.fixture
def routes(house):
    return list(iter_route_contexts(house.client.app.routes))


def paths(routes) -> list[str]:
    return [route.path for route in routes]


def test_every_route_of_more_than_one_segment_begins_with_a_reserved_one(routes):
    legacy = [path for path in paths(routes) if path.startswith("/{project")]
    assert len(legacy) == 2 and len(routes) > 40
    for path in set(paths(routes)) - set(legacy):
        first, _, rest = path.removeprefix("/").partition("/")
        assert first in RESERVED or not rest, f"{path} could be a project's"


def test_the_legacy_routes_are_the_last(routes):
    order = ["{project" in path.split("/")[1] for path in paths(routes)]
    assert order == sorted(order)


def test_every_reserved_segment_has_a_route(routes):
    first = {path.split("/")[1] for path in paths(routes)}
    foretold = {"sam3", "workflows", "api"}  # of other releases of the contract
    assert set(RESERVED) - foretold <= first | {"docs"}


@pytest.mark.parametrize("path, owner", [
    ("/v1/models", "openai"), ("/v1", "openai"), ("/v1/nothing/here", "openai"), ("/models/coco/3", "huggingface"),
    ("/vi/v1/predict", "vi"), ("/vi", "vi"), ("/v2", "kserve"), ("/v2/models/x/infer", "kserve"),
    ("/models", "huggingface"), ("/pipeline/x/y", "huggingface"), ("/predict", "huggingface"),
    ("/infer/lmm", "roboflow"), ("/model/x", "roboflow"), ("/", "roboflow"), ("/openapi.json", "roboflow"),
    ("/healthz", "roboflow"), ("/clear_cache", "roboflow"), ("/health", "roboflow"),
])  # fmt: skip
def test_the_first_segment_decides_the_dialect(house, path, owner):
    assert dialect_of(path).name == owner
    answer = house.client.request("DELETE", path).json()
    spoken = answer.get("message") or answer["error"]
    assert isinstance(spoken, dict) == (owner == "openai") and ("error" in answer) == (owner != "roboflow")


@pytest.mark.parametrize("path", [
    "/v10/1", "/predictions/1", "/models-of-mine/1", "/coco/3", "/nothing", "/a/b/c", "/facebook/detr-resnet-50",
])  # fmt: skip
def test_errors_of_unowned_paths_have_the_keys_of_both_clients(house, path):
    assert dialect_of(path).name == "roboflow", "in figures and logs"
    for method in ("DELETE", "POST"):
        answer = house.client.request(method, path, content=b"x")
        assert answer.status_code in (400, 404, 405)
        assert answer.json().keys() == {"message", "error"}
        assert answer.json()["message"].endswith(answer.json()["error"])


def test_a_misspelt_model_gets_a_suggestion_in_every_dialect(house):
    nothing, hello = {"type": "url", "value": ""}, [{"role": "user", "content": "Hello"}]
    for path, body, meant in (
        ("/models/mediapipe-face-detectoin", {"inputs": ""}, "mediapipe-face-detection"),
        ("/infer/object_detection", {"model_id": "yolov8n_640", "image": nothing}, "yolov8n-640"),
        ("/v1/chat/completions", {"model": "smolvlm-265m", "messages": hello}, "smolvlm-256m"),
        ("/model/add", {"model_id": "resnet_18"}, "resnet18"),
    ):
        answer = house.client.post(path, json=body)
        assert answer.status_code == 404 and f"Did you mean '{meant}'" in answer.text, answer.text


@pytest.mark.parametrize("name", ["resnet18", "resnet152", "smolvlm-256m", "mine/weather/1"])
def test_a_post_to_a_models_name_is_answered_with_its_route(house, name):
    answer = house.client.post(f"/{name}", content=b"x")
    assert answer.status_code == 404 and f"/models/{name}." in answer.json()["error"]


@pytest.mark.parametrize("first", RESERVED)
def test_paths_below_a_reserved_segment_are_no_projects(house, first):
    for method in ("GET", "POST"):
        answer = house.client.request(method, f"/{first}/x1")
        assert answer.status_code in (404, 405), answer.text
        assert "'" not in answer.text or first in ("models", "v1"), "a model was looked for"
