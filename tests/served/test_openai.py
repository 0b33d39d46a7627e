"""OpenAI's own package, unmodified, and Roboflow's lmm route, against the whole running server and a real model."""

from __future__ import annotations

import base64
import time

import httpx
import openai
import pytest

MODEL = "tests/small-vlm/1"


@pytest.fixture(scope="module")
def client(server_url):
    return openai.OpenAI(base_url=f"{server_url}/v1", api_key="any", timeout=120)


@pytest.fixture(scope="module")
def question(photo):
    url = f"data:image/png;base64,{base64.b64encode(photo).decode()}"
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What is this?"}]
    return [{"role": "system", "content": "Answer briefly."}, {"role": "user", "content": parts}]


def ask(client, messages, **more):
    return client.chat.completions.create(model=MODEL, messages=messages, max_tokens=24, temperature=0, **more)


def test_the_model_is_listed_and_found_by_its_name(client):
    assert MODEL in [model.id for model in client.models.list()]
    assert client.models.retrieve(MODEL).id == MODEL


def test_an_answer_in_pieces_is_the_answer_in_one(client, question):
    whole = ask(client, question)
    chunks = list(ask(client, question, stream=True, stream_options={"include_usage": True}))
    said = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert "".join(said) == whole.choices[0].message.content != ""
    assert len(said) >= 8, "it did not come in pieces"
    counts = {"completion_tokens", "prompt_tokens", "total_tokens"}  # the second time the prompt is not read again
    assert chunks[-1].usage.model_dump(include=counts) == whole.usage.model_dump(include=counts)
    assert whole.usage.completion_tokens == 24
    assert whole.usage.prompt_tokens > 100, "the picture counts"
    assert whole.choices[0].finish_reason == chunks[-2].choices[0].finish_reason == "length"


def test_pieces_come_when_they_are_written_and_not_all_at_the_end(client, question):
    arrived = [
        time.monotonic() for chunk in client.chat.completions.create(
            model=MODEL, messages=question, max_tokens=300, temperature=0, stream=True,
        )
        if chunk.choices and chunk.choices[0].delta.content
    ]  # fmt: skip
    gaps = [b - a for a, b in zip(arrived, arrived[1:], strict=False)]
    assert max(gaps) < (arrived[-1] - arrived[0]) / 2


def test_a_conversation_with_several_pictures(client, question):
    messages = [*question, {"role": "assistant", "content": "A person."}, *question[1:]]
    assert ask(client, messages).usage.prompt_tokens > 1.5 * ask(client, question).usage.prompt_tokens


@pytest.mark.parametrize("model", [MODEL, "tests/small-internvl/1", "tests/small-nvila/1"])
def test_a_picture_of_low_detail_is_one_view_and_counts_fewer_tokens(client, question, model):
    """Of every family that cuts pictures into tiles, streamed and whole."""

    def asked(detail=None, **more):
        (url, words), system = question[1]["content"], question[0]
        part = url if detail is None else {**url, "image_url": url["image_url"] | {"detail": detail}}
        messages = [system, {"role": "user", "content": [part, words]}]
        return client.chat.completions.create(model=model, messages=messages, max_tokens=8, temperature=0, **more)

    low, high, auto, unsaid = (asked(detail) for detail in ("low", "high", "auto", None))
    tokens = [answer.usage.prompt_tokens for answer in (low, high, auto, unsaid)]
    assert tokens[0] < tokens[1] == tokens[2] == tokens[3]  # the photo is over one tile
    assert high.choices[0].message.content == unsaid.choices[0].message.content != low.choices[0].message.content
    pieces = [chunk.choices[0].delta.content or "" for chunk in asked("low", stream=True) if chunk.choices]
    assert "".join(pieces) == low.choices[0].message.content != ""
    with pytest.raises(openai.BadRequestError, match="is no 'detail' of a picture"):
        asked("medium")


def test_a_stop_text_and_a_seed(client, question):
    text = ask(client, question).choices[0].message.content
    stop = text[len(text) // 2 :][:3]
    cut = ask(client, question, stop=stop).choices[0]
    assert (cut.finish_reason, cut.message.content) == ("stop", text[: text.index(stop)])
    draw = {"model": MODEL, "messages": question, "max_tokens": 24, "temperature": 1.2, "seed": 9}
    first, again = (client.chat.completions.create(**draw).choices[0].message.content for _ in range(2))
    assert first == again != text


def test_a_disconnect_during_an_answer_does_not_delay_the_next_one(client, question):
    with client.chat.completions.create(
        model=MODEL, messages=question, max_tokens=5000, temperature=1, seed=1, stream=True
    ) as chunks:
        next(iter(chunks))
    assert ask(client, question).choices[0].finish_reason == "length"


@pytest.mark.parametrize(("change", "error", "says"), [
    ({"model": "no-such-model"}, openai.NotFoundError, "no-such-model"),
    ({"model": "yolov8n-640"}, openai.BadRequestError, "object-detection"),
    ({"n": 2}, openai.BadRequestError, "n"),
    ({"temperature": 7}, openai.BadRequestError, "temperature"),
    ({"messages": []}, openai.BadRequestError, "message"),
    ({"messages": [{"role": "user", "content": "word " * 9000}]}, openai.BadRequestError, "tokens"),
    ({"messages": [{"role": "user", "content": "a" * 2_000_000}]}, openai.BadRequestError, "characters"),
    ({"messages": [{"role": "user", "content": "  "}]}, openai.BadRequestError, "empty"),
])  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_a_bad_request_is_a_real_status_in_openais_shape(client, change, error, says, stream):
    good = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
    with pytest.raises(error, match=says) as caught:
        client.with_options(max_retries=0).chat.completions.create(**{**good, **change, "stream": stream})
    assert caught.value.body["message"] and "Traceback" not in str(caught.value)


def test_roboflows_route_says_what_openais_says(client, server_url, photo):
    image = {"type": "base64", "value": base64.b64encode(photo).decode()}
    body = {"model_id": MODEL, "image": image, "prompt": "What is this?", "max_new_tokens": 24}
    answer = httpx.post(f"{server_url}/infer/lmm", json=body, timeout=120).json()
    url = {"url": f"data:image/png;base64,{image['value']}"}
    parts = [{"type": "image_url", "image_url": url}, {"type": "text", "text": "What is this?"}]
    wanted = ask(client, [{"role": "user", "content": parts}]).choices[0].message.content
    assert answer["response"] == wanted
    assert answer["image"] == {"width": 512, "height": 512}


def test_a_prompt_is_needed_where_the_route_has_one(server_url, photo):
    image = {"type": "base64", "value": base64.b64encode(photo).decode()}
    answer = httpx.post(f"{server_url}/infer/lmm", json={"model_id": MODEL, "image": image}, timeout=60)
    assert answer.status_code == 400 and "prompt" in answer.json()["message"]
