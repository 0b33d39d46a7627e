"""A model that searches for its answers, over networks small enough to follow: what ends one, and what is kept."""

import json
import threading

import jsonschema_rs
import numpy as np
import pytest

from tritonvision.errors import InvalidParameter, InvalidPicture, ServerUnavailable, TritonVisionError
from tritonvision.python_backend.generation import search_engine
from tritonvision.python_backend.generation.engines import open_engine
from tritonvision.python_backend.generation.prompt import Picture
from tritonvision.python_backend.generation.scheduler import Cancelled
from tritonvision.python_backend.runtime.sessions import Sessions
from tritonvision.tasks import VLM, resolve

SPECIAL = {token: id for id, token in enumerate(["<s>", "<pad>", "</s>", "<image>"])}
FIRST, END, VOCABULARY = 60, SPECIAL["</s>"], 330  # the tokens FIRST, FIRST + 1 ... are written, then the end
OPTIONS = {
    "side": 8, "rows": 2, "context": 90, "positions": 30, "image_token": SPECIAL["<image>"], "layers": 1,
    "masked": True,
}  # fmt: skip
SEARCH = (
    b'{"start": 2, "most": 20, "ends": [2], "beams": 3, "length_penalty": 1.0, "early_stopping": true, "no_repeat": 3,'
    b' "first": null, "last": []}'
)


class Networks:
    """A picture's rows are its mean; the first token is FIRST + the mean / 100, each further one the next, then END."""

    def __init__(self):
        self.runs, self.before = [], lambda role: None

    def run(self, outputs, inputs):
        role = "vision" if "pixels" in inputs else "encoder" if "image_embeds" in inputs else "decoder"
        self.runs.append((role, len(inputs["input_ids"]) if role == "decoder" else 1))
        self.before(role)
        if role == "vision":
            return [np.full((1, 2, 3), inputs["pixels"].mean(), np.float32)]
        if role == "encoder":
            self.prompt = inputs["input_ids"][0].tolist()
            return [np.full((1, 1, 2 + len(self.prompt), 1), inputs["image_embeds"].mean(), np.float32)] * 2
        ids, keys = inputs["input_ids"][:, -1], inputs["cross.0.key"].mean(axis=(1, 3))
        means = np.average(keys, axis=1, weights=inputs.get("encoder_attention_mask", np.ones_like(keys)))
        first = FIRST + np.repeat((means / 100).astype(int), len(ids) // len(means))
        following = np.where(ids == END, first, np.where(ids == FIRST + 4, END, ids + 1))
        logits = np.zeros((len(ids), VOCABULARY), np.float32)
        logits[np.arange(len(ids)), following] = 10.5
        past = np.concatenate([inputs["past_key_values.0.key"], np.zeros((len(ids), 1, 1, 1), np.float32)], 2)
        found = {"logits": logits, "present.0.key": past, "present.0.value": past}
        return [found[name] for name in outputs]


@pytest.fixture
def networks():
    return Networks()


@pytest.fixture(params=[OPTIONS])
def engine(networks, byte_level, request):
    assets = {"tokenizer.json": byte_level(SPECIAL).to_str().encode(), "search.json": SEARCH}
    sessions = Sessions.of(dict.fromkeys(("vision", "encoder", "decoder"), networks))
    found = open_engine(sessions, "florence_2", request.param, assets)
    yield found
    found.close()


def asks(text="<CAPTION>"):
    return [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}]


def grey(value):
    return np.full((9, 12, 3), value, np.uint8)


def settings(**given):
    return resolve(VLM.parameters, given)


def whole(engine, value=90, text="<CAPTION>", **given):
    *signs, last = engine.talk(asks(text), [grey(value)], settings(**given))
    assert all(sign.text == "" and sign.finish_reason == "" for sign in signs)
    return last


def test_an_answer_is_the_search_of_the_checkpoint(engine, networks):
    answer = whole(engine)
    assert answer.token_ids.tolist() == [60, 61, 62, 63, 64, END] and answer.finish_reason == "stop"
    assert answer.text and answer.usage == (2 + len(networks.prompt), 6)
    assert {rows for role, rows in networks.runs if role == "decoder"} == {1, 3}, "the first step, then three beams"
    assert whole(engine, 250).token_ids.tolist() == [62, 63, 64, END]


def test_beams_and_length_are_the_requests(engine, networks):
    answer = whole(engine, num_beams=1, max_new_tokens=3)
    assert (answer.token_ids.tolist(), answer.finish_reason) == ([60, 61, 62], "length")
    assert {rows for role, rows in networks.runs if role == "decoder"} == {1}
    assert len(whole(engine, max_new_tokens=8192).token_ids) == 6


def test_sampling_follows_the_seed(engine):
    drawn = [whole(engine, temperature=2.0, seed=seed).token_ids.tolist() for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    with pytest.raises(InvalidParameter, match="temperature of 0"):
        whole(engine, temperature=1.0, num_beams=3)


def test_a_repetition_penalty_takes_token_by_token(engine, networks):
    whole(engine, repetition_penalty=1.3)
    assert {rows for role, rows in networks.runs if role == "decoder"} == {1}


def test_a_stop_text_ends_the_text(engine):
    said = whole(engine).text
    answer = whole(engine, stop=[said[2:4], "nowhere"])
    assert (answer.text, answer.finish_reason) == (said[:2], "stop")
    with pytest.raises(InvalidParameter, match="32 stop texts"):
        whole(engine, stop=["x" * 1_000_000])


def test_a_picture_is_encoded_once_for_all_its_tasks(engine, networks):
    for task in ("<CAPTION>", "<OD>", "<OCR>"):
        whole(engine, text=task)
    whole(engine, 91)
    assert [role for role, _ in networks.runs].count("vision") == 2


def test_a_caller_who_left_ends_the_search(engine, networks):
    left, ended = threading.Event(), threading.Event()
    failures = []

    def failed(error):
        failures.append(error)
        ended.set()

    networks.before = lambda role: left.set() if role == "decoder" else None
    engine.start(asks(), [Picture.of(grey(9))], settings(), pytest.fail, failed, left.is_set)
    assert ended.wait(20) and isinstance(failures[0], Cancelled)
    assert [role for role, _ in networks.runs].count("decoder") == 1


class Caller:
    """One answer of several that are asked for at once: its end, and what it was."""

    def __init__(self):
        self.ended, self.left, self.outcome = threading.Event(), False, None

    def emit(self, delta):
        self.outcome = delta
        self.ended.set()

    def failed(self, error):
        self.outcome = error
        self.ended.set()

    def tokens(self):
        assert self.ended.wait(20)
        return self.outcome.token_ids.tolist()


@pytest.fixture
def at_once(engine, networks):
    """``at_once((grey, text, settings) ...)``: callers who ask while the engine is busy with another answer.

    Before each run of a network for them ``at_once.before(role, callers)`` is called.
    """
    go_on, busy = threading.Event(), Caller()

    def hold(role):
        if not go_on.is_set():
            reached.set()
            assert go_on.wait(20)

    def ask(*questions):
        engine.start(asks(), [Picture.of(grey(7))], settings(), busy.emit, busy.failed, lambda: False)
        assert reached.wait(20)
        callers = [Caller() for _ in questions]
        for caller, (value, text, given) in zip(callers, questions, strict=True):
            start = caller.emit, caller.failed, lambda caller=caller: caller.left
            engine.start(asks(text), [Picture.of(grey(value))], settings(**given), *start)
        networks.runs.clear()
        networks.before = lambda role: ask.before(role, callers)
        go_on.set()
        return callers

    reached = threading.Event()
    networks.before, ask.before = hold, lambda role, callers: None
    return ask


def rows_of_steps(networks):
    return [rows for role, rows in networks.runs if role == "decoder"]


def test_answers_that_wait_are_written_together_as_each_is_alone(engine, networks, at_once):
    greys = (90, 250, 150, 20)
    callers = at_once(*((value, "<CAPTION>", {}) for value in greys))
    together = [caller.tokens() for caller in callers]
    assert rows_of_steps(networks)[-8:] == [4, 12, 12, 12, 12, 12, 9, 6], "the shorter answers leave"
    assert together == [whole(engine, value).token_ids.tolist() for value in greys]


def test_prompts_of_several_lengths_are_one_batch_and_searches_of_another_width_are_not(networks, at_once):
    callers = at_once(
        (90, "<CAPTION>", {}), (150, "What is it?", {}), (250, "<CAPTION>", {"num_beams": 2}), (250, "<OD>", {}),
    )  # fmt: skip
    assert [caller.tokens()[0] for caller in callers] == [60, 61, 62, 62]
    assert max(rows_of_steps(networks)) == 9 and 2 in rows_of_steps(networks)


def test_as_many_are_written_together_as_have_room_and_what_has_none_alone_is_refused(engine, networks, at_once):
    length = len(engine._reader.read(asks(), [(9, 12)]).input_ids)
    alone = 2 * 8 * (length + 3 * OPTIONS["positions"])  # bytes of a key and a value of each token, twice
    engine._room = 2 * alone
    callers = at_once(*((value, "<CAPTION>", {}) for value in (90, 250, 150, 20, 90)))
    together = [caller.tokens() for caller in callers]
    assert max(rows_of_steps(networks)) == 6
    assert together == [whole(engine, value).token_ids.tolist() for value in (90, 250, 150, 20, 90)]
    engine._room = alone - 1
    with pytest.raises(InvalidParameter, match="3 texts of up to 30 tokens take") as refused:
        whole(engine)
    assert refused.value.hint and whole(engine, max_new_tokens=20).token_ids.tolist() == together[0]


@pytest.mark.parametrize("engine", [OPTIONS | {"masked": False}], indirect=True)
def test_a_decoder_without_a_mask_answers_prompts_of_another_length_by_themselves(networks, at_once):
    callers = at_once((90, "<CAPTION>", {}), (90, "<OD>", {}), (250, "<CAPTION>", {}))
    assert [caller.tokens()[0] for caller in callers] == [60, 60, 62]
    assert max(rows_of_steps(networks)) == 6


@pytest.mark.parametrize("given", [{}, {"num_beams": 1}, {"temperature": 1.0, "seed": 3}])
def test_an_answer_by_a_schema_is_its_json(engine, given):
    schema = {
        "type": "object", "properties": {"aa": {"enum": ["x", "xx"]}, "ab": {"type": "boolean"}},
        "required": ["aa", "ab"], "additionalProperties": False,
    }  # fmt: skip
    answer = whole(engine, schema=schema, max_new_tokens=30, **given)
    assert jsonschema_rs.is_valid(schema, json.loads(answer.text)) and answer.finish_reason == "stop"
    assert whole(engine).token_ids.tolist() == [60, 61, 62, 63, 64, END], "the next one is free again"


def test_a_schema_that_is_none_ends_its_own_answer_alone(engine, at_once):
    free, refused = at_once((90, "<CAPTION>", {}), (90, "<CAPTION>", {"schema": {"type": "nothing"}}))
    assert refused.ended.wait(20) and isinstance(refused.outcome, InvalidParameter)
    assert free.tokens() == [60, 61, 62, 63, 64, END]


def test_an_answer_that_ends_early_for_its_own_reasons_leaves_the_others_alone(networks, at_once):
    callers = at_once(
        (90, "<CAPTION>", {}), (150, "<CAPTION>", {"max_new_tokens": 2}), (250, "see <OD>", {}), (20, "<CAPTION>", {}),
    )  # fmt: skip
    assert callers[0].tokens() == callers[3].tokens() == [60, 61, 62, 63, 64, END]
    assert callers[1].tokens() == [61, 62] and callers[1].outcome.finish_reason == "length"
    assert callers[2].ended.wait(20) and isinstance(callers[2].outcome, InvalidParameter)


def test_who_leaves_a_batch_is_not_waited_for(networks, at_once):
    def leave(role, callers):
        if role == "decoder" and networks.runs[-1] == ("decoder", 6):
            callers[0].left = True

    at_once.before = leave
    first, second = at_once((90, "<CAPTION>", {}), (150, "<CAPTION>", {}))
    assert second.tokens() == [61, 62, 63, 64, END]
    assert first.ended.wait(20) and isinstance(first.outcome, Cancelled)
    assert rows_of_steps(networks)[-7:-3] == [2, 6, 3, 3]


def test_who_leaves_while_waiting_is_told_at_once(networks, at_once):
    def leave(role, callers):
        callers[1].left = callers[1].left or role == "decoder"
        if role == "decoder" and networks.runs[-1] == ("decoder", 3) and not callers[0].ended.is_set():
            left_early.append(callers[1].ended.is_set())

    left_early: list[bool] = []
    at_once.before = leave
    first, second = at_once((90, "<CAPTION>", {}), (90, "<OD>", {}))
    assert first.tokens() and isinstance(second.outcome, Cancelled) and left_early[-1]


def test_a_step_that_fails_ends_all_that_it_was_of_and_the_next_answer_comes(engine, networks, at_once):
    def fail(role, callers):
        if role == "decoder" and networks.runs[-1] == ("decoder", 6):
            raise TritonVisionError("no")

    at_once.before = fail
    callers = at_once((90, "<CAPTION>", {}), (150, "<CAPTION>", {}))
    for caller in callers:
        assert caller.ended.wait(20) and isinstance(caller.outcome, TritonVisionError)
    assert whole(engine).finish_reason == "stop"


def test_a_closed_engine_fails_what_is_not_finished(engine, networks):
    reached, go_on, ended, failures = (*(threading.Event() for _ in range(3)), [])

    def before(role):
        reached.set()
        assert go_on.wait(20)

    def failed(error):
        failures.append(error)
        ended.set()

    networks.before = before
    engine.start(asks(), [Picture.of(grey(9))], settings(), pytest.fail, failed, lambda: False)
    assert reached.wait(20)
    closing = threading.Thread(target=engine.close)
    closing.start()
    while not engine._closing:
        closing.join(0.001)
    go_on.set()
    closing.join()
    assert ended.wait(20) and isinstance(failures[0], ServerUnavailable)


def test_a_long_search_says_that_it_goes_on(engine, monkeypatch):
    monkeypatch.setattr(search_engine, "_SIGN", -1.0)
    *signs, last = engine.talk(asks(), [grey(9)], settings())
    assert len(signs) >= 5 and all(len(sign.token_ids) == 0 and not sign.text for sign in signs)
    assert last.finish_reason == "stop"


def test_errors_reach_their_caller_and_the_next_answer_comes(engine, networks):
    with pytest.raises(InvalidParameter, match="in the middle"):
        whole(engine, text="see <OD>")
    lying = Picture(lambda: (5, 5), lambda: grey(1))
    failures, ended = [], threading.Event()
    engine.start(asks(), [lying], settings(), pytest.fail, lambda e: (failures.append(e), ended.set()), lambda: False)
    assert ended.wait(20) and isinstance(failures[0], InvalidPicture)
    networks.before = lambda role: (_ for _ in ()).throw(TritonVisionError("no")) if role == "encoder" else None
    with pytest.raises(TritonVisionError, match="no"):
        whole(engine)
    networks.before = lambda role: None
    assert whole(engine).finish_reason == "stop"
