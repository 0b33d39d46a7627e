"""Caches of a decoder: rows of different length side by side, and what the graph is told about them."""

from types import SimpleNamespace

import numpy as np
import pytest
from onnxruntime import OrtValue

from tritonvision.python_backend.generation.decoder import Decoder

HEADS, WIDTH, VOCABULARY = 2, 3, 11


class Session:
    """Keys are the embeddings, one layer, for each of two heads; logits are a number for each row."""

    def __init__(self):
        self.feeds = []

    def get_inputs(self):
        past = [SimpleNamespace(name=f"past_key_values.0.{part}", shape=["b", HEADS, "p", WIDTH]) for part in "kv"]
        return [SimpleNamespace(name="inputs_embeds", shape=["b", "s", WIDTH]), *past]

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
    logits, cache = decoder(decoder.empty(), embeds([1, 2, 3]))
    assert logits.shape == (1, VOCABULARY) and cache.lengths.tolist() == [3]
    _, cache = decoder(cache, embeds([4]))
    assert keys(cache) == [[1, 2, 3, 4]] and cache.mask.tolist() == [[1, 1, 1, 1]]
    assert cache.past[1].numpy()[0, 1, :, 2].tolist() == [-1, -2, -3, -4]
    assert [feed["position_ids"].tolist() for feed in session.feeds] == [[[0, 1, 2]], [[3]]]
    assert [feed["attention_mask"].shape for feed in session.feeds] == [(1, 3), (1, 4)]


def test_a_shorter_row_is_padded_on_the_left_and_keeps_its_positions(decoder, session):
    _, long = decoder(decoder.empty(), embeds([1, 2, 3]))
    _, short = decoder(decoder.empty(), embeds([7]))
    for joined, order in ((long.joined(short), [0, 1]), (short.joined(long), [1, 0])):
        assert [keys(joined)[i] for i in order] == [[1, 2, 3], [0, 0, 7]]
        assert [joined.mask.tolist()[i] for i in order] == [[1, 1, 1], [0, 0, 1]]
        assert joined.rows == 2 and joined.mask.dtype == np.int64
    decoder(long.joined(short), embeds([4], [8]))
    assert session.feeds[-1]["position_ids"].tolist() == [[3], [1]]
    assert session.feeds[-1]["attention_mask"].tolist() == [[1, 1, 1, 1], [0, 0, 1, 1]]


def test_rows_that_leave_take_the_padding_that_was_theirs_alone(decoder):
    _, long = decoder(decoder.empty(), embeds([1, 2, 3]))
    _, middle = decoder(decoder.empty(), embeds([5, 6]))
    _, short = decoder(decoder.empty(), embeds([7]))
    three = long.joined(middle).joined(short)
    two = three.only([2, 1])
    assert keys(two) == [[0, 7], [5, 6]] and two.mask.tolist() == [[0, 1], [1, 1]]
    assert keys(three.only([2])) == [[7]] and keys(three.only([0, 2])) == [[1, 2, 3], [0, 0, 7]]
