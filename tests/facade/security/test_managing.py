"""Who may load, unload and export: keys that may, from this machine, or nobody; web pages of others never."""

from __future__ import annotations

import asyncio

import pytest
from callers import BOTH, CLASSIFIER, DETECTOR, ask, bearer, key

pytestmark = pytest.mark.attack("ways past the key")
MANAGING = [
    ("POST", "/model/add"), ("POST", "/model/remove"), ("POST", "/model/clear"), ("GET", f"/start/{DETECTOR}/1"),
    ("GET", "/clear_cache"), ("GET", f"/model/verify/{DETECTOR}"),
]  # fmt: skip


@pytest.mark.parametrize("method, path", MANAGING)
def test_managing_needs_a_key_that_may_and_asking_does_not(house_of_keys, picture, method, path):
    house = house_of_keys()
    body = {"model_id": DETECTOR} if method == "POST" else None
    for who, status in ((None, 401), ("all", 403), ("detectors", 403)):
        answer = house.client.request(method, path, json=body, headers=bearer(who))
        assert answer.status_code == status and house.engine.loaded() == []
    for who in ("admin", "operator", "the-one"):
        assert house.client.request(method, path, json=body, headers=bearer(who)).status_code in (200, 404)
        assert house.client.request(method, path, json=body, headers=bearer(who)).status_code in (200, 404), "again"
    house.engine._loaded.clear()
    assert ask(house, picture, DETECTOR, "all").status_code == 200
    assert [model.id for model in house.engine.loaded()] == [DETECTOR], "asking loads"


@pytest.mark.parametrize("method, path", MANAGING)
@pytest.mark.parametrize("keys", [(), (key("admin", models=("**",), may=BOTH),)], ids=["no keys", "keys"])
def test_managing_can_be_closed_to_everybody_while_asking_stays_open(house_with, picture, method, path, keys):
    house = house_with(manage="none", keys=keys)
    body = {"model_id": DETECTOR} if method == "POST" else None
    assert house.client.request(method, path, json=body, headers=bearer("admin")).status_code == 403
    assert house.engine.loaded() == []
    assert ask(house, picture, DETECTOR, "admin").status_code == 200


def test_a_client_that_looks_before_it_asks_can_ask_where_managing_is_closed(house_with):
    """Roboflow's reads the registry, and adds a model that is missing there; ours adds it first, and goes on."""
    house = house_with(manage="none")
    listed = {model["model_id"] for model in house.client.get("/model/registry").json()["models"]}
    assert {DETECTOR, "coco/3", CLASSIFIER} <= listed and house.engine.loaded() == []
    asyncio.run(house.engine.load(DETECTOR))
    added = house.client.post("/model/add", json={"model_id": DETECTOR})
    assert added.status_code == 200, "of a loaded model nothing happens"


def test_managing_from_this_machine_only(house_with):
    house = house_with(manage="local")
    asking = house.client._transport
    for client, headers, status in (
        (("127.0.0.1", 5), {}, 200), (("::1", 5), {}, 200), (("192.168.1.7", 5), {}, 403), (("testclient", 5), {}, 403),
        (("127.0.0.1", 5), {"x-forwarded-for": "192.168.1.7"}, 403), (None, {}, 403),
    ):  # fmt: skip
        asking.client = client
        assert house.client.post("/model/clear", headers=headers).status_code == status, (client, headers)


def test_an_export_is_managing(house_with, picture, monkeypatch):
    """A model that is not published is not even looked for by an engine that would export it."""
    house, asked = house_with(keys=(key("all"), key("admin", may=BOTH))), []

    async def load(name, *, wait=True):
        asked.append(name)
        return house.engine.repository.resolve(name)

    monkeypatch.setattr(house.engine, "load", load)
    assert ask(house, picture, "yolov8s-640", "all").status_code == 404 and asked == []
    assert ask(house, picture, "yolov8s-640", "admin").status_code == 404 and asked == ["yolov8s-640"]
    told = {who: house.client.get("/models", headers=bearer(who)).json()["exports_missing"] for who in ("all", "admin")}
    assert told == {"all": False, "admin": True}


def test_who_manages_some_models_unloads_those(house_with):
    house = house_with(keys=(key("detectors", models=("yolov8*",), may=BOTH),))
    for model in (DETECTOR, CLASSIFIER):
        asyncio.run(house.engine.load(model))
    refused = house.client.post("/model/remove", json={"model_id": CLASSIFIER}, headers=bearer("detectors"))
    assert refused.status_code == 403
    assert house.client.post("/model/clear", headers=bearer("detectors")).status_code == 200
    assert [model.id for model in house.engine.loaded()] == [CLASSIFIER]


def test_any_page_may_ask_where_every_origin_is_trusted_and_none_manages_without_a_key(house_with, picture):
    foreign = {"origin": "https://evil.example", "sec-fetch-site": "cross-site", "content-type": "text/plain"}
    house = house_with(cors_origins=frozenset(("*", "https://mine.example")))
    asyncio.run(house.engine.load(DETECTOR))
    answer = house.client.post(f"/models/{DETECTOR}", content=picture, headers=foreign)
    assert answer.status_code == 200
    assert house.client.post("/model/clear", headers=foreign).status_code == 403
    assert house.client.post("/model/clear", headers=foreign | {"origin": "https://mine.example"}).status_code == 200
    assert house.client.post("/model/clear").status_code == 200, "a program"
    assert house.client.post("/model/clear", headers={"sec-fetch-site": "same-origin"}).status_code == 200
