"""A model that writes, on the real tritonserver: streams side by side, callers who leave, processes that die.

The model has every part of SmolVLM at a reduced size and random weights: what it says means nothing, and is always the
same.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import subprocess
from contextlib import aclosing
from functools import partial

import pytest
from own_engine import with_engine
from PIL import Image

from tritonvision.errors import InvalidParameter, InvalidPicture, PictureTooLarge, ServerUnavailable
from tritonvision.server import Embedded
from tritonvision.settings import Settings

MODEL = "tests/small-vlm/1"
QUESTIONS = (
    ("What is this?", 1), ("hello there", 0), ("Describe the picture.", 1), ("a b c d e f g", 0), ("why", 0),
    ("How many people are in these pictures?", 2),
)  # fmt: skip


def asks(text, pictures=0):
    return [{"role": "user", "content": [*[{"type": "image"}] * pictures, {"type": "text", "text": text}]}]


@pytest.fixture(scope="module")
def server(served_repository, tmp_path_factory):
    settings = Settings(
        repository=served_repository, log_dir=tmp_path_factory.mktemp("log"), export_missing=False
    )  # fmt: skip
    with_server = Embedded(settings)
    with_server.start()
    yield settings, with_server
    with_server.stop()


@pytest.fixture
def run(server):
    """Runs ``work(engine)`` in an event loop of its own."""
    return partial(with_engine, *server)


async def whole(engine, messages, pictures=(), **settings):
    """(text, token ids, why it ended, usage)."""
    deltas = [delta async for delta in engine.chat(MODEL, messages, pictures, {"max_new_tokens": 24, **settings})]
    ids = [int(token) for delta in deltas for token in delta.token_ids]
    return "".join(delta.text for delta in deltas), ids, deltas[-1].finish_reason, deltas[-1].usage


def test_six_streams_at_once_say_what_each_says_alone(run, photo):
    async def work(engine):
        cases = [(asks(text, count), [photo] * count) for text, count in QUESTIONS]
        alone = [await whole(engine, *case) for case in cases]
        together = await asyncio.gather(*(whole(engine, *case) for case in cases))
        return alone, together

    alone, together = run(work)
    assert together == alone
    assert len({token for _, ids, *_ in alone for token in ids}) >= 8
    assert len({text for text, *_ in alone}) == len(QUESTIONS)


def test_pieces_come_one_after_another_and_count_tokens(run):
    async def work(engine):
        return [delta async for delta in engine.chat(MODEL, asks("hello there"), [], {"max_new_tokens": 24})]

    deltas = run(work)
    counts = [delta.usage[1] for delta in deltas]
    assert len(deltas) >= 8 and counts == sorted(counts) and counts[-1] == 24
    assert [delta.finish_reason for delta in deltas] == [*[""] * (len(deltas) - 1), "length"]


def test_a_picture_changes_the_answer_and_counts_as_tokens(run, photo):
    async def work(engine):
        return await whole(engine, asks("What is this?")), await whole(engine, asks("What is this?", 1), [photo])

    without, with_picture = run(work)
    assert without[1] != with_picture[1]
    assert with_picture[3][0] > without[3][0] + 50


def test_a_conversation_remembers_what_was_said(run):
    async def work(engine):
        first = [*asks("hello"), {"role": "assistant", "content": [{"type": "text", "text": "good day"}]}]
        return await whole(engine, asks("and now?")), await whole(engine, [*first, *asks("and now?")])

    fresh, later = run(work)
    assert fresh[1] != later[1]


def test_a_second_question_about_a_picture_is_not_read_from_its_beginning(run, photo):
    async def work(engine):
        questions = [asks("What is this?", 1), asks("How many people are there?", 1), asks("What is this?", 1)]
        found = []
        for messages in questions:
            given = engine.chat(MODEL, messages, [photo], {"max_new_tokens": 8})
            deltas = [delta async for delta in given]
            found.append(([int(id) for delta in deltas for id in delta.token_ids], deltas[-1]))
        return found

    first, second, again = run(work)
    assert second[1].cached_tokens >= first[1].usage[0] - 64 > 0
    assert again[0] == first[0] and again[1].usage == first[1].usage and again[1].cached_tokens > 0


def test_an_answer_follows_a_schema_and_tells_how_likely_its_tokens_are(run):
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 9}},
              "required": ["n"], "additionalProperties": False}  # fmt: skip

    async def work(engine):
        given = {"max_new_tokens": 60, "temperature": 1.0, "seed": 3, "schema": schema, "top_logprobs": 2}
        return [delta async for delta in engine.chat(MODEL, asks("How many?"), [], given)]

    deltas = run(work)
    assert 0 <= json.loads("".join(delta.text for delta in deltas))["n"] <= 9 and deltas[-1].finish_reason == "stop"
    told = [one for delta in deltas for one in delta.logprobs]
    assert "".join(one["token"] for one in told) == "".join(delta.text for delta in deltas)
    assert all(one["logprob"] <= one["top_logprobs"][0]["logprob"] <= 0 for one in told)
    with pytest.raises(InvalidParameter, match="banana"):
        run(lambda engine: whole(engine, asks("x"), schema={"type": "banana"}))


def test_a_seed_repeats_a_sampled_answer(run):
    async def work(engine):
        draw = {"temperature": 1.2, "top_p": 0.9, "top_k": 100}
        return [await whole(engine, asks("hello"), seed=seed, **draw) for seed in (3, 3, 4)]

    first, again, other = run(work)
    assert first == again and first[1] != other[1]


def test_a_stop_text_ends_the_answer_and_is_not_in_it(run):
    async def work(engine):
        text, *_ = await whole(engine, asks("hello there"))
        stop = text[len(text) // 2 :][:4]
        return text, stop, await whole(engine, asks("hello there"), stop=[stop])

    text, stop, (cut, ids, reason, _) = run(work)
    assert reason == "stop" and len(ids) < 24
    assert cut == text[: text.index(stop)]


def test_work_that_a_caller_left_ends(run, server):
    async def work(engine):
        async with aclosing(engine.chat(MODEL, asks("go on"), [], {"max_new_tokens": 8000, "seed": 1})) as pieces:
            async for _ in pieces:
                break
        await engine.unload(MODEL)
        for _ in range(50):  # Triton lets a model go when nothing of it is under way; 8000 tokens take a minute
            await asyncio.sleep(0.1)
            if not [stub for stub in server[1].processes() if "small-vlm" in stub.model]:
                return True
        return False

    assert run(work)


def test_a_killed_process_fails_its_request_at_once_and_the_next_succeeds(run, server):
    async def work(engine):
        wanted = await whole(engine, asks("hello there"))
        (stub,) = [stub for stub in server[1].processes() if "small-vlm" in stub.model]
        with pytest.raises(ServerUnavailable):
            async for delta in engine.chat(MODEL, asks("go on"), [], {"max_new_tokens": 8000, "temperature": 1.0}):
                if delta.usage[1] > 3:
                    _kill(stub.pid)
        return wanted, await whole(engine, asks("hello there"))

    wanted, after = run(work)
    assert after == wanted


def _kill(pid):
    if subprocess.run(["ps", "-p", str(pid)], capture_output=True).returncode == 0:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(("messages", "pictures", "settings", "says"), [
    (asks("x"), [], {"temperature": 9}, "between 0 and 2"),
    (asks("x"), [], {"loudness": 1}, "Unknown parameter"),
    (asks("word " * 9000), [], {}, "tokens long"),
    (asks("   "), [], {}, "empty"),
    (asks("x", 1), [], {}, "picture"),
    ([], [], {}, "messages"),
    ([{"role": "robot", "content": []}], [], {}, "messages"),
])  # fmt: skip
def test_bad_requests_are_refused_in_a_sentence_and_the_next_is_answered(run, messages, pictures, settings, says):
    async def work(engine):
        with pytest.raises(InvalidParameter, match=says):
            await whole(engine, messages, pictures, **settings)
        return await whole(engine, asks("hello there"))

    assert run(work)[1]


def test_a_picture_that_is_none_is_refused(run):
    async def work(engine):
        with pytest.raises(InvalidPicture):
            await whole(engine, asks("what", 1), [b"no picture"])

    run(work)


def test_pictures_over_the_total_limit_are_refused_and_the_next_is_answered(run):
    stream = io.BytesIO()
    Image.new("L", (7000, 5000)).save(stream, "PNG")

    async def work(engine):
        with pytest.raises(PictureTooLarge, match="105.0 million pixels together"):
            await whole(engine, asks("what", 3), [stream.getvalue()] * 3)
        return await whole(engine, asks("hello there"))

    assert run(work)[1]


def test_chat_and_other_tasks_are_refused_by_each_others_models(run):
    async def work(engine):
        with pytest.raises(InvalidParameter, match="'resnet18' does classification, not vlm"):
            async for _ in engine.chat("resnet18", asks("hello"), [], {}):
                pass
        with pytest.raises(InvalidParameter, match="does vlm, not interactive-instance-segmentation"):
            await anext(engine.generate_masks(MODEL, b"", {}))

    run(work)
