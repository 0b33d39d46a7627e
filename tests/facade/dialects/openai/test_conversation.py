"""The messages, pictures and settings of chat requests, and which of them are refused."""

from __future__ import annotations

import base64

import pytest
from chat_requests import CHAT, MODEL, ask, body, data_url, image, refusal, text, user

from tritonvision import errors, tasks


def test_messages_parts_and_pictures_keep_their_order(house, picture):
    other = picture + b" another"
    ask(
        house, {"role": "system", "content": "Be short."}, {"role": "developer", "content": [text("Be kind.")]},
        user(image(data_url(picture), detail="low"), text("and"), image(data_url(other, "png"))),
        {"role": "assistant", "content": "Two pictures."}, {"role": "user", "content": "And now?", "name": "me"},
    )  # fmt: skip
    (model, messages, pictures, _) = house.engine.chats[0]
    assert (model, pictures) == (MODEL, [picture, other])
    assert messages == [
        {"role": "system", "content": [text("Be short.")]},
        {"role": "system", "content": [text("Be kind.")]},
        {"role": "user", "content": [{"type": "image", "detail": "low"}, text("and"), {"type": "image"}]},
        {"role": "assistant", "content": [text("Two pictures.")]},
        {"role": "user", "content": [text("And now?")]},
    ]


def test_prompts_without_a_picture_and_pictures_without_a_prompt_reach_the_model(house, picture):
    ask(house, user("Say something."))
    ask(house, user(image(data_url(picture))))
    assert [len(pictures) for _, _, pictures, _ in house.engine.chats] == [0, 1]
    house.engine.failure = errors.InvalidParameter("The prompt is 9000 tokens long; the model reads 8192.")
    for stream in (False, True):
        status, error = refusal(house, user("long " * 9000), stream=stream)
        assert status == 400 and error["message"].startswith("The prompt is 9000") and error["code"]
        assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize("given, meant", [
    ({}, {"max_new_tokens": 512, "temperature": 0.0, "top_p": 1.0, "top_k": 0, "seed": None, "stop": None}),
    ({"max_tokens": 5}, {"max_new_tokens": 5}),
    ({"max_completion_tokens": 6, "max_tokens": 5}, {"max_new_tokens": 6}),
    ({"temperature": 0.7, "top_p": 0.9, "seed": 11}, {"temperature": 0.7, "top_p": 0.9, "seed": 11}),
    ({"seed": -1}, {"seed": None}), ({"seed": -2}, {"seed": 2**63 - 2}), ({"seed": -(2**63)}, {"seed": 0}),
    ({"top_k": 40, "repetition_penalty": 1.1}, {"top_k": 40, "repetition_penalty": 1.1}),
    ({"top_k": -1}, {"top_k": 0}),
    ({"stop": "\n"}, {"stop": ["\n"]}), ({"stop": ["a", "", "b"]}, {"stop": ["a", "b"]}),
    ({"stop": ""}, {"stop": None}), ({"stop": []}, {"stop": None}),
    ({"temperature": None, "max_tokens": None, "stop": None}, {"temperature": 0.0}),
    ({"logprobs": True}, {"top_logprobs": 0}), ({"logprobs": True, "top_logprobs": 20}, {"top_logprobs": 20}),
    ({"logprobs": False, "top_logprobs": 0}, {"top_logprobs": None}),
    ({"response_format": {"type": "json_object"}}, {"schema": {"type": "object"}}),
    ({"response_format": {"type": "text"}}, {"schema": None}),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "null"}}}},
     {"schema": {"type": "null"}}),
])  # fmt: skip
def test_settings_reach_the_model(house, given, meant):
    ask(house, **given)
    settings = house.engine.chats[0][3]
    assert {name: settings[name] for name in meant} == meant
    assert settings["auto_orient"] is True and settings.keys() == {p.name for p in tasks.VLM.parameters}


@pytest.mark.parametrize("fields", [
    {"n": 1}, {"logprobs": False}, {"top_logprobs": 0}, {"presence_penalty": 0}, {"frequency_penalty": 0.0},
    {"logit_bias": {}}, {"tools": []}, {"tool_choice": "none"}, {"modalities": ["text"]}, {"n": None},
    {"response_format": {"type": "text"}}, {"user": "me"}, {"metadata": {}}, {"store": False}, {"nvext": {"x": 1}},
    {"chat_template_kwargs": {"a": 1}}, {"parallel_tool_calls": True}, {"anything": [1, 2]}, {"logprobs": None},
    {"stream_options": None}, {"stream": None},
])  # fmt: skip
def test_neutral_values_and_unknown_fields_are_accepted(house, fields):
    ask(house, **fields)


@pytest.mark.parametrize("fields", [
    {"n": 2}, {"n": 0}, {"n": "many"}, {"top_logprobs": 3}, {"presence_penalty": 0.5},
    {"frequency_penalty": -1}, {"logit_bias": {"50256": -100}}, {"tools": [{"type": "function"}]},
    {"tool_choice": "required"}, {"functions": [{}]}, {"function_call": {"name": "f"}},
    {"modalities": ["text", "audio"]}, {"audio": {"voice": "a"}}, {"response_format": {"type": "xml"}},
    {"response_format": {"type": "json_schema"}}, {"response_format": {"type": "json_schema", "json_schema": {}}},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": ["x" * 70_000]}}}},
])  # fmt: skip
def test_unsupported_fields_are_refused_with_a_sentence(house, fields):
    for stream in (False, True):
        status, error = refusal(house, **fields, stream=stream)
        assert status == 400 and error["message"].count(".") >= 1
    assert house.engine.chats == []


@pytest.mark.parametrize("fields, word", [
    ({"temperature": 2.5}, "temperature"), ({"temperature": -1}, "temperature"), ({"top_p": 1.5}, "top_p"),
    ({"max_tokens": 0}, "max_tokens"), ({"max_completion_tokens": 10**9}, "max_completion_tokens"),
    ({"seed": 2**63}, "seed"), ({"seed": 0.5}, "seed"),
    ({"repetition_penalty": 0}, "repetition_penalty"), ({"top_k": -2}, "top_k"),
    ({"stop": ["x"] * 10_000}, "stop"), ({"temperature": "hot"}, "temperature"), ({"stop": 5}, "stop"),
    ({"stop": [5]}, "stop"), ({"max_tokens": 1.5}, "max_tokens"), ({"messages": "hello"}, "messages"),
    ({"max_tokens": 1e308}, "max_tokens"), ({"max_tokens": 10**30}, "max_tokens"), ({"max_tokens": -1}, "max_tokens"),
    ({"messages": ["hello"]}, "messages"), ({"model": 5}, "model"), ({"stream": "perhaps"}, "stream"),
    ({"response_format": "json"}, "response_format"), ({"logprobs": "some"}, "logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"stream_options": 5}, "stream_options"),
])  # fmt: skip
def test_settings_out_of_range_or_of_the_wrong_type_are_named(house, fields, word):
    answer = house.client.post(CHAT, json=body() | fields)
    error = answer.json()["error"]
    assert answer.status_code == 400 and word in error["message"], answer.text
    assert error["param"] is None or error["param"].split(".")[0] == word
    assert house.engine.chats == []


@pytest.mark.parametrize("message", [
    {"role": "tool", "content": "x", "tool_call_id": "1"}, {"role": "x" * 500, "content": "x"},
    {"role": "user", "content": None}, {"role": "system", "content": None}, {"role": "user"}, {"content": "x"},
    {"role": "user", "content": 5}, {"role": "user", "content": ["x"]}, {"role": "user", "content": [{}]},
    {"role": "user", "content": [{"type": "text"}]}, {"role": "user", "content": [{"type": "text", "text": 5}]},
    {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": ""}}]},
    {"role": "user", "content": [{"type": ["image_url"]}]},
])  # fmt: skip
def test_messages_that_cannot_be_read_are_refused(house, message):
    status, error = refusal(house, message)
    assert status == 400 and len(error["message"]) < 300
    assert house.engine.chats == []


def test_no_message_is_refused(house):
    answer = house.client.post(CHAT, json={"model": MODEL, "messages": []})
    assert answer.status_code == 400 and "message" in answer.json()["error"]["message"]
    for fields in ({"model": MODEL}, {"messages": [user("x")]}):
        answer = house.client.post(CHAT, json=fields)
        assert answer.status_code == 400 and answer.json()["error"]["param"] in ("model", "messages")


@pytest.mark.parametrize("url", [
    "file:///etc/passwd", "/etc/passwd", "etc/passwd", "FILE:/etc/passwd", "ftp://example.com/a.jpg", "", None, 5,
    "http://example.com/a.jpg", "https://127.0.0.1/a.jpg", "https://10.0.0.1/a.jpg", "data:text/plain;base64,AAAA",
    "data:image/jpeg,AAAA", "data:image/jpeg;base64,", "data:image/jpeg;base64,bm8gcGljdHVyZQ==", "data:", "image",
    "data:image/" + "x" * 5000,
])  # fmt: skip
def test_unreadable_and_unreachable_pictures_are_refused(house, url):
    for part in (image(url), {"type": "image_url", "image_url": url}):
        status, error = refusal(house, user(text("x"), part))
        assert status == 400 and error["code"] == "invalid_picture" and len(error["message"]) < 300
    assert house.engine.chats == []


@pytest.mark.parametrize("said, meant", [
    ({"content": None}, ""), ({"content": None, "tool_calls": []}, ""), ({}, ""), ({"content": ""}, ""),
    ({"content": None, "refusal": "I cannot."}, "I cannot."), ({"content": "Yes.", "refusal": None}, "Yes."),
])  # fmt: skip
def test_content_of_the_assistant_may_be_null(house, said, meant):
    ask(house, user("Hello"), {"role": "assistant", **said}, user("Again"))
    ((_, messages, _, _),) = house.engine.chats
    assert messages[1] == {"role": "assistant", "content": [{"type": "text", "text": meant}]}


def test_a_pictures_format_follows_from_its_bytes_not_from_its_url(house, picture):
    for kind in ("jpeg", "JPG", "png", "webp", "gif", "svg+xml"):
        ask(house, user(image(data_url(picture, kind))))
    plain = base64.b64encode(picture).decode()
    for prefix in ("data:application/octet-stream;base64,", "data:;base64,", " \ndata:image/png;base64,",
                   "DATA:IMAGE/JPEG;BASE64,", "data:text/plain;charset=utf-8;base64,"):  # fmt: skip
        ask(house, user(image(prefix + plain)))
    ask(house, user({"type": "image_url", "image_url": data_url(picture)}))
    assert all(pictures == [picture] for _, _, pictures, _ in house.engine.chats)


def test_the_detail_of_a_picture_reaches_the_model(house, picture):
    url = data_url(picture)
    ask(house, user(image(url, detail="low"), image(url, detail="high"), image(url, detail="auto")))
    ask(house, user(image(url), image(url, detail=None)))
    named, unnamed = ([part for part in messages[0]["content"]] for _, messages, _, _ in house.engine.chats)
    assert named == [{"type": "image", "detail": detail} for detail in ("low", "high", "auto")]
    assert unnamed == [{"type": "image"}] * 2


@pytest.mark.parametrize("detail", ["", "Low", "medium", "x" * 500, 1, True, ["low"], {}])
def test_another_detail_is_refused(house, picture, detail):
    status, error = refusal(house, user(text("x"), image(data_url(picture), detail=detail)))
    assert status == 400 and "'detail'" in error["message"] and len(error["message"]) < 300
    assert house.engine.chats == []


def test_a_hundred_pictures_in_one_message_are_refused_by_their_number(house, picture):
    status, said = refusal(house, user(*[image(data_url(picture))] * 100, text("What?")))[:2]
    assert status == 400 and "100" in str(said) and house.engine.chats == []


def test_more_pictures_than_a_request_may_hold_are_refused(house_with, picture):
    house = house_with(max_batch=2)
    assert refusal(house, user(*[image(data_url(picture))] * 3))[0] == 400
    ask(house, user(*[image(data_url(picture))] * 2))


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1,", b'{"model": NaN}', b"[]", b"5", b"[" * 100_000])
def test_malformed_json_is_a_400(house, content):
    answer = house.client.post(CHAT, content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 400 and isinstance(answer.json()["error"]["message"], str)


def test_a_schema_error_repeats_neither_picture_nor_key(house):
    answer = house.client.post(CHAT, json={"model": ["secret"], "messages": "secret words", "api_key": "secret-key"})
    assert answer.status_code == 400 and "secret" not in answer.text
