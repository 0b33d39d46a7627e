"""Requests that a foreign web page can make a visitor's browser send have no effect."""

from __future__ import annotations

import pytest

DETECTOR = "yolov8n-640"
FOREIGN = [
    {"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"}, {"origin": "http://testserver:3000"},
    {"origin": "http://testserver", "sec-fetch-site": "cross-site"},
]  # fmt: skip
ACTS = [
    ("POST", "/model/add"), ("POST", "/model/clear"), ("POST", "/model/remove"), ("GET", "/clear_cache"),
    ("GET", f"/start/{DETECTOR}/1"), ("GET", "/coco/36?image=https://x/y.jpg"), ("POST", f"/models/{DETECTOR}"),
    ("POST", "/v1/chat/completions"),
]  # fmt: skip


@pytest.mark.attack("pages of strangers")
@pytest.mark.parametrize("headers", FOREIGN, ids=str)
@pytest.mark.parametrize("method, path", ACTS)
def test_a_foreign_page_can_make_nothing_happen(house, picture, method, path, headers):
    kind = {"content-type": "text/plain"}  # which a browser sends without asking first
    content = b'{"model_id": "%s"}' % DETECTOR.encode()
    answer = house.client.request(method, path, headers={**kind, **headers}, content=content)
    assert answer.status_code == 403 and answer.headers["x-request-id"]
    assert house.engine.loaded() == [] and house.engine.asked == []


@pytest.mark.parametrize("headers", [
    {}, {"sec-fetch-site": "same-origin"}, {"sec-fetch-site": "none"}, {"origin": "http://testserver"},
], ids=str)  # fmt: skip
def test_programs_the_address_bar_and_the_servers_page_are_allowed(house, headers):
    assert house.client.post("/model/clear", headers=headers).status_code == 200


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_pages_without_side_effects_can_be_linked_to(house, headers):
    for path in ("/", "/docs", "/info", "/healthz"):
        assert house.client.get(path, headers=headers).status_code == 200


def test_configured_origins_are_allowed(house_with):
    house = house_with(cors_origins=frozenset(("https://mine.example",)))
    cross = {"sec-fetch-site": "cross-site"}
    assert house.client.post("/model/clear", headers={"origin": "https://mine.example", **cross}).status_code == 200
    assert house.client.post("/model/clear", headers={"origin": "https://evil.example", **cross}).status_code == 403


@pytest.mark.parametrize("listening, host, status", [
    ("127.0.0.1", "evil.example", 403), ("127.0.0.1", "evil.example:9001", 403), ("127.0.0.1", "localhost.evil.x", 403),
    ("127.0.0.1", "[::1", 403), ("127.0.0.1", "localhost:9001", 200), ("127.0.0.1", "LOCALHOST", 200),
    ("127.0.0.1", "127.0.0.1:9001", 200), ("127.0.0.1", "[::1]:9001", 200), ("localhost", "evil.example", 403),
    ("0.0.0.0", "gpu-box.lan:9001", 200), ("::1", "evil.example", 403),
])  # fmt: skip
@pytest.mark.attack("pages of strangers")
def test_on_loopback_the_server_has_the_names_of_this_machine(house_with, listening, host, status):
    house = house_with(host=listening, allowed_hosts=frozenset())
    assert house.client.get("/info", headers={"host": host}).status_code == status


def test_names_in_the_settings_count_everywhere(house_with):
    house = house_with(host="0.0.0.0", allowed_hosts=frozenset(("models.example",)))
    assert house.client.get("/info", headers={"host": "Models.Example:80"}).status_code == 200
    assert house.client.get("/info", headers={"host": "evil.example"}).status_code == 403
