"""What a model thinks before it answers has a field of its own where the dialect has one, and no place elsewhere."""

from __future__ import annotations

import base64

from chat_requests import CHAT, MODEL, ask, body, chunks

PIECES = ["<thi", "nk>\nA cat", " or a dog.\n</think>\n\n<ans", "wer>\nA cat.", "\n</answer>"]
THOUGHT, ANSWER = "A cat or a dog.", "A cat."


def test_a_whole_answer_has_the_thought_beside_it(house):
    house.engine.pieces = PIECES
    assert ask(house)["choices"][0]["message"] == {
        "role": "assistant", "content": ANSWER, "reasoning_content": THOUGHT
    }  # fmt: skip


def test_a_stream_tells_the_thought_first_and_no_tag(house):
    house.engine.pieces = PIECES
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks(house.client.post(CHAT, json=body(stream=True)))]
    fields = [name for delta in deltas[1:] for name in delta]
    assert fields == ["reasoning_content", "reasoning_content", "content"]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == THOUGHT
    assert "".join(delta.get("content", "") for delta in deltas) == ANSWER


def test_a_thought_that_the_limit_cuts_leaves_no_answer(house):
    house.engine.pieces, house.engine.last = ["<think>so", " far"], "length"
    message = ask(house)["choices"][0]["message"]
    assert message == {"role": "assistant", "content": "", "reasoning_content": "so far"}


def test_who_asks_for_the_models_own_words_gets_them(house):
    house.engine.pieces = PIECES
    message = ask(house, separate_reasoning=False)["choices"][0]["message"]
    assert message == {"role": "assistant", "content": "".join(PIECES)}
    sent = chunks(house.client.post(CHAT, json=body(stream=True, separate_reasoning=False)))
    assert [c["choices"][0]["delta"].get("content") for c in sent][1:-1] == PIECES


def test_dialects_without_such_a_field_tell_the_answer_alone(house, picture):
    house.engine.pieces = PIECES
    image = base64.b64encode(picture).decode()
    asked = {"model_id": MODEL, "image": {"type": "base64", "value": image}, "prompt": "What?"}
    assert house.client.post("/infer/lmm", json=asked).json()["response"] == ANSWER
    told = house.client.post(f"/models/{MODEL}", content=picture, headers={"content-type": "image/jpeg"}).json()
    assert told[0]["generated_text"] == ANSWER
