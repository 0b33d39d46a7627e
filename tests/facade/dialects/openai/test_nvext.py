"""``nvext`` beside OpenAI's fields: what has a meaning here has it, another form of the answer is refused."""

from __future__ import annotations

import json

import pytest
from chat_requests import CHAT, body, text, user

NEUTRAL = {"min_p": 0.05, "min_tokens": 0, "ignore_eos": False, "media_io_kwargs": {"fps": 2.0}}
SCHEMA = {"type": "object"}


def post(house, nvext, **more):
    return house.client.post(CHAT, json=body(user(text("Say")), **more) | {"nvext": nvext})


def test_its_settings_count_and_the_request_s_own_come_first(house):
    assert post(house, NEUTRAL | {"top_k": 50, "repetition_penalty": 1.05}, top_k=3).status_code == 200
    settings = house.engine.chats[0][3]
    assert (settings["top_k"], settings["repetition_penalty"]) == (3, 1.05)


@pytest.mark.parametrize("given", [SCHEMA, json.dumps(SCHEMA)])
def test_guided_json_is_the_schema_of_the_answer(house, given):
    assert post(house, {"guided_json": given}, response_format={"type": "text"}).status_code == 200
    assert house.engine.chats[0][3]["schema"] == SCHEMA


@pytest.mark.parametrize("name", ["guided_regex", "guided_choice", "guided_grammar"])
def test_another_form_of_the_answer_is_refused_by_name(house, name):
    answer = post(house, {name: "a|b"})
    assert answer.status_code == 400 and name in answer.json()["error"]["message"]


@pytest.mark.parametrize("nvext", [None, 3, [], {"top_k": "many"}, {"guided_json": 3}, {"guided_json": "{"}])
def test_what_is_none_is_passed_over_or_refused(house, nvext):
    assert post(house, nvext).status_code in (200, 400)
