"""Caches of a decoder: rows of different length side by side, and what the graph is told about them."""

from types import SimpleNamespace

import numpy as np
import pytest
from onnxruntime import OrtValue

from tritonvision.errors import TritonVisionError
from tritonvision.python_backend.generation.decoder import Decoder, Piece

HEADS, WIDTH, VOCABULARY = 2, 3, 11


class Session:
    """Keys are the embeddings, one layer, for each of two heads; logits are a number for each row.

    Args:
        more: shapes of further inputs.
    """

    def __init__(self, **more):
        self.feeds, self.more = [], more

    def get_inputs(self):
        past = [SimpleNamespace(name=f"past_key_values.0.{part}", shape=["b", HEADS, "p", WIDTH]) for part in "kv"]
        more = [SimpleNamespace(name=name, shape=shape) for name, shape in self.more.items()]
        return [SimpleNamespace(name="inputs_embeds", shape=["b", "s", WIDTH]), *past, *more]

    def get_outputs(self):
        return [SimpleNamespace(name="present.0.k", shape=[]), SimpleNamespace(name="logits", shape=["b", VOCABULARY])]

    def run_with_ort_values(self, names, feeds):
        assert names == ["logits", "present.0.k", "present.0.v"]
        given = {name: value.numpy().copy() for name, value in feeds.items()}
        self.feeds.append(given)
        new = np.repeat(given["inputs_embeds"][:, None], HEADS, axis=1)
        logits = np.tile(np.arange(len(new), dtype=np.float32)[:, None], (1, VOCABULARY))
        keys = np.concatenate([given["past_key_values.0.k"], new], axis=2)
        values = np.concatenate([given["past_key_values.0.v"], -new], axis=2)
        self.kept = [logits, keys, values]  # onnxruntime owns what a session answers, but not what it was made of here
        return [OrtValue.ortvalue_from_numpy(value) for value in self.kept]


@pytest.fixture
def session():
    return Session()


@pytest.fixture
def decoder(session):
    return Decoder(session)


def embeds(*rows):
    """float32 ``[B,S,WIDTH]`` of numbers."""
    return np.repeat(np.float32(rows)[..., None], WIDTH, axis=2)


def keys(cache):
    """What row by row is remembered, [B][P]."""
    return cache.past[0].numpy()[:, 0, :, 0].tolist()


def test_an_empty_cache_is_one_row_that_has_read_nothing(decoder):
    empty = decoder.empty()
    assert empty.rows == 1 and empty.lengths.tolist() == [0] and decoder.vocabulary == VOCABULARY
    assert [value.numpy().shape for value in empty.past] == [(1, HEADS, 0, WIDTH)] * 2


def test_a_second_piece_goes_on_where_the_first_ended(decoder, session):
    logits, cache = decoder(decoder.empty(), Piece(embeds([1, 2, 3])))
    assert logits.shape == (1, VOCABULARY) and cache.lengths.tolist() == [3]
    _, cache = decoder(cache, Piece(embeds([4])))
    assert keys(cache) == [[1, 2, 3, 4]] and cache.mask.tolist() == [[1, 1, 1, 1]]
    assert cache.past[1].numpy()[0, 1, :, 2].tolist() == [-1, -2, -3, -4]
    assert [feed["position_ids"].tolist() for feed in session.feeds] == [[[0, 1, 2]], [[3]]]
    assert [feed["attention_mask"].shape for feed in session.feeds] == [(1, 3), (1, 4)]


def test_a_shorter_row_is_padded_on_the_left_and_keeps_its_positions(decoder, session):
    _, long = decoder(decoder.empty(), Piece(embeds([1, 2, 3])))
    _, short = decoder(decoder.empty(), Piece(embeds([7])))
    for joined, order in ((long.joined(short), [0, 1]), (short.joined(long), [1, 0])):
        assert [keys(joined)[i] for i in order] == [[1, 2, 3], [0, 0, 7]]
        assert [joined.mask.tolist()[i] for i in order] == [[1, 1, 1], [0, 0, 1]]
        assert joined.rows == 2 and joined.mask.dtype == np.int64
    decoder(long.joined(short), Piece(embeds([4], [8])))
    assert session.feeds[-1]["position_ids"].tolist() == [[3], [1]]
    assert session.feeds[-1]["attention_mask"].tolist() == [[1, 1, 1, 1], [0, 0, 1, 1]]


def test_rows_that_leave_take_the_padding_that_was_theirs_alone(decoder):
    _, long = decoder(decoder.empty(), Piece(embeds([1, 2, 3])))
    _, middle = decoder(decoder.empty(), Piece(embeds([5, 6])))
    _, short = decoder(decoder.empty(), Piece(embeds([7])))
    three = long.joined(middle).joined(short)
    two = three.only([2, 1])
    assert keys(two) == [[0, 7], [5, 6]] and two.mask.tolist() == [[0, 1], [1, 1]]
    assert keys(three.only([2])) == [[7]] and keys(three.only([0, 2])) == [[1, 2, 3], [0, 0, 7]]


def test_positions_of_several_axes_go_on_after_the_largest_on_all_axes():
    session = Session(position_ids=[3, "b", "s"])
    decoder = Decoder(session)
    given = np.array([[[0, 1, 1, 2]], [[0, 1, 5, 2]], [[0, 1, 1, 2]]])
    _, first = decoder(decoder.empty(), Piece(embeds([1, 2, 3, 4]), given))
    assert first.next_positions.tolist() == [6] and first.lengths.tolist() == [4]
    _, second = decoder(decoder.empty(), Piece(embeds([7])))
    assert session.feeds[-1]["position_ids"].tolist() == [[[0]]] * 3
    _, both = decoder(first.joined(second), Piece(embeds([5], [8])))
    assert session.feeds[-1]["position_ids"].tolist() == [[[6], [1]]] * 3
    assert both.next_positions.tolist() == [7, 2]
    decoder(both.only([1]), Piece(embeds([9])))
    assert session.feeds[-1]["position_ids"].tolist() == [[[2]]] * 3


def test_positions_of_one_axis_may_be_given_too(session, decoder):
    _, cache = decoder(decoder.empty(), Piece(embeds([1, 2, 3]), np.array([[0, 0, 4]])))
    _, cache = decoder(cache, Piece(embeds([4, 5]), np.array([[2, 3]])))
    assert [feed["position_ids"].tolist() for feed in session.feeds] == [[[0, 0, 4]], [[2, 3]]]
    assert cache.next_positions.tolist() == [5], "a position that lay ahead counts"


def test_further_inputs_get_their_rows_and_zeros_where_there_are_none():
    session = Session(**{"deepstack.0": ["b", "s", WIDTH], "deepstack.1": ["b", "s", WIDTH]})
    decoder = Decoder(session)
    _, cache = decoder(decoder.empty(), Piece(embeds([1, 2]), extra={"deepstack.1": embeds([0, 9])}))
    decoder(cache, Piece(embeds([3])))
    assert [feed["deepstack.1"][0, :, 0].tolist() for feed in session.feeds] == [[0, 9], [0]]
    assert [feed["deepstack.0"][0, :, 0].tolist() for feed in session.feeds] == [[0, 0], [0]]
    assert session.feeds[0]["deepstack.0"].dtype == np.float32


def test_a_graph_is_told_how_much_of_a_piece_attends_both_ways():
    session = Session(bidirectional=["b"])
    decoder = Decoder(session)
    _, first = decoder(decoder.empty(), Piece(embeds([1, 2, 3]), bidirectional=2))
    _, second = decoder(decoder.empty(), Piece(embeds([1])))
    decoder(first.joined(second), Piece(embeds([4], [5])))
    assert [feed["bidirectional"].tolist() for feed in session.feeds] == [[2], [0], [0, 0]]
    assert session.feeds[0]["bidirectional"].dtype == np.int64


@pytest.mark.parametrize("more", [{"bidirectional": 1}, {"extra": {"deepstack.0": embeds([1])}}])
def test_what_the_graph_does_not_read_is_an_error(decoder, more):
    with pytest.raises(TritonVisionError, match="does not read"):
        decoder(decoder.empty(), Piece(embeds([1]), **more))
