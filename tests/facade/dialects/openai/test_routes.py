"""OpenAI's dialect: what a chat request says, what comes back in one piece or in many, and how it goes wrong."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re

import httpx
import pytest

from tritonvision import errors
from tritonvision.facade.dialects.huggingface.dialect import HUGGINGFACE
from tritonvision.facade.dialects.openai.dialect import OPENAI
from tritonvision.facade.dialects.registry import dialect_of
from tritonvision.facade.dialects.unowned import UNOWNED

CHAT, MODEL = "/v1/chat/completions", "smolvlm-256m"
SAID = "A cat, 猫 🐈."
KEY = "k-1234567890"


def data_url(data: bytes, kind: str = "jpeg") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def image(url: object, **more: object) -> dict:
    return {"type": "image_url", "image_url": {"url": url, **more}}


def text(said: str) -> dict:
    return {"type": "text", "text": said}


def user(*content: dict | str) -> dict:
    return {"role": "user", "content": content[0] if isinstance(content[0], str) else list(content)}


def body(*messages: dict, **more: object) -> dict:
    return {"model": MODEL, "messages": list(messages) or [user("What is it?")], **more}


def ask(house, *messages: dict, **more: object) -> dict:
    answer = house.client.post(CHAT, json=body(*messages, **more))
    assert answer.status_code == 200, answer.text
    return answer.json()


def refusal(house, *messages: dict, **more: object) -> tuple[int, dict]:
    answer = house.client.post(CHAT, json=body(*messages, **more))
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and isinstance(error["message"], str)
    return answer.status_code, error


def chunks(answer: httpx.Response) -> list[dict]:
    """The events of a stream, which ends as the contract says."""
    assert answer.status_code == 200, answer.text
    *sent, done, nothing = answer.text.split("\n\n")
    assert (done, nothing) == ("data: [DONE]", "")
    return [json.loads(line.removeprefix("data: ")) for line in sent]


# ---- the answer ------------------------------------------------------------------------------------------------------


def test_an_answer_in_one_piece(house, picture):
    answer = ask(house, user(text("What is it?"), image(data_url(picture))))
    assert answer["id"].startswith("chatcmpl-") and answer["object"] == "chat.completion"
    assert isinstance(answer["created"], int) and answer["model"] == MODEL
    (choice,) = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": SAID}
    assert (choice["index"], choice["finish_reason"]) == (0, "stop")
    assert answer["usage"] == {"prompt_tokens": 71, "completion_tokens": 10, "total_tokens": 81}
    assert house.engine.cancelled == 0


def test_an_answer_in_pieces(house, picture):
    answer = house.client.post(CHAT, json=body(user(text("Say"), image(data_url(picture))), stream=True))
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-cache" and answer.headers["x-accel-buffering"] == "no"
    assert "content-length" not in answer.headers and answer.headers["x-request-id"]
    sent = chunks(answer)
    assert {chunk["object"] for chunk in sent} == {"chat.completion.chunk"}
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in sent}) == 1
    assert not any("usage" in chunk for chunk in sent)
    deltas = [chunk["choices"][0]["delta"] for chunk in sent]
    assert deltas[0] == {"role": "assistant", "content": ""} and deltas[-1] == {}
    assert [delta["content"] for delta in deltas[1:-1]] == house.engine.pieces
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in sent]
    assert reasons == [None] * (len(sent) - 1) + ["stop"]
    assert house.engine.cancelled == 0


def test_usage_comes_at_the_end_of_a_stream_when_asked_for(house):
    answer = house.client.post(CHAT, json=body(stream=True, stream_options={"include_usage": True}))
    *others, last = chunks(answer)
    assert last["choices"] == [] and last["usage"]["total_tokens"] == 17
    assert all(chunk["usage"] is None for chunk in others)


@pytest.mark.parametrize("pieces", [[""], ["", "x", ""], ["x"]])
def test_pieces_without_text_are_not_sent(house, pieces):
    house.engine.pieces, house.engine.last = pieces, "length"
    sent = chunks(house.client.post(CHAT, json=body(stream=True)))
    assert [c["choices"][0]["delta"].get("content") for c in sent] == ["", *[p for p in pieces if p], None]
    assert sent[-1]["choices"][0]["finish_reason"] == "length"
    answer = ask(house)
    assert answer["choices"][0]["message"]["content"] == "".join(pieces)
    assert answer["choices"][0]["finish_reason"] == "length"


# ---- the conversation ------------------------------------------------------------------------------------------------


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
        {"role": "user", "content": [{"type": "image"}, text("and"), {"type": "image"}]},
        {"role": "assistant", "content": [text("Two pictures.")]},
        {"role": "user", "content": [text("And now?")]},
    ]


def test_a_prompt_without_a_picture_and_a_picture_without_a_prompt_are_the_models_business(house, picture):
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
])  # fmt: skip
def test_settings_reach_the_model(house, given, meant):
    ask(house, **given)
    settings = house.engine.chats[0][3]
    assert {name: settings[name] for name in meant} == meant
    assert settings["auto_orient"] is True and len(settings) == 8


@pytest.mark.parametrize("fields", [
    {"n": 1}, {"logprobs": False}, {"top_logprobs": 0}, {"presence_penalty": 0}, {"frequency_penalty": 0.0},
    {"logit_bias": {}}, {"tools": []}, {"tool_choice": "none"}, {"modalities": ["text"]}, {"n": None},
    {"response_format": {"type": "text"}}, {"user": "me"}, {"metadata": {}}, {"store": False}, {"nvext": {"x": 1}},
    {"chat_template_kwargs": {"a": 1}}, {"parallel_tool_calls": True}, {"anything": [1, 2]}, {"logprobs": None},
    {"stream_options": None}, {"stream": None},
])  # fmt: skip
def test_what_asks_for_nothing_special_and_what_nobody_knows_is_fine(house, fields):
    ask(house, **fields)


@pytest.mark.parametrize("fields", [
    {"n": 2}, {"n": 0}, {"n": "many"}, {"logprobs": True}, {"top_logprobs": 3}, {"presence_penalty": 0.5},
    {"frequency_penalty": -1}, {"logit_bias": {"50256": -100}}, {"tools": [{"type": "function"}]},
    {"tool_choice": "required"}, {"functions": [{}]}, {"function_call": {"name": "f"}},
    {"modalities": ["text", "audio"]}, {"audio": {"voice": "a"}}, {"response_format": {"type": "json_object"}},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}, "strict": True}}},
])  # fmt: skip
def test_what_is_not_done_here_is_refused_with_a_sentence(house, fields):
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
    ({"messages": ["hello"]}, "messages"), ({"model": 5}, "model"), ({"stream": "perhaps"}, "stream"),
    ({"response_format": "json"}, "response_format"), ({"stream_options": 5}, "stream_options"),
])  # fmt: skip
def test_what_is_out_of_range_or_of_the_wrong_type_is_named(house, fields, word):
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
def test_pictures_that_cannot_be_had_are_refused(house, url):
    for part in (image(url), {"type": "image_url", "image_url": url}):
        status, error = refusal(house, user(text("x"), part))
        assert status == 400 and error["code"] == "invalid_picture" and len(error["message"]) < 300
    assert house.engine.chats == []


@pytest.mark.parametrize("said, meant", [
    ({"content": None}, ""), ({"content": None, "tool_calls": []}, ""), ({}, ""), ({"content": ""}, ""),
    ({"content": None, "refusal": "I cannot."}, "I cannot."), ({"content": "Yes.", "refusal": None}, "Yes."),
])  # fmt: skip
def test_what_the_assistant_said_may_be_null(house, said, meant):
    ask(house, user("Hello"), {"role": "assistant", **said}, user("Again"))
    ((_, messages, _, _),) = house.engine.chats
    assert messages[1] == {"role": "assistant", "content": [{"type": "text", "text": meant}]}


def test_a_picture_is_known_by_its_bytes_whatever_the_url_calls_it(house, picture):
    for kind in ("jpeg", "JPG", "png", "webp", "gif", "svg+xml"):
        ask(house, user(image(data_url(picture, kind))))
    plain = base64.b64encode(picture).decode()
    for prefix in ("data:application/octet-stream;base64,", "data:;base64,", " \ndata:image/png;base64,",
                   "DATA:IMAGE/JPEG;BASE64,", "data:text/plain;charset=utf-8;base64,"):  # fmt: skip
        ask(house, user(image(prefix + plain)))
    ask(house, user({"type": "image_url", "image_url": data_url(picture)}))
    assert all(pictures == [picture] for _, _, pictures, _ in house.engine.chats)


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


# ---- models ----------------------------------------------------------------------------------------------------------


def test_the_models_that_chat_are_listed(house):
    listed = house.client.get("/v1/models").json()
    assert listed["object"] == "list"
    (only,) = listed["data"]
    assert only["id"] == MODEL and only["object"] == "model"
    assert isinstance(only["created"], int) and isinstance(only["owned_by"], str)
    assert house.client.get(f"/v1/models/{MODEL}").json() == only


def test_a_model_answers_to_all_its_names_and_is_called_what_the_caller_calls_it(house):
    name = f"pretrained/{MODEL}"
    assert house.client.get(f"/v1/models/{name.replace('/', '%2F')}").json()["id"] == name
    assert house.client.get(f"/v1/models/{name}").json()["id"] == name
    answer = ask(house, model=name)
    assert answer["model"] == name and house.engine.chats[0][0] == MODEL


def test_an_unknown_model_is_not_found(house):
    for name in ("nobody/1", "..", "a b", "x" * 500, "", "a/b/c/d"):
        status, error = refusal(house, model=name)
        assert status == 404 and error["code"] == "model_not_found", name
    for name in ("nobody", "nobody%2F1", "..%2Fx", "resnet18"):
        answer = house.client.get(f"/v1/models/{name}")
        assert answer.status_code == 404 and answer.json()["error"]["code"] == "model_not_found"
    status, error = refusal(house, model="smolvlm-2.2b")
    assert status == 404 and "tritonvision export smolvlm-2.2b" in error["message"]


def test_a_model_of_another_task_is_refused(house):
    status, error = refusal(house, model="resnet18")
    assert status == 400 and "classification" in error["message"] and "vlm" in error["message"]


def test_health(house):
    for path in ("/v1/health/live", "/v1/health/ready"):
        answer = house.client.get(path)
        assert answer.status_code == 200 and answer.json()["object"] == "health.response"
    house.engine.is_ready = False
    assert house.client.get("/v1/health/ready").status_code == 503
    assert house.client.get("/v1/health/live").status_code == 200


# ---- what goes wrong -------------------------------------------------------------------------------------------------

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


def test_unknown_routes_and_wrong_methods_have_the_dialects_shape(house):
    for method, path, status in (
        ("GET", "/v1/x", 404), ("POST", "/v1/embeddings", 404), ("GET", CHAT, 405), ("GET", "/v1", 404),
        ("POST", "/v1/models", 405), ("GET", "/v1/a/b/c/d", 404),
    ):  # fmt: skip
        answer = house.client.request(method, path)
        assert answer.status_code == status and isinstance(answer.json()["error"]["message"], str), path


def test_the_documentation_refers_to_nothing_that_is_not_there(house):
    described = house.client.get("/openapi.json").json()
    names = set(re.findall(r'"\$ref": "#/components/schemas/(\w+)"', json.dumps(described)))
    assert names <= set(described["components"]["schemas"])
    schema = described["paths"][CHAT]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert schema["properties"]["messages"]["items"]["properties"]["role"] == {"title": "Role", "type": "string"}


def test_the_path_says_which_dialect_it_is():
    assert dialect_of("/v1/models/coco/3") is OPENAI and dialect_of("/v1/chat/completions") is OPENAI
    assert dialect_of("/v1") is OPENAI and dialect_of("/models/coco/3") is HUGGINGFACE
    assert dialect_of("/v1x/3") is dialect_of("/v10/models") is UNOWNED


def test_a_key_is_asked_for_in_the_dialects_shape(house_with):
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


def test_answers_are_counted(house):
    ask(house)
    house.client.post(CHAT, json=body(stream=True))
    house.engine.late_failure = errors.ServerUnavailable()
    house.client.post(CHAT, json=body(stream=True))
    figures = house.client.get("/metrics").text
    assert "num_inferences_smolvlm_256m 2.0" in figures and "num_errors_smolvlm_256m 1.0" in figures
    assert 'dialect="openai",model="smolvlm-256m",status="200"' in figures


# ---- on a port -------------------------------------------------------------------------------------------------------


def test_every_piece_arrives_before_the_next_one_is_made(house, picture, served, until):
    async def main():
        async with served(house) as client:
            house.engine.held = asyncio.Event()
            sending = body(user(text("x"), image(data_url(picture))), stream=True)
            async with client.stream("POST", CHAT, json=sending) as answer:
                pieces = answer.aiter_raw()
                got = b""
                async with asyncio.timeout(5):
                    while b"A cat" not in got:
                        got += await anext(pieces)
                # what it holds is held as long as the answer is being written
                assert client.service.admission.pictures == 1 and client.service.admission.bytes > 0
                house.engine.held.set()
                got += b"".join([piece async for piece in pieces])
            assert got.endswith(b"data: [DONE]\n\n")
            await until(lambda: client.service.admission.pictures == client.service.admission.bytes == 0)
            assert house.engine.cancelled == 0

    asyncio.run(main())


def test_a_caller_who_hangs_up_in_the_middle_ends_the_work(house, caplog, served, until):
    async def main():
        async with served(house) as client:
            house.engine.held = asyncio.Event()
            async with client.stream("POST", CHAT, json=body(stream=True)) as answer:
                await anext(answer.aiter_raw())
                assert house.engine.cancelled == 0
            await until(lambda: house.engine.cancelled == 1)
            await until(lambda: client.service.admission.pictures == client.service.admission.bytes == 0)
            house.engine.held = None
            assert (await client.post(CHAT, json=body())).status_code == 200

    with caplog.at_level(logging.ERROR):
        asyncio.run(main())
    assert not caplog.records


def test_a_caller_who_hangs_up_before_the_answer_ends_the_work(house, caplog, served, until):
    async def main():
        async with served(house) as client:
            house.engine.held = asyncio.Event()
            call = asyncio.create_task(client.post(CHAT, json=body()))
            await until(lambda: house.engine.chats)
            call.cancel()
            await until(lambda: house.engine.cancelled == 1)
            await until(lambda: client.service.admission.pictures == client.service.admission.bytes == 0)

    with caplog.at_level(logging.ERROR):
        asyncio.run(main())
    assert not caplog.records


def test_a_caller_who_takes_nothing_is_let_go(house, served, until):
    house.engine.pieces = ["x" * 100_000] * 500

    async def main():
        async with served(house, write_timeout=0.3) as client:
            reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port, limit=1000)
            content = json.dumps(body(stream=True)).encode()
            head = f"POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(content)}\r\n\r\n"
            writer.write(head.encode() + content)
            await reader.read(100)
            await until(lambda: house.engine.cancelled == 1)
            await until(lambda: client.service.admission.pictures == 0)
            writer.close()

    asyncio.run(main())


def test_as_many_conversations_as_there_is_room_for(house, served, until):
    async def main():
        async with served(house, max_in_flight=1) as client:
            house.engine.held = asyncio.Event()
            first = asyncio.create_task(client.post(CHAT, json=body(stream=True)))
            await until(lambda: house.engine.chats)
            second = await client.post(CHAT, json=body(stream=True))
            assert second.status_code == 503 and second.headers["retry-after"] == "1"
            assert second.json()["error"]["code"] == "overloaded"
            house.engine.held.set()
            assert (await first).status_code == 200

    asyncio.run(main())
