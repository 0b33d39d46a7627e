"""A chat request with ``source`` and ``user_prompt`` is the conversation that they mean."""

from __future__ import annotations

import pytest
from chat_requests import CHAT, MODEL, data_url


def test_source_and_prompt_are_a_conversation(house, picture):
    body = {
        "model": MODEL, "source": data_url(picture), "user_prompt": "What is it?", "top_k": 7,
        "generation_config": {"max_new_tokens": 9, "do_sample": False, "top_k": 3},
    }  # fmt: skip
    assert house.client.post(CHAT, json=body).status_code == 200
    ((_, messages, pictures, settings),) = house.engine.chats
    content = [{"type": "image"}, {"type": "text", "text": "What is it?"}]
    assert messages == [{"role": "user", "content": content}] and pictures == [picture]
    assert (settings["max_new_tokens"], settings["temperature"], settings["top_k"]) == (9, 0, 7)


@pytest.mark.parametrize("change", [
    {"messages": [{"role": "user", "content": "Hi"}]}, {"source": "/etc/passwd"}, {"source": {"a": 1}}, {"source": [1]},
    {"user_prompt": ["a"]}, {"source": None}, {"source": ["data:,"] * 65}, {"source": "file:///etc/passwd"},
])  # fmt: skip
def test_both_neither_or_another_type_is_refused(house, picture, change):
    body = {"model": MODEL, "source": data_url(picture), "user_prompt": "What is it?"} | change
    answer = house.client.post(CHAT, json=body)
    assert answer.status_code == 400 and answer.json()["error"]["message"] and house.engine.chats == []
