"""The unmodified ``openai`` package chats with the facade on a port, over an engine that answers from memory."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
from facade_thread import facade
from huggingface_hub import InferenceClient
from manifests import MANIFESTS, publish
from pydantic import BaseModel

from tritonvision.errors import InvalidParameter, ModelLoading, NotSupported, ServerUnavailable

MODEL, KEY, SAID = "smolvlm-256m", "k-1234567890", "A cat, 猫 🐈."
PHOTO = Path(__file__).parents[2] / "tritonvision" / "data" / "astronaut.png"
DATA_URL = f"data:image/png;base64,{base64.b64encode(PHOTO.read_bytes()).decode()}"
ABOUT_THE_PHOTO = [{"role": "user", "content": [
    {"type": "text", "text": "Who is it?"}, {"type": "image_url", "image_url": {"url": DATA_URL, "detail": "auto"}},
]}]  # fmt: skip
HELLO = [{"role": "user", "content": "Hello"}]


@dataclass
class House:
    """A facade on a port, in a thread."""

    engine: Any
    base_url: str
    loop: asyncio.AbstractEventLoop

    def client(self, **options: Any) -> openai.OpenAI:
        return openai.OpenAI(base_url=self.base_url, **{"api_key": KEY, "max_retries": 0, **options})

    def reservation(self) -> None:
        """Let answers wait after their first piece."""
        self.engine.held = asyncio.Event()

    def go_on(self) -> None:
        self.loop.call_soon_threadsafe(self.engine.held.set)


@pytest.fixture
def house(tmp_path) -> Iterator[House]:
    publish(tmp_path, MANIFESTS)
    with facade(tmp_path, KEY) as (engine, address, loop):
        yield House(engine, f"{address}/v1", loop)


def until(condition) -> None:
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_models(house):
    client = house.client()
    (model,) = client.models.list()
    assert model.id == MODEL and model.object == "model" and model.created > 0 and model.owned_by
    assert client.models.retrieve(MODEL) == model
    assert client.models.retrieve(f"pretrained/{MODEL}").id == f"pretrained/{MODEL}"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("nobody/1")
    assert caught.value.code == "model_not_found"


def test_a_picture_is_talked_about(house):
    answer = house.client().chat.completions.create(model=MODEL, messages=ABOUT_THE_PHOTO, max_tokens=20, stop=["\n"])
    assert answer.object == "chat.completion" and answer.id.startswith("chatcmpl-") and answer.model == MODEL
    assert abs(answer.created - time.time()) < 60 and answer._request_id
    (choice,) = answer.choices
    assert (choice.index, choice.finish_reason, choice.message.role) == (0, "stop", "assistant")
    assert choice.message.content == SAID
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (71, 10, 81)
    assert house.engine.chats[0][2] == [PHOTO.read_bytes()]


def test_settings_and_extra_ones_arrive(house):
    house.client().chat.completions.create(
        model=MODEL, messages=HELLO, max_completion_tokens=7, temperature=0.5, top_p=0.9, seed=3, n=1, user="me",
        extra_body={"top_k": 5, "repetition_penalty": 1.2, "nvext": {"anything": True}},
    )  # fmt: skip
    assert house.engine.chats[0][3] == {
        "auto_orient": True, "max_new_tokens": 7, "temperature": 0.5, "top_p": 0.9, "top_k": 5,
        "repetition_penalty": 1.2, "seed": 3, "stop": None, "schema": None, "top_logprobs": None, "num_beams": None,
    }  # fmt: skip


def test_a_stream(house):
    stream = house.client().chat.completions.create(
        model=MODEL, messages=ABOUT_THE_PHOTO, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == SAID
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage.total_tokens == 81 and not any(c.usage for c in chunks[:-1])
    assert len({(c.id, c.created, c.model, c.object) for c in chunks}) == 1


def test_the_stream_helper_puts_the_message_together(house):
    with house.client().chat.completions.stream(model=MODEL, messages=HELLO) as stream:
        told = [event.delta for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion()
    assert "".join(told) == final.choices[0].message.content == SAID
    assert final.choices[0].finish_reason == "stop"


def test_pieces_come_as_they_are_written(house):
    house.reservation()
    stream = house.client().chat.completions.create(model=MODEL, messages=HELLO, stream=True)
    assert [next(stream).choices[0].delta.content for _ in range(2)] == ["", "A cat"]
    house.go_on()
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == ", 猫 🐈."


def test_closing_the_stream_ends_the_work(house):
    house.reservation()
    stream = house.client().chat.completions.create(model=MODEL, messages=HELLO, stream=True)
    next(stream)
    assert house.engine.cancelled == 0
    stream.close()
    until(lambda: house.engine.cancelled == 1)


def test_the_asynchronous_client(house):
    async def main() -> list[str]:
        async with openai.AsyncOpenAI(base_url=house.base_url, api_key=KEY, max_retries=0) as client:

            async def one() -> str:
                stream = await client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

            return await asyncio.gather(*(one() for _ in range(6)))

    assert asyncio.run(main()) == [SAID] * 6


class Person(BaseModel):
    name: str


@pytest.mark.parametrize("more", [
    {"n": 2}, {"temperature": 3}, {"max_tokens": 0}, {"top_logprobs": 2}, {"frequency_penalty": 1.0},
    {"response_format": {"type": "grammar"}}, {"stop": 5}, {"messages": []},
    {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}]},
    {"model": "resnet18"},
])  # fmt: skip
def test_what_cannot_be_is_a_bad_request(house, more):
    with pytest.raises(openai.BadRequestError) as caught:
        house.client().chat.completions.create(**{"model": MODEL, "messages": HELLO, "stream": True, **more})
    error = caught.value
    assert error.status_code == 400 and error.type == "invalid_request_error" and error.request_id
    assert set(error.body) == {"message", "type", "param", "code"} and error.body["message"] in str(error)


def test_an_answer_is_parsed_by_a_class(house):
    house.engine.pieces = ['{"name": ', '"Ada"}']
    answer = house.client().chat.completions.parse(model=MODEL, messages=HELLO, response_format=Person)
    assert answer.choices[0].message.parsed == Person(name="Ada")
    schema = house.engine.chats[-1][3]["schema"]
    assert schema["required"] == ["name"] and schema["additionalProperties"] is False


def test_likelihoods_and_cached_tokens_are_read(house):
    answer = house.client().chat.completions.create(model=MODEL, messages=HELLO, logprobs=True, top_logprobs=1)
    assert [one.logprob for one in answer.choices[0].logprobs.content] == [-0.25] * len(house.engine.pieces)
    assert answer.usage.prompt_tokens_details.cached_tokens == 0


def test_other_errors_have_their_class(house):
    with pytest.raises(openai.NotFoundError) as caught:
        house.client().chat.completions.create(model="nobody/1", messages=HELLO)
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.AuthenticationError) as caught:
        house.client(api_key="wrong").chat.completions.create(model=MODEL, messages=HELLO)
    assert caught.value.code == "invalid_api_key" and "wrong" not in str(caught.value)
    house.engine.failure = InvalidParameter("The prompt is 9000 tokens long; the model reads 8192.")
    with pytest.raises(openai.BadRequestError, match="9000 tokens"):
        house.client().chat.completions.create(model=MODEL, messages=HELLO, stream=True)


def test_an_error_in_the_middle_of_a_stream_is_raised(house):
    house.engine.late_failure = ServerUnavailable("The process is lost.")
    stream = house.client().chat.completions.create(model=MODEL, messages=HELLO, stream=True)
    said = []
    with pytest.raises(openai.APIError, match="The process is lost.") as caught:
        for chunk in stream:
            said.append(chunk.choices[0].delta.content)
    assert said == ["", "A cat"] and caught.value.code == "server_unavailable"


def test_what_passes_is_asked_again_and_what_does_not_is_not(house, monkeypatch):
    client = house.client(max_retries=2)
    house.engine.failure = NotSupported("This server cannot.")
    with pytest.raises(openai.InternalServerError, match="This server cannot."):
        client.chat.completions.create(model=MODEL, messages=HELLO)
    assert len(house.engine.chats) == 1
    house.engine.failure = None
    chat, loading = house.engine.chat, [ModelLoading(retry_after=1)]

    async def soon(*args: Any, **more: Any):
        if loading:
            raise loading.pop()
        async for delta in chat(*args, **more):
            yield delta

    monkeypatch.setattr(house.engine, "chat", soon)
    assert client.chat.completions.create(model=MODEL, messages=HELLO).choices[0].message.content == SAID


@pytest.mark.parametrize("stream", [False, True])
def test_hugging_faces_client_chats_too(house, stream):
    client = InferenceClient(base_url=house.base_url, api_key=KEY)
    answer = client.chat_completion(ABOUT_THE_PHOTO, model=MODEL, stream=stream)
    said = [c.choices[0].delta.content or "" for c in answer] if stream else [answer.choices[0].message.content]
    assert "".join(said) == SAID
