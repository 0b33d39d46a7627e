"""The WebSocket of streams: frames and prompts in, masks out, errors in a sentence, and who may open one."""

from __future__ import annotations

import base64

import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from tritonvision.errors import InvalidParameter, Overloaded
from tritonvision.facade.dialects.native import streams

MODEL = "sam2-rt-tiny"
PATH = f"/streams/{MODEL}"
BOX = {"boxes": [[2, 3, 20, 15]], "box_objects": [3]}


def text(picture):
    return base64.b64encode(picture).decode()


def test_objects_are_prompted_and_followed_frame_by_frame(house, picture):
    asked = house.engine.streams.asked
    with house.client.websocket_connect(PATH) as socket:
        socket.send_json({"image": text(picture), **BOX})
        first = socket.receive_json()
        assert first["frame"] == 0 and first["state_bytes"] == 1000 and first["time"] >= 0
        (one,) = first["objects"]
        assert one["object_id"] == 3 and one["confidence"] == 0.75 and one["mask"]["size"] == [30, 40]
        socket.send_bytes(picture)
        assert socket.receive_json()["frame"] == 1
        socket.send_json({"frame": 0, "points": [[3, 4]], "mask_format": "polygon"})
        (one,) = socket.receive_json()["objects"]
        assert one["outline"][0] == [5, 5] and "mask" not in one
    assert [(model, frame, stream) for model, frame, _, stream in asked] == [
        (MODEL, picture, None), (MODEL, picture, 1), (MODEL, None, 1),
    ]  # fmt: skip
    assert asked[0][2]["boxes"] == BOX["boxes"] and asked[2][2]["frame"] == 0
    assert house.engine.streams.ended == [1], "it ends with the connection"


@pytest.mark.parametrize("message, sentence", [
    ("no json", "JSON"), ("[1]", "object of settings"), ('{"image": 7}', "base64"), ('{"image": "aGVsbG8="}', ""),
    ('{"nothing": 1}', "nothing"), ('{"boxes": [[1, 2, 3]]}', "boxes"), ("{}", "nothing to follow"),
])  # fmt: skip
def test_what_is_refused_is_told_and_the_connection_goes_on(house, picture, message, sentence):
    with house.client.websocket_connect(PATH) as socket:
        socket.send_text(message)
        told = socket.receive_json()
        assert told.keys() == {"error", "hint", "code"} and told["error"] and sentence in told["error"]
        socket.send_bytes(b"no picture")
        assert socket.receive_json()["code"] == "invalid_picture"
        socket.send_json({"image": text(picture), **BOX})
        assert socket.receive_json()["frame"] == 0


def test_a_refused_request_leaves_the_stream_and_a_lost_stream_begins_again(house, picture):
    plane = house.engine.streams
    with house.client.websocket_connect(PATH) as socket:
        socket.send_json({"image": text(picture), **BOX})
        socket.receive_json()
        plane.failure = InvalidParameter("The frame 0 is forgotten.")
        socket.send_json({"frame": 0, **BOX})
        assert "forgotten" in socket.receive_json()["error"]
        socket.send_bytes(picture)
        assert socket.receive_json()["frame"] == 1
        plane.failure = InvalidParameter("The stream 1 is not known here.")
        plane.open.clear()
        socket.send_bytes(picture)
        assert "not known" in socket.receive_json()["error"]
        socket.send_json({"image": text(picture), **BOX})
        assert socket.receive_json()["frame"] == 0
    assert [stream for *_, stream in plane.asked] == [None, 1, 1, 1, None]


def test_without_room_for_one_more_stream_that_is_told(house, picture):
    house.engine.streams.failure = Overloaded("All 16 streams of 'm' are in use.", hint="End one of them.")
    with house.client.websocket_connect(PATH) as socket:
        socket.send_json({"image": text(picture), **BOX})
        told = socket.receive_json()
        assert told == {"error": "All 16 streams of 'm' are in use.", "hint": "End one of them.", "code": "overloaded"}


def test_when_to_ask_again_is_told_where_other_routes_have_a_header_for_it(house, picture):
    house.engine.streams.failure = Overloaded("The server is answering as many pictures as it can.", retry_after=2.0)
    with house.client.websocket_connect(PATH) as socket:
        socket.send_json({"image": text(picture), **BOX})
        assert socket.receive_json()["hint"] == "Ask again in 2 s."


def test_a_connection_on_which_nothing_is_sent_is_closed(house, picture, monkeypatch):
    monkeypatch.setattr(streams, "IDLE_SECONDS", 0.1)
    with house.client.websocket_connect(PATH) as socket:
        socket.send_json({"image": text(picture), **BOX})
        socket.receive_json()
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_json()
    assert closed.value.code == 1008 and house.engine.streams.ended == [1]


def closed_by(client: TestClient, path: str, **options):
    with pytest.raises(WebSocketDisconnect) as refused, client.websocket_connect(path, **options) as socket:
        socket.receive_json()
    return refused.value


@pytest.mark.parametrize("headers", [
    {"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"},
], ids=str)  # fmt: skip
def test_a_foreign_page_cannot_open_one(house, headers):
    assert "other origins" in closed_by(house.client, PATH, headers=headers).reason
    assert not house.engine.streams.asked


def test_a_key_is_asked_for_where_one_is_required(house_with, picture):
    house = house_with(api_key="secret")
    assert "API key" in closed_by(house.client, PATH).reason
    assert "api_key" in closed_by(house.client, f"{PATH}?api_key=wrong").reason
    for path, headers in ((f"{PATH}?api_key=secret", {}), (PATH, {"authorization": "Bearer secret"})):
        with house.client.websocket_connect(path, headers=headers) as socket:
            socket.send_json({"image": text(picture), **BOX})
            assert socket.receive_json()["frame"] == 0


def test_a_name_that_no_model_can_have_is_refused(house):
    assert closed_by(house.client, "/streams/a%20b").code == 1008


def test_what_goes_wrong_inside_is_not_told(house, monkeypatch):
    async def step(*_):
        raise RuntimeError("inner words")

    monkeypatch.setattr(house.engine.streams, "step", step)
    with house.client.websocket_connect(PATH) as socket:
        socket.send_json({"boxes": [[1, 2, 3, 4]]})
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_json()
    assert closed.value.reason == "Internal error."


def test_each_message_is_a_request_in_the_metrics(house, picture):
    with house.client.websocket_connect(PATH) as socket:
        socket.send_json({"image": text(picture), **BOX})
        socket.receive_json()
        socket.send_text("no json")
        socket.receive_json()
    told = house.client.get("/metrics").text
    for status, outcome in ((200, "ok"), (400, "refused")):
        labels = f'dialect="native",model="",outcome="{outcome}",status="{status}"'
        assert f"tritonvision_requests_total{{{labels}}} 1.0" in told, "its model is not published here"
