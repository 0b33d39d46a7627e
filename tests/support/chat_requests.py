"""Requests to ``/v1/chat/completions``, and what its answers and refusals hold."""

from __future__ import annotations

import base64
import json

import httpx

CHAT, MODEL = "/v1/chat/completions", "smolvlm-256m"


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
