"""Errors of OpenAI's routes: each has its status, its code and the dialect's body, before and during a stream."""

from __future__ import annotations

import json
import logging

import pytest
from chat_requests import CHAT, MODEL, ask, body, refusal

from tritonvision import errors

KEY = "k-1234567890"

TREE = [
    (errors.InvalidPicture(), 400), (errors.InvalidParameter(), 400), (errors.UnknownModel(), 404),
    (errors.PictureTooLarge(), 413), (errors.NotSupported(), 501), (errors.ServerUnavailable(), 502),
    (errors.ModelLoading(retry_after=4.2), 503), (errors.Overloaded(), 503), (errors.DeadlineExceeded(), 504),
    (errors.NoRoom(), 507), (errors.TritonVisionError("It failed."), 500),
]  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("error, status", TREE, ids=lambda value: getattr(value, "code", value))
def test_every_error_before_the_first_piece_has_its_status(house, error, status, stream):
    house.engine.failure = error
    answer = house.client.post(CHAT, json=body(stream=stream))
    told = answer.json()["error"]
    assert answer.status_code == status and told["message"] == error.message and isinstance(told["code"], str)
    assert told["type"] == ("server_error" if status >= 500 else "invalid_request_error")
    assert ("retry-after" in answer.headers) == (status == 503)
    # the client asks again after every 500 and over, unless it is told that this is of no use
    permanent = status >= 500 and not error.retryable
    assert (answer.headers.get("x-should-retry") == "false") == permanent


@pytest.mark.parametrize("failure, told", [
    (errors.ServerUnavailable("The process is lost."), "The process is lost."),
    (RuntimeError("/home/me/secret.py"), "Internal error."),
])  # fmt: skip
def test_an_error_in_the_middle_is_the_last_event(house, caplog, failure, told):
    house.engine.late_failure = failure
    with caplog.at_level(logging.ERROR):
        answer = house.client.post(CHAT, json=body(stream=True))
    assert answer.status_code == 200 and "[DONE]" not in answer.text and "secret" not in answer.text
    *sent, last, nothing = answer.text.split("\n\n")
    assert [json.loads(e[6:])["choices"][0]["delta"]["content"] for e in sent] == ["", "A cat"] and nothing == ""
    error = json.loads(last.removeprefix("data: "))["error"]
    assert error["message"] == told and error["type"] == "server_error" and error["code"]
    assert bool(caplog.records) == isinstance(failure, RuntimeError)
    assert all(answer.headers["x-request-id"] in record.getMessage() for record in caplog.records)
    house.engine.late_failure = None
    ask(house)


def test_an_error_in_the_middle_of_an_answer_in_one_piece_is_a_status(house):
    house.engine.late_failure = errors.ServerUnavailable("The process is lost.")
    assert refusal(house)[0] == 502
    house.engine.late_failure = RuntimeError("secret")
    status, error = refusal(house)
    assert status == 500 and error["message"] == "Internal error."


def test_unknown_routes_and_wrong_methods_have_the_dialects_form(house):
    for method, path, status in (
        ("GET", "/v1/x", 404), ("POST", "/v1/completions", 404), ("GET", CHAT, 405), ("GET", "/v1", 404),
        ("POST", "/v1/models", 405), ("GET", "/v1/a/b/c/d", 404),
    ):  # fmt: skip
        answer = house.client.request(method, path)
        assert answer.status_code == status and isinstance(answer.json()["error"]["message"], str), path


def test_a_missing_key_is_refused_in_the_dialects_form(house_with):
    house = house_with(api_key=KEY)
    for headers in ({}, {"authorization": "Bearer wrong"}):
        for answer in (
            house.client.post(CHAT, json=body(), headers=headers), house.client.get("/v1/models", headers=headers),
            house.client.get(f"/v1/models/{MODEL}", headers=headers),
        ):  # fmt: skip
            assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
            error = answer.json()["error"]
            assert (error["type"], error["code"]) == ("authentication_error", "invalid_api_key")
            assert isinstance(error["message"], str)
    assert house.client.post(CHAT, json=body(), headers={"authorization": f"Bearer {KEY}"}).status_code == 200
    assert house.client.get("/v1/health/live").status_code == house.client.get("/v1/health/ready").status_code == 200
