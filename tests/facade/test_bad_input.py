"""Bad input at every route with a body: each dialect's own status and form of errors, and the next request is served.

The routes, and a valid body for each, come from the application's OpenAPI description, so new routes are included.
"""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest
from callers import BOTH, bearer, key
from posted_routes import ASKED, HOLES, JSON, NAMED, NAMES, POSTED, UNREADABLE, WAIT, Route, assert_told, paths

from tritonvision.facade.dialects.registry import OPEN_PATHS
from tritonvision.facade.dialects.roboflow.routes.tasks import NOT_YET

PICTURED = [route for route in JSON if {"image", "inputs"} & route.body.keys() and route.dialect != "kserve"]
# One picture a request; the others take an array and answer with one.
SINGLE = {
    "/infer/depth-estimation", "/infer/depth-estimation/{model_id}", "/infer/lmm", "/infer/lmm/{model_id}",
    "/ocr/trocr", "/sam/embed_image", "/sam/segment_image", "/sam2/embed_image", "/sam2/segment_image",
}  # fmt: skip


def each(routes: list[Route]):
    return pytest.mark.parametrize("route", routes, ids=repr)


def assert_served(house, route: Route) -> None:
    assert route.post(house, route.body).status_code == 200


def invalid(route: Route) -> int:
    """The status for a body that does not fit its schema."""
    return 422 if route.dialect == "roboflow" else 400


def test_there_are_routes_of_every_kind():
    assert len(POSTED) > 30 and len(ASKED) > 20 and len(PICTURED) > 15
    assert {route.dialect for route in ASKED} == {"roboflow", "huggingface", "openai", "vi", "kserve"}
    told = {route.template for route in POSTED if route.body is None}
    assert told == {*NOT_YET, "/model/clear", "/v2/repository/index"}, "a route without a body that works"


@each(ASKED)
def test_every_route_of_the_description_is_served(shared_house, route):
    assert_served(shared_house, route)


# ---- bodies ----------------------------------------------------------------------------------------------------------


@pytest.mark.attack("JSON nested deeply")
@each(JSON)
@pytest.mark.parametrize("content", [
    b"", b"{", b"[1,", b'{"a": NaN}', b"\xff\xfe", b"[" * 100_000, b"[]", b'"text"', b"5", b"null",
], ids=lambda content: repr(content[:12]))  # fmt: skip
def test_a_body_that_is_no_json_object_is_refused(shared_house, route, content):
    answer = shared_house.client.post(
        route.path, content=content, headers={"content-type": "application/json", **WAIT}
    )  # fmt: skip
    assert_told(answer, route, invalid(route))


@each(JSON)
def test_a_field_of_the_wrong_type_is_refused_and_repeated_nowhere(shared_house, route):
    for name in route.body.keys() & route.fields.keys():
        for wrong in ({"secret": "secret-value"}, [{"secret": "secret-value"}], [["secret-value"]]):
            answer = route.post(shared_house, route.body | {name: wrong, "api_key": "secret-key"})
            if answer.status_code != 200:  # an object is a name and a prompt, a list of texts two
                assert_told(answer, route, 400, 422)
            else:
                assert route.template.endswith("/compare") and name == "prompt"
            assert "secret-value" not in answer.text and "secret-key" not in answer.text
    assert_served(shared_house, route)


@each(JSON)
def test_a_body_without_what_it_needs_is_refused(shared_house, route):
    for name in route.required:
        for body in ({n: v for n, v in route.body.items() if n != name}, route.body | {name: None}):
            assert_told(route.post(shared_house, body), route, invalid(route))
    if route.dialect != "huggingface":
        return
    for body in ({}, {"inputs": None}, {"inputs": 5}, {"inputs": {}}, {"parameters": {}}):
        assert_told(route.post(shared_house, body), route, 400)


def _is_a_list(schema: dict[str, Any]) -> bool:
    return schema.get("type") == "array" or any(map(_is_a_list, schema.get("anyOf", ())))


@pytest.mark.attack("endless lists")
@each(JSON)
@pytest.mark.parametrize("element", [1, {}, [1], "a"], ids=str)
def test_an_endless_list_is_refused_in_a_short_answer(shared_house, route, element):
    lists = [name for name, schema in route.fields.items() if _is_a_list(schema)]
    for name in lists or (["inputs"] if route.dialect == "huggingface" else []):
        answer = route.post(shared_house, route.body | {name: [element] * 10_000})
        assert_told(answer, route, 400, 422)
        assert len(answer.content) < 5_000, name


@each(JSON)
def test_no_refusal_repeats_a_long_text(shared_house, route):
    others = ("task_type", "prompt", "text", "inputs", "image", "id", "sam_version_id", "image_id")
    for name in (*NAMES, *others):
        answer = route.post(shared_house, route.body | {name: "x" * 100_000})
        assert answer.status_code == 200 or len(answer.content) < 5_000, name


# ---- pictures --------------------------------------------------------------------------------------------------------


def _with(route: Route, picture: Any) -> dict[str, Any]:
    return route.body | {"inputs" if route.dialect == "huggingface" else "image": picture}


def _picture(route: Route) -> Any:
    return route.body.get("image", route.body.get("inputs"))


@each(PICTURED)
def test_a_request_without_its_picture_is_refused(shared_house, route):
    assert_told(route.post(shared_house, _with(route, None)), route, 400, 422)


@each(PICTURED)
def test_what_is_no_picture_is_refused(shared_house, route):
    for text in ("bm8gcGljdHVyZQ==", "%%% no base64 %%%", ""):
        picture = text if route.dialect == "huggingface" else {"type": "base64", "value": text}
        told = assert_told(route.post(shared_house, _with(route, picture)), route, 400)
        assert told.startswith(UNREADABLE) == (route.dialect == "roboflow")
    if route.dialect == "roboflow":
        for kind in ("file", "telepathy"):
            told = assert_told(
                route.post(shared_house, _with(route, {"type": kind, "value": "/etc/passwd"})), route, 400
            )
            assert told.startswith(UNREADABLE) and "passwd" not in told
    assert_served(shared_house, route)


@each(PICTURED)
def test_two_pictures_are_two_answers_or_refused_where_one_is_allowed(shared_house, route):
    answer = route.post(shared_house, _with(route, [_picture(route)] * 2))
    if route.template in SINGLE or route.dialect == "huggingface":
        assert_told(answer, route, 400, 422)
    else:
        found = answer.json()
        assert answer.status_code == 200
        assert len(found["embeddings"] if isinstance(found, dict) else found) == 2


@each(PICTURED)
def test_an_array_of_one_is_an_array_of_one_and_an_empty_one_is_refused(shared_house, route):
    answer = route.post(shared_house, _with(route, [_picture(route)]))
    if route.template in SINGLE or route.dialect == "huggingface":
        assert_told(answer, route, 400, 422)
    else:
        found = answer.json()
        assert len(found["embeddings"] if isinstance(found, dict) else found) == 1
    assert_told(route.post(shared_house, _with(route, [])), route, 400, 422)


@pytest.mark.attack("many pictures in one request")
@each([route for route in PICTURED if route.template not in SINGLE and route.dialect == "roboflow"])
def test_a_batch_over_the_limit_is_refused(whole_house_with, route):
    house = whole_house_with(max_batch=2)
    assert_told(route.post(house, _with(route, [_picture(route)] * 3)), route, 400)
    assert route.post(house, _with(route, [_picture(route)] * 2)).status_code == 200


def test_a_form_of_two_files_is_refused(shared_house, picture):
    (legacy,) = [route for route in ASKED if route.legacy]
    two = [("file", ("a.jpg", picture)), ("file", ("b.jpg", picture))]
    assert_told(shared_house.client.post(legacy.path, files=two), legacy, 400)


@pytest.mark.attack("many pictures in one request")
def test_pictures_of_a_conversation_are_counted(whole_house_with):
    (chat,) = [route for route in ASKED if route.dialect == "openai" and "messages" in route.body]
    house = whole_house_with(max_batch=1)
    body = copy.deepcopy(chat.body)
    body["messages"][0]["content"] += body["messages"][0]["content"][:1]
    assert_told(chat.post(house, body), chat, 400)
    assert_served(house, chat)


# ---- models ----------------------------------------------------------------------------------------------------------


def _of(house, route: Route, model: str, headers: Mapping[str, str] = MappingProxyType({})):
    """The answer of the route when ``model`` is asked."""
    if "{model}" in route.template:
        path = route.template.replace("{task}", HOLES["{task}"]).replace("{model}", model)
        return house.client.post(path, json=route.body, headers={**WAIT, **headers})
    name = next(name for name in NAMES if name in route.fields)
    path = route.template.replace("{model_id}", model)
    return house.client.post(path, json=route.body | {name: model}, headers=dict(headers))


@each([route for route in NAMED if route.template != "/model/remove"])  # what is not there need not be removed
def test_an_unknown_model_is_a_404_and_an_invalid_id_an_error(shared_house, route):
    for name in ("nobody/1", "nobody", "work/nobody/1"):
        assert "nobody" in assert_told(_of(shared_house, route, name), route, 404)
    for name in ("a b", "a--b", "x" * 500, "a/b/c/d"):
        assert_told(_of(shared_house, route, name), route, 400 if route.dialect == "roboflow" else 404)
    told = assert_told(_of(shared_house, route, "yolov8s-640"), route, 404)
    assert "tritonvision export yolov8s-640" in told


@each([route for route in NAMED if not route.template.startswith("/model/")])
def test_a_task_that_the_model_does_not_do_is_refused(shared_house, route):
    every_class = "classif" in route.template or route.template == "/infer/embeddings"
    other = "yolov8n-640" if every_class else "resnet18"
    if route.template == "/models/{model}":  # whatever the model does
        return
    told = assert_told(_of(shared_house, route, other), route, 400)
    assert other in told and "does" in told


def test_a_model_that_the_legacy_route_cannot_draw_or_name_is_refused(shared_house):
    (legacy,) = [route for route in ASKED if route.legacy]
    for path, status in (("/nobody/1", 404), ("/clip/RN50", 404), ("/pretrained/smolvlm-256m", 400)):
        answer = shared_house.client.post(path, content=legacy.body, headers={"content-type": "text/plain"})
        assert_told(answer, legacy, status)


# ---- keys ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keyed_house(shared_house_with):
    """A key for models that are not there, and for each route one that may send one request in ten seconds."""
    slow = [key(f"slow-{i}", rate=0.1, may=BOTH) for i in range(len(ASKED))]
    return shared_house_with(keys=(key("other", models=("other/*",)), *slow))


@pytest.mark.attack("ways past the key")
@pytest.mark.parametrize("path", sorted(set(paths()) - OPEN_PATHS))
def test_a_missing_or_wrong_key_is_a_401_at_every_route(whole_house_with, path):
    house = whole_house_with(api_key="right")
    for method, operation in paths()[path].items():
        route = Route(path, operation)
        url = route.path or path
        for sent in (
            {}, {"params": {"api_key": "wrong"}}, {"headers": {"authorization": "Bearer wrong"}},
            {"params": {"api_key": "None"}}, {"headers": {"authorization": "right"}},
        ):  # fmt: skip
            answer = house.client.request(method, url, **sent)
            told = assert_told(answer, route, 401)
            assert answer.headers["www-authenticate"] == "Bearer"
            assert "right" not in told and "wrong" not in told
        for sent in ({"params": {"api_key": "right"}}, {"headers": {"authorization": "Bearer right"}}):
            assert house.client.request(method, url, **sent).status_code != 401


@pytest.mark.attack("ways past the key")
@each(ASKED)
def test_a_key_for_other_models_is_a_403_whether_the_model_is_there_or_not(keyed_house, route):
    engine, headers = keyed_house.engine, bearer("other")
    before = [list(seen) for seen in (engine.asked, engine.samples, engine.chats, engine.loaded())]
    told = assert_told(route.post(keyed_house, route.body, headers=dict(headers)), route, 403)
    assert "API key" in told and "other" not in told
    if route in NAMED:
        told = assert_told(_of(keyed_house, route, "nobody/1", headers), route, 403)
        assert "tritonvision export" not in told
    assert before == [list(seen) for seen in (engine.asked, engine.samples, engine.chats, engine.loaded())]


@pytest.mark.attack("ways past the key")
@each(ASKED)
def test_over_the_keys_rate_is_a_429_that_says_when_to_come_back(keyed_house, route):
    headers = bearer(f"slow-{ASKED.index(route)}")
    assert route.post(keyed_house, route.body, headers=dict(headers)).status_code == 200
    answer = route.post(keyed_house, route.body, headers=dict(headers))
    assert "0.1 requests a second" in assert_told(answer, route, 429)
    assert 1 <= int(answer.headers["retry-after"]) <= 330


@each(JSON)
def test_a_key_in_the_body_counts_after_one_in_the_query(whole_house_with, route):
    house = whole_house_with(api_key="right")
    assert route.post(house, route.body | {"api_key": "right"}).status_code == 200
    for wrong in ("wrong", None, "", 5, ["right"]):
        assert_told(route.post(house, route.body | {"api_key": wrong}), route, 401)
    assert_told(route.post(house, route.body | {"api_key": "right"}, params={"api_key": "wrong"}), route, 401)
    bearer = {"authorization": "Bearer right"}
    assert route.post(house, route.body | {"api_key": "wrong"}, headers=dict(bearer)).status_code == 200
    assert_told(
        route.post(house, route.body, headers=dict(bearer), params={"api_key": "wrong"}), route, 401
    )  # fmt: skip


# ---- bytes -----------------------------------------------------------------------------------------------------------


@pytest.mark.attack("bodies over the limit")
@each(ASKED)
def test_a_body_over_the_limit_is_a_413_announced_or_in_chunks(whole_house_with, route):
    house = whole_house_with(max_body_bytes=3000)
    body = route.body if route.legacy else json.dumps(route.body)
    large = body.encode() + b" " * 3000
    headers = {"content-type": "application/json"}
    for content in (large, iter([large[:2500], large[2500:]])):
        assert "limit" in assert_told(house.client.post(route.path, content=content, headers=headers), route, 413)
    assert_served(house, route)


# ---- callers who hang up ---------------------------------------------------------------------------------------------


@each([route for route in ASKED if not route.template.startswith("/model/")])
def test_disconnecting_cancels_the_work(shared_house, route, hold):
    engine = shared_house.engine
    before = engine.cancelled

    headers = {"host": "localhost", "content-type": "application/json", **WAIT}

    async def hang_up() -> list[int]:
        held = hold(engine)
        body = (route.body if route.legacy else json.dumps(route.body)).encode()
        messages = iter([{"type": "http.request", "body": body, "more_body": False}])
        statuses: list[int] = []

        async def receive():
            message = next(messages, None)
            if message is None:
                await held.reached.wait()
                return {"type": "http.disconnect"}
            return message

        async def send(message):
            statuses.append(message.get("status", 0))

        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
            "path": route.path, "raw_path": route.path.encode(), "query_string": b"", "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
        }  # fmt: skip
        async with asyncio.timeout(5):
            await shared_house.client.app(scope, receive, send)
        return statuses

    try:
        assert 200 not in asyncio.run(hang_up())
    finally:
        engine.held = None
    assert engine.cancelled == before + 1
    assert shared_house.client.app.state.service.admission.pictures == 0
    assert_served(shared_house, route)
