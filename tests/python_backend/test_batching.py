"""Answers of one request: lists are padded, what follows the picture is not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tritonvision.errors import InvalidParameter
from tritonvision.python_backend.batching import stack_padded


def faces(count):
    return {
        "boxes": np.full((count, 4), 7, np.float32), "keypoints": np.full((count, 6, 2), 7, np.float32),
        "class_ids": np.full(count, 7, np.int32), "masks": np.array([b"m"] * count, dtype=object),
        "image_size": np.array([3, 4], np.int32),
    }  # fmt: skip


@settings(deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=4))
def test_lists_are_padded_to_the_longest_and_what_is_there_stays(counts):
    stacked, longest = stack_padded([faces(count) for count in counts]), max(counts)
    assert stacked["boxes"].shape == (len(counts), longest, 4)
    assert stacked["keypoints"].shape == (len(counts), longest, 6, 2)
    assert stacked["image_size"].tolist() == [[3, 4]] * len(counts)
    for row, count in enumerate(counts):
        padding = longest - count
        assert stacked["class_ids"][row].tolist() == [7] * count + [-1] * padding
        assert stacked["masks"][row].tolist() == [b"m"] * count + [b""] * padding
        assert (stacked["boxes"][row, :count] == 7).all() and (stacked["boxes"][row, count:] == 0).all()
        assert (stacked["keypoints"][row, :count] == 7).all() and (stacked["keypoints"][row, count:] == 0).all()
    assert {name: value.dtype for name, value in stacked.items()} == {n: v.dtype for n, v in faces(1).items()}


def test_one_answer_is_not_copied():
    answer = faces(2)
    assert np.shares_memory(stack_padded([answer])["boxes"], answer["boxes"])


@pytest.mark.parametrize(("name", "first", "second"), [
    ("map", (30, 40), (20, 15)),
    ("map", (30, 40), (20, 40)),
    ("embeddings", (8,), (9,)),
    ("keypoints", (2, 6, 2), (1, 0, 2)),
])  # fmt: skip
def test_what_is_no_list_has_to_agree(name, first, second):
    with pytest.raises(InvalidParameter, match="differ in shape") as refusal:
        stack_padded([{name: np.ones(first)}, {name: np.ones(second)}])
    assert refusal.value.hint == "Send the pictures one by one."


def test_maps_of_one_size_are_a_batch():
    assert stack_padded([{"map": np.ones((3, 4))}] * 2)["map"].shape == (2, 3, 4)
