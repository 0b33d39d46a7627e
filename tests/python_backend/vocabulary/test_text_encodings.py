"""Encodings of texts: only what is new is asked, in batches that a network takes, and the oldest are forgotten."""

import numpy as np
import pytest

from tritonvision.python_backend.vocabulary import text_encodings
from tritonvision.python_backend.vocabulary.text_encodings import TextEncodings


@pytest.fixture
def asked():
    return []


@pytest.fixture
def encodings(asked):
    def call(role, inputs, outputs):
        assert role == "text" and outputs == ["query_embeds"]
        asked.append(inputs["input_ids"][:, 0].tolist())
        return {"query_embeds": inputs["input_ids"].astype(np.float32) / 10}

    return TextEncodings(call)


def rows(*ids):
    return [np.full(4, id, dtype=np.int64) for id in ids]


def test_embeddings_come_in_the_order_of_the_texts_and_each_is_computed_once(encodings, asked):
    assert encodings(rows(3, 1, 3))[:, 0].tolist() == pytest.approx([0.3, 0.1, 0.3])
    assert encodings(rows(2, 1))[:, 0].tolist() == pytest.approx([0.2, 0.1])
    assert asked == [[3, 1], [2]]


def test_new_texts_go_together_but_no_more_than_a_batch_holds(encodings, asked):
    encodings(rows(*range(11)))
    assert [len(batch) for batch in asked] == [8, 3]


def test_the_text_that_was_asked_longest_ago_is_forgotten(encodings, asked, monkeypatch):
    monkeypatch.setattr(text_encodings, "_KEPT", 2)
    for id in (1, 2, 1, 3, 1, 2):
        encodings(rows(id))
    assert asked == [[1], [2], [3], [2]]
