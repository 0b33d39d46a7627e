"""OpenAI's routes: the answer in one piece and in many, the models, health, and disconnecting callers."""

from __future__ import annotations

import asyncio
import json
import logging
import re

import pytest
from chat_requests import CHAT, MODEL, ask, body, chunks, data_url, image, refusal, text, user

from tritonvision import errors
from tritonvision.facade.dialects.huggingface.dialect import HUGGINGFACE
from tritonvision.facade.dialects.openai.dialect import OPENAI
from tritonvision.facade.dialects.registry import dialect_of
from tritonvision.facade.dialects.unowned import UNOWNED

SAID = "A cat, 猫 🐈."


# ---- the answer ------------------------------------------------------------------------------------------------------


def test_an_answer_in_one_piece(house, picture):
    answer = ask(house, user(text("What is it?"), image(data_url(picture))))
    assert answer["id"].startswith("chatcmpl-") and answer["object"] == "chat.completion"
    assert isinstance(answer["created"], int) and answer["model"] == MODEL
    (choice,) = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": SAID}
    assert (choice["index"], choice["finish_reason"]) == (0, "stop")
    assert answer["usage"] == {
        "prompt_tokens": 71, "completion_tokens": 10, "total_tokens": 81,
        "prompt_tokens_details": {"cached_tokens": 64},
    }  # fmt: skip
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


def test_likelihoods_are_told_with_their_tokens_whole_and_in_pieces(house):
    told = ask(house, logprobs=True, top_logprobs=2)["choices"][0]["logprobs"]
    assert [one["token"] for one in told["content"]] == house.engine.pieces and told["refusal"] is None
    sent = chunks(house.client.post(CHAT, json=body(stream=True, logprobs=True)))
    streamed = [chunk["choices"][0]["logprobs"] for chunk in sent]
    assert [one["content"][0]["token"] for one in streamed if one] == house.engine.pieces
    assert ask(house)["choices"][0]["logprobs"] is None


# ---- models ----------------------------------------------------------------------------------------------------------


def test_the_models_that_chat_are_listed(house):
    listed = house.client.get("/v1/models").json()
    assert listed["object"] == "list"
    (only,) = listed["data"]
    assert only["id"] == MODEL and only["object"] == "model"
    assert isinstance(only["created"], int) and isinstance(only["owned_by"], str)
    assert house.client.get(f"/v1/models/{MODEL}").json() == only


def test_a_model_has_several_names_and_the_answer_repeats_the_callers(house):
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


def test_every_reference_in_the_schema_exists(house):
    described = house.client.get("/openapi.json").json()
    names = set(re.findall(r'"\$ref": "#/components/schemas/(\w+)"', json.dumps(described)))
    assert names <= set(described["components"]["schemas"])
    schema = described["paths"][CHAT]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert schema["properties"]["messages"]["items"]["properties"]["role"] == {"title": "Role", "type": "string"}


def test_the_path_decides_the_dialect_of_errors():
    assert dialect_of("/v1/models/coco/3") is OPENAI and dialect_of("/v1/chat/completions") is OPENAI
    assert dialect_of("/v1") is OPENAI and dialect_of("/models/coco/3") is HUGGINGFACE
    assert dialect_of("/v1x/3") is dialect_of("/v10/models") is UNOWNED


def test_answers_are_counted(house):
    ask(house)
    house.client.post(CHAT, json=body(stream=True))
    house.engine.late_failure = errors.ServerUnavailable()
    house.client.post(CHAT, json=body(stream=True))
    figures = house.client.get("/metrics").text
    assert "num_inferences_smolvlm_256m 2.0" in figures and "num_errors_smolvlm_256m 1.0" in figures
    assert 'dialect="openai",model="smolvlm-256m",outcome="ok",status="200"' in figures


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


def test_disconnecting_during_a_stream_cancels_the_work(house, caplog, served, until):
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


def test_disconnecting_before_the_answer_cancels_the_work(house, caplog, served, until):
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


def test_a_client_that_reads_nothing_is_disconnected(house, served, until):
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


def test_conversations_over_the_limit_are_refused(house, served, until):
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
