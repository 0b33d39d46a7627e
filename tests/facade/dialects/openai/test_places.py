"""Places that a text names have a field of their own for who asks: fractions of the one picture it is about."""

from __future__ import annotations

import pytest
from chat_requests import CHAT, ask, body, chunks, data_url, image, refusal, text, user

BOX = [0.25, 0.5, 0.5, 0.75]
# Vi's schema, which is read of every model
PIECES = [
    '{"phrase_grounding":{"sentence":"A cat.","groundings":[', '{"phrase":"cat",',
    '"grounding":[[256,512,512,768]]}]}}',
]  # fmt: skip
PLACES = [{"phrase": "cat", "boxes": [BOX], "polygons": [], "points": []}]


def where(picture, *more):
    return user(image(data_url(picture)), *more, text("Where is the cat?"))


def test_a_whole_answer_has_its_places_if_they_are_asked_for(house, picture):
    house.engine.pieces = PIECES
    message = ask(house, where(picture), places=True)["choices"][0]["message"]
    assert message == {"role": "assistant", "content": "".join(PIECES), "places": PLACES}
    assert "places" not in ask(house, where(picture))["choices"][0]["message"]
    house.engine.pieces = ["A cat."]
    assert ask(house, where(picture), places=True)["choices"][0]["message"]["places"] == []


def test_a_stream_tells_them_once_before_its_end(house, picture):
    house.engine.pieces = PIECES
    sent = chunks(house.client.post(CHAT, json=body(where(picture), places=True, stream=True)))
    deltas = [chunk["choices"][0]["delta"] for chunk in sent]
    assert [place for delta in deltas for place in delta.get("places", ())] == PLACES
    assert "places" in deltas[-2] and deltas[-1] == {}
    assert "".join(delta.get("content", "") for delta in deltas) == "".join(PIECES)


@pytest.mark.parametrize("count", [0, 2])
def test_places_are_of_one_picture(house, picture, count):
    asked = user(*[image(data_url(picture))] * count, text("Where is the cat?"))
    status, error = refusal(house, asked, places=True)
    assert status == 400 and f"about one picture, not about {count}" in error["message"]
    assert house.engine.chats == []
