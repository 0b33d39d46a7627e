"""A vision-language model over networks small enough to follow: what is asked of them, and what ends an answer."""

import json
import threading
import weakref
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from counting_vlm import LONGEST, TILE, TOKENS, VOCABULARY, Caller, asks, grey, never, settings

from tritonvision.errors import InvalidParameter, InvalidPicture, PictureTooLarge, ServerUnavailable
from tritonvision.python_backend.generation.decoder import Piece
from tritonvision.python_backend.generation.prompt import Picture
from tritonvision.python_backend.generation.scheduler import Cancelled
from tritonvision.python_backend.images import total


def test_an_answer_comes_in_pieces_and_counts_its_tokens(engine, tokenizer):
    deltas = list(engine.talk(asks("fox"), [], settings()))
    last = tokenizer.encode("Assistant:").ids[-1]
    assert [int(id) for delta in deltas for id in delta.token_ids] == [last + 1, last + 2, last + 3]
    assert "".join(delta.text for delta in deltas) == tokenizer.decode([last + 1, last + 2, last + 3])
    assert deltas[-1].finish_reason == "length" and deltas[-1].usage[1] == 3
    prompt = "<|im_start|>User: fox<end_of_utterance>\nAssistant:"
    assert deltas[-1].usage[0] == len(tokenizer.encode(prompt).ids)


def test_what_the_vision_network_sees_stands_where_the_picture_is(engine, networks):
    list(engine.talk(asks("fox", 2), [grey(10), grey(20)], settings()))
    (prompt,) = networks.prompts
    seen = prompt[prompt[:, 0] == -1]
    tiles = (LONGEST // TILE) ** 2 + 1
    np.testing.assert_allclose(seen[:, 1], [10] * tiles * TOKENS + [20] * tiles * TOKENS, atol=0.5)


def test_a_picture_that_comes_again_is_not_encoded_again(engine, networks):
    first = list(engine.talk(asks("fox", 1), [grey(10)], settings()))
    runs = len(networks.tiles)
    assert sum(networks.tiles) == 17 and max(networks.tiles) <= 4
    assert [d.token_ids.tolist() for d in engine.talk(asks("fox", 1), [grey(10)], settings())] == [
        d.token_ids.tolist() for d in first
    ]
    assert len(networks.tiles) == runs
    list(engine.talk(asks("fox", 1), [grey(11)], settings()))
    assert len(networks.tiles) == 2 * runs


@pytest.mark.parametrize(("messages", "sizes", "refusal", "sentence"), [
    (asks("x" * 60_000), [], InvalidParameter, "60000 characters"),
    (asks("fox") * 801, [], InvalidParameter, "801 messages or parts of them; the model reads 800 tokens"),
    ([{"role": "user", "content": [{"type": "text", "text": ""}] * 900}], [], InvalidParameter, "900 messages"),
    (asks("fox " * 1000, 1), [(9, 9)], InvalidParameter, "tokens long"),
    (asks("fox", 1), [(9, 9)] * 2, InvalidParameter, "places for 1 pictures, 2 came"),
    (asks("fox", 8), [(9, 9)] * 8, InvalidParameter, "tokens long"),
    (asks("fox", 3), [(5000, 7000)] * 3, PictureTooLarge, "105.0 million pixels together, over the limit of 100"),
    ([], [], InvalidParameter, "No message is the user's"),
])  # fmt: skip
def test_a_request_is_refused_before_any_picture_is_decoded(engine, messages, sizes, refusal, sentence):
    pictures = [Picture(lambda size=size: size, never) for size in sizes]
    error = Caller().ask(engine, messages, pictures).wait()
    assert isinstance(error, refusal)
    assert sentence in error.message


def test_settings_are_refused_before_any_picture_is_decoded(engine):
    error = Caller().ask(engine, asks("fox", 1), [Picture(lambda: (9, 9), never)], stop=["a" * 300]).wait()
    assert isinstance(error, InvalidParameter) and "stop texts" in error.message


def test_what_has_no_room_for_its_keys_and_values_is_refused_before_any_picture_is_decoded(open_engine):
    error = Caller().ask(open_engine(room=64), asks("fox", 1), [Picture(lambda: (9, 9), never)]).wait()
    assert isinstance(error, InvalidParameter) and "for prompts, keys and values" in error.message and error.hint
    assert Caller().ask(open_engine(room=1 << 20), asks("fox")).wait() is None


def test_pictures_up_to_the_limit_together_are_taken(engine, monkeypatch):
    monkeypatch.setattr(total, "MOST_PIXELS", 2 * 32 * 32)
    assert len(list(engine.talk(asks("fox", 2), [grey(1), grey(2)], settings()))) > 0
    with pytest.raises(PictureTooLarge):
        list(engine.talk(asks("fox", 2), [grey(1), grey(2, 32, 33)], settings()))


def test_one_picture_is_in_memory_at_a_time_and_none_while_the_network_runs(engine, networks):
    alive, order = [], []

    def decode(index):
        order.append((index, [ref() is not None for ref in alive]))
        pixels = grey(index)
        alive.append(weakref.ref(pixels))
        return pixels

    networks.before = lambda role: order.append(role) if any(ref() is not None for ref in alive) else None
    pictures = [Picture(lambda: (32, 32), lambda index=index: decode(index)) for index in range(3)]
    assert Caller().ask(engine, asks("fox", 3), pictures).wait() is None
    assert order == [(0, []), (1, [False]), (2, [False, False])]


def test_a_header_that_tells_another_size_than_the_pixels_is_refused(engine):
    picture = Picture(lambda: (32, 32), lambda: grey(1, 64, 32))
    assert isinstance(Caller().ask(engine, asks("fox", 1), [picture]).wait(), InvalidPicture)


@pytest.mark.parametrize("point", ["size", "decode", "embed", "vision", "decoder", "emit", "cancelled"])
@pytest.mark.parametrize("tells", [True, False])
def test_wherever_an_answer_fails_it_is_told_so_once_and_the_next_is_whole(engine, networks, point, tells):
    def reach(here):
        if here == point:
            raise MemoryError(here)

    class Failing(Caller):
        def emit(self, delta):
            reach("emit")
            super().emit(delta)

        def failed(self, error):
            super().failed(error)
            if not tells:
                raise OSError("the sender is gone")

        @property
        def left(self):
            reach("cancelled")
            return False

        @left.setter
        def left(self, value):
            pass

    networks.before = reach
    picture = Picture(lambda: reach("size") or (32, 32), lambda: reach("decode") or grey(1))
    error = Failing().ask(engine, asks("fox", 1), [picture]).wait()
    assert isinstance(error, MemoryError) and str(error) == point
    networks.before = lambda role: None
    after = Caller().ask(engine, asks("fox", 1), [Picture.of(grey(1))])
    assert after.wait() is None and after.deltas[-1].usage[1] == 3


def test_a_caller_that_leaves_ends_the_work_between_two_runs_of_the_vision_network(engine, networks):
    caller = Caller()
    networks.before = lambda role: setattr(caller, "left", True)
    error = caller.ask(engine, asks("fox", 1), [Picture.of(grey(1))]).wait()
    assert isinstance(error, Cancelled) and len(networks.tiles) <= 1


def test_closing_a_stream_ends_its_work(engine, networks):
    pieces = engine.talk(asks("fox"), [], settings(max_new_tokens=250))
    next(pieces)
    pieces.close()
    assert Caller().ask(engine, asks("dog")).wait() is None  # after its first token the row that was left is gone
    before = len(networks.prompts)
    assert before == 2


def test_closing_ends_the_prompts_that_wait_and_takes_no_others(open_engine, networks):
    engine, entered, go_on = open_engine(), threading.Event(), threading.Event()
    runs = []
    networks.before = lambda role: (runs.append(role), entered.set(), go_on.wait(20))
    first = Caller().ask(engine, asks("fox", 1), [Picture.of(grey(1))])
    second = Caller().ask(engine, asks("dog"))
    assert entered.wait(20)
    closing = threading.Thread(target=engine.close)
    closing.start()
    while not engine._closing:
        closing.join(0.01)
    go_on.set()
    closing.join(20)
    assert isinstance(first.wait(), ServerUnavailable) and isinstance(second.wait(), ServerUnavailable)
    assert runs == ["embed"], "no more than what ran already"
    with pytest.raises(RuntimeError):
        Caller().ask(engine, asks("late"))


def test_every_run_of_a_network_and_every_decoding_is_watched(open_engine, networks):
    depth = {}

    @contextmanager
    def working():
        thread = threading.get_ident()
        depth[thread] = depth.get(thread, 0) + 1
        try:
            yield
        finally:
            depth[thread] -= 1

    watched = []
    networks.before = lambda role: watched.append((role, depth.get(threading.get_ident(), 0)))

    def decode():
        networks.before("decode")
        return grey(1)

    caller = Caller().ask(open_engine(working=working), asks("fox", 1), [Picture(lambda: (32, 32), decode)])
    assert caller.wait() is None
    assert {role for role, _ in watched} == {"vision", "embed", "decoder", "decode"}
    assert {count for _, count in watched} == {1}, "each piece has the whole time"


def test_rows_of_a_picture_go_into_several_inputs_with_positions_and_a_prefix(engine, networks, monkeypatch):
    """What families with deep stacks, positions of three axes or prefixes that attend both ways put in a prompt."""
    read, pieces = engine._reader.read, []

    def richer(messages, sizes):
        prompt = read(messages, sizes)
        positions = np.tile(np.arange(len(prompt.input_ids)), (3, 1))
        return replace(
            prompt, position_ids=positions, bidirectional=5,
            injections={"inputs_embeds": "image_embeds", "deepstack.0": "deep"},
        )  # fmt: skip

    def decoder(cache, piece):
        pieces.append(piece)
        return engine._decoder(cache, Piece(piece.embeds))

    decoder.empty, decoder.token_bytes = engine._decoder.empty, engine._decoder.token_bytes
    monkeypatch.setattr(engine._reader, "read", richer)
    monkeypatch.setattr(engine.scheduler, "_decoder", decoder)
    assert Caller().ask(engine, asks("fox", 1), [Picture.of(grey(10))]).wait() is None
    prompt, *answer = pieces
    at = prompt.embeds[0, :, 0] == -1
    assert at.sum() == 17 * TOKENS and set(prompt.extra) == {"deepstack.0"}
    np.testing.assert_allclose(prompt.extra["deepstack.0"][0, at, 1], 110, atol=0.5)
    assert (prompt.extra["deepstack.0"][0, ~at] == 0).all()
    assert prompt.position_ids.shape == (3, 1, prompt.embeds.shape[1]) and prompt.bidirectional == 5
    assert all(piece.extra == {} and piece.position_ids is None and piece.bidirectional == 0 for piece in answer)


def test_an_answer_by_a_schema_is_json_of_it_and_a_cut_one_says_so(engine):
    schema = {"type": "object", "properties": {"sure": {"type": "boolean"}, "n": {"type": "integer", "maximum": 9,
              "minimum": 0}}, "required": ["sure", "n"], "additionalProperties": False}  # fmt: skip
    whole = list(engine.talk(asks("fox"), [], settings(max_new_tokens=60, schema=schema, temperature=1.0, seed=4)))
    found = json.loads("".join(delta.text for delta in whole))
    assert whole[-1].finish_reason == "stop" and isinstance(found["sure"], bool) and 0 <= found["n"] <= 9
    cut = list(engine.talk(asks("fox"), [], settings(max_new_tokens=2, schema=schema)))
    assert cut[-1].finish_reason == "length" and cut[-1].usage[1] == 2
    stopped = list(engine.talk(asks("fox"), [], settings(max_new_tokens=60, schema=schema, stop=["sure"])))
    assert stopped[-1].finish_reason == "stop" and "".join(delta.text for delta in stopped).strip('{ "') == ""


def test_a_schema_that_is_none_is_refused_before_any_picture_is_decoded(engine):
    error = Caller().ask(engine, asks("fox", 1), [Picture(lambda: (9, 9), never)], schema={"type": "banana"}).wait()
    assert isinstance(error, InvalidParameter) and "banana" in error.message


def test_likelihoods_are_those_of_the_network_and_come_with_their_tokens(engine, tokenizer):
    deltas = list(engine.talk(asks("fox"), [], settings(top_logprobs=2, temperature=1.5, seed=1)))
    assert [len(delta.logprobs) for delta in deltas] == [len(delta.token_ids) for delta in deltas]
    told = [one for delta in deltas for one in delta.logprobs]
    for id, one in zip((int(id) for delta in deltas for id in delta.token_ids), told, strict=True):
        best = np.exp(1) / (np.exp(1) + VOCABULARY - 1)
        assert one["token"] == tokenizer.decode([id], skip_special_tokens=False) and len(one["top_logprobs"]) == 2
        assert one["top_logprobs"][0]["logprob"] == pytest.approx(np.log(best), abs=1e-6)
        assert one["logprob"] in (pytest.approx(np.log(best), abs=1e-6), pytest.approx(np.log(best) - 1, abs=1e-6))
    assert all(delta.logprobs == () for delta in engine.talk(asks("fox"), [], settings()))
