"""Several keys: which models each may ask, what it learns of the others, and limits of each."""

from __future__ import annotations

import ast
import asyncio
import base64
from pathlib import Path

import pytest
from callers import BOTH, CLASSIFIER, DETECTOR, ask, bearer, key

from tritonvision import api_keys, catalog
from tritonvision.engine.model_times import ModelTimes
from tritonvision.facade.observability import triton_metrics
from tritonvision.facade.security import access

pytestmark = pytest.mark.attack("ways past the key")


# ---- who may ask what ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who, model, status", [
    ("detectors", DETECTOR, 200), ("detectors", CLASSIFIER, 403), ("detectors", "coco/3", 200),
    ("detectors", "nobody/1", 403), ("all", CLASSIFIER, 200), ("all", "nobody/1", 404), ("admin", CLASSIFIER, 200),
    ("operator", DETECTOR, 403), ("the-one", CLASSIFIER, 200), (None, DETECTOR, 401), ("wrong", DETECTOR, 401),
    ("default", DETECTOR, 401),
])  # fmt: skip
def test_a_key_is_for_its_models_and_unknown_differs_from_not_allowed(house_of_keys, picture, who, model, status):
    answer = ask(house_of_keys(), picture, model, who)
    assert answer.status_code == status, answer.text
    assert ("www-authenticate" in answer.headers) == (status == 401)


def test_public_models_need_no_key_and_private_ones_a_key_that_names_them(house_of_keys, picture):
    house = house_of_keys(
        public_models=frozenset(("resnet*",)), private_models=frozenset((DETECTOR,)), keys=(
            key("named", models=(DETECTOR,)), key("all"), key("really-all", models=("**",)),
        ),
    )  # fmt: skip
    statuses = {
        (who, model): ask(house, picture, model, who).status_code
        for who in (None, "all", "named", "really-all", "the-one") for model in (CLASSIFIER, DETECTOR, "nobody/1")
    }  # fmt: skip
    assert statuses == {
        (None, CLASSIFIER): 200, (None, DETECTOR): 401, (None, "nobody/1"): 401,
        ("all", CLASSIFIER): 200, ("all", DETECTOR): 403, ("all", "nobody/1"): 404,
        ("named", CLASSIFIER): 200, ("named", DETECTOR): 200, ("named", "nobody/1"): 403,
        ("really-all", CLASSIFIER): 200, ("really-all", DETECTOR): 200, ("really-all", "nobody/1"): 404,
        ("the-one", CLASSIFIER): 200, ("the-one", DETECTOR): 200, ("the-one", "nobody/1"): 404,
    }  # fmt: skip
    assert ask(house, picture, CLASSIFIER, "wrong").status_code == 401, "a wrong key is no missing key"


def test_on_a_server_without_keys_private_models_are_asked_by_nobody(house_with, picture):
    house = house_with(private_models=frozenset((DETECTOR,)))
    assert ask(house, picture, DETECTOR, None).status_code == 401
    assert ask(house, picture, CLASSIFIER, None).status_code == 200


LISTS = {
    "/models": lambda told: {model["id"] for model in told["models"]},
    "/model/registry": lambda told: {catalog.canonical(model["model_id"]) for model in told["models"]},
    "/v1/models": lambda told: {model["id"] for model in told["data"]},
    "/vi/v1/models": lambda told: {model["run_id"] for model in told["models"]},
}


@pytest.mark.parametrize("path", LISTS)
def test_lists_hold_what_the_caller_may_ask(house_of_keys, path):
    house = house_of_keys(keys=(key("writers", models=("smolvlm*",)), key("admin", models=("**",), may=BOTH)))
    asyncio.run(house.engine.load(DETECTOR))
    asyncio.run(house.engine.load("smolvlm-256m"))
    seen = {who: LISTS[path](house.client.get(path, headers=bearer(who)).json()) for who in ("writers", "admin")}
    assert seen["writers"] == {"smolvlm-256m"} and {"smolvlm-256m"} <= seen["admin"]
    if path in ("/models", "/model/registry"):
        assert DETECTOR in seen["admin"]


@pytest.mark.parametrize("path", [
    "/models/{}", "/models/{}/health", "/model/facts/{}", "/model/times/{}", "/model/verify/{}", "/start/{}/1",
    "/v1/models/{}", "/vi/v1/models/{}", "/readiness?model={}",
])  # fmt: skip
@pytest.mark.parametrize("model", ["smolvlm-256m", "nobody"])
def test_what_is_known_of_a_model_is_told_to_who_may_ask_it(house_of_keys, path, model):
    keys = (key("detectors", models=("yolov8*",), may=BOTH), key("admin", models=("**",), may=BOTH))
    house = house_of_keys(keys=keys)
    assert house.client.get(path.format(model), headers=bearer("detectors")).status_code == 403
    assert house.client.get(path.format(model), headers=bearer("admin")).status_code != 403
    assert house.client.get(path.format(model)).status_code == 401
    assert all(loaded.id != DETECTOR for loaded in house.engine.loaded())


def test_figures_name_private_models_to_those_alone_whose_key_is_for_them(house_of_keys, picture):
    house = house_of_keys(
        private_models=frozenset((CLASSIFIER,)), keys=(key("named", models=(CLASSIFIER,)), key("all")), api_key=None
    )
    for who, model in (("named", CLASSIFIER), ("all", DETECTOR)):
        assert ask(house, picture, model, who).status_code == 200
    told = {who: house.client.get("/metrics", headers=bearer(who)).text for who in (None, "all", "named")}
    for text in told.values():
        assert f'model="{DETECTOR}"' in text and "num_inferences_total 2.0" in text
    assert told[None].count(CLASSIFIER) == told["all"].count(CLASSIFIER) == 0
    for line in (
        f'request_seconds_count{{dialect="roboflow",model="{CLASSIFIER}"',
        f'nv_inference_count{{model="{CLASSIFIER}"',
    ):
        assert line in told["named"]
    assert house.client.get("/metrics", headers=bearer("wrong")).status_code == 401


@pytest.mark.parametrize("part", ["net--acme__eyes", "acme__eyes", "acme__eyes--text", "net--acme__eyes--text"])
def test_every_part_of_a_private_model_is_left_out_and_shared_steps_are_not(part):
    counted = [ModelTimes(name, *[1] * 8) for name in (part, "pre--square-128")]
    told = triton_metrics.exposition(counted, lambda model: model != "acme/eyes").decode()
    assert "acme" not in told and 'nv_inference_count{model="pre--square-128"' in told


def test_a_path_without_a_route_does_not_tell_which_models_there_are(house_of_keys, house_with):
    assert DETECTOR not in house_of_keys().client.post(f"/x/{DETECTOR}/y").text
    assert house_of_keys().client.post(f"/{DETECTOR}").json() == house_of_keys().client.post("/nobody").json()


def test_a_stream_asks_for_each_frame_and_ends_with_its_key(house_with, key_file, picture):
    api_keys.write(key_file, [key("all"), key("detectors", models=("yolov8*",))])
    house = house_with(keys_file=key_file)
    box = {"boxes": [[2, 3, 20, 15]], "box_objects": [3], "image": base64.b64encode(picture).decode()}
    with house.client.websocket_connect(f"/streams/{DETECTOR}", headers=bearer("detectors")) as socket:
        socket.send_json(box)
        assert socket.receive_json()["frame"] == 0
        api_keys.write(key_file, [key("all")])
        house.client.app.state.service.access.reload()
        socket.send_bytes(picture)
        assert socket.receive_json()["code"] == "unauthorized"
    with house.client.websocket_connect(f"/streams/{CLASSIFIER}", headers=bearer("all")) as socket:
        socket.send_json(box)
        assert socket.receive_json()["frame"] == 0
    api_keys.write(key_file, [key("detectors", models=("yolov8*",))])
    house.client.app.state.service.access.reload()
    with house.client.websocket_connect(f"/streams/{CLASSIFIER}", headers=bearer("detectors")) as socket:
        socket.send_json(box)
        assert socket.receive_json()["code"] == "forbidden"


# ---- limits ----------------------------------------------------------------------------------------------------------


def test_a_key_over_its_rate_is_refused_with_the_seconds_to_wait_and_others_are_not(house_with, picture):
    house = house_with(keys=(key("slow", rate=0.5), key("all")))
    assert ask(house, picture, DETECTOR, "slow").status_code == 200
    answer = ask(house, picture, DETECTOR, "slow")
    assert answer.status_code == 429 and answer.headers["retry-after"] == "2"
    assert ask(house, picture, DETECTOR, "all").status_code == 200


def test_further_pictures_of_a_request_count_as_requests(house_with, picture):
    house = house_with(keys=(key("slow", rate=1.0),))
    image = {"type": "base64", "value": base64.b64encode(picture).decode()}
    body = {"model_id": DETECTOR, "image": [image] * 5}
    assert house.client.post("/infer/object_detection", json=body, headers=bearer("slow")).status_code == 200
    answer = ask(house, picture, DETECTOR, "slow")
    assert answer.status_code == 429 and answer.headers["retry-after"] == "4"


def test_a_key_over_its_concurrency_is_refused_before_the_picture_is_decoded(house_with, picture, served, until):
    house = house_with()
    keys = (key("one", concurrency=1), key("all"))
    body = {"model_id": DETECTOR, "image": {"type": "base64", "value": base64.b64encode(picture).decode()}}

    async def main():
        async with served(house, keys=keys) as client:
            house.engine.held = asyncio.Event()

            def post(who: str, body=body):
                return client.post("/infer/object_detection", json=body, headers=bearer(who))

            running = [asyncio.create_task(post("one"))]
            await until(lambda: len(house.engine.asked) == 1)
            broken = body | {"image": {"type": "base64", "value": "no picture"}}
            answer = await post("one", broken)
            assert answer.status_code == 429 and answer.headers["retry-after"] == "1"
            running.append(asyncio.create_task(post("all")))
            await until(lambda: len(house.engine.asked) == 2)
            house.engine.held.set()
            assert [(await task).status_code for task in running] == [200, 200]
            assert (await post("one")).status_code == 200

    asyncio.run(main())


# What the routes do with the engine themselves; whom they let is asked in these places, by Service.find above all.
AT_THE_ENGINE = {
    "native/model_times.py": {"times"}, "native/model_verify.py": {"verify"},
    "native/streams.py": {"streams", "repository"}, "native/server.py": {"server_id", "live", "why_not_ready"},
    "openai/routes.py": {"live"},
    "vi/routes.py": {"loaded"}, "huggingface/routes.py": {"loaded"}, "roboflow/model_choice.py": {"repository"},
    "roboflow/routes/models.py": {"load", "unload", "loaded", "memory", "repository"},
    "page/routes.py": {"loaded", "repository", "exportable"},
    "kserve/routes.py": {"live", "loaded", "forwarding"},  # what it forwards to was found by Service.find
}  # fmt: skip


def test_routes_reach_models_through_the_service_which_asks_who_may():
    """A new route that asks the engine or the repository itself would pass by the keys' models."""
    found: dict[str, set[str]] = {}
    root = Path(access.__file__).parents[1]
    for path in sorted((*root.glob("dialects/**/*.py"), *root.glob("page/*.py"))):
        for node in ast.walk(ast.parse(path.read_text())):
            inner = node.value if isinstance(node, ast.Attribute) else None
            name = inner.attr if isinstance(inner, ast.Attribute) else getattr(inner, "id", "")
            if name == "engine":
                where = str(path.relative_to(root)).removeprefix("dialects/")
                found.setdefault(where, set()).add(node.attr)
    assert found == AT_THE_ENGINE
