"""What is kept of prompts that were read: found only behind the same beginning, bounded, and never wrong."""

import threading

import numpy as np
import pytest

from tritonvision.python_backend.generation.decoder import Cache, value_of
from tritonvision.python_backend.generation.prefixes import BLOCK, Content, Prefixes

WIDTH, LAYERS = 4, 2
BYTES = LAYERS * 2 * BLOCK * WIDTH * 4  # of a block


def tokens(count, seed=0):
    return np.random.default_rng(seed).integers(0, 90, count)


def content(ids, pictures=(), **more):
    return Content(np.asarray(ids), pictures, more.pop("known", len(ids)), **more)


def cache_of(*rows):
    """A cache whose keys are the tokens, left-padded to the longest row."""
    longest = max(map(len, rows))
    mask = np.array([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    told = np.array([[-1] * (longest - len(row)) + [*row] for row in rows], dtype=np.float32)
    value = np.ascontiguousarray(np.broadcast_to(told[:, None, :, None], (len(rows), 2, longest, WIDTH)))
    return Cache([value_of(value + layer) for layer in range(LAYERS)], mask, mask.sum(1))


def told(kept):
    """The tokens whose keys are in the cache of what is kept, layer by layer alike."""
    cache = kept.cache()
    assert cache.mask.tolist() == [[1] * kept.tokens] and cache.next_positions.tolist() == [kept.next_position]
    first, second = (value.numpy()[0, 1, :, 3] for value in cache.past)
    np.testing.assert_array_equal(first + 1, second)
    return first.astype(int).tolist()


def read(prefixes, ids, **more):
    one = content(ids, **more)
    prefixes.put(one.keys(), cache_of(ids))
    return one


def test_the_longest_beginning_in_whole_blocks_is_found_and_the_last_token_is_always_read():
    prefixes, ids = Prefixes(), tokens(5 * BLOCK)
    read(prefixes, ids)
    for more, blocks in ((tokens(9, 1), 5), ([], 4)):
        found = prefixes.find(content([*ids, *more]))
        assert told(found) == ids[: BLOCK * blocks].tolist()
        assert found.next_position == BLOCK * blocks
    other = [*ids[: 2 * BLOCK + 3], 91, *ids[2 * BLOCK + 4 :]]
    assert told(prefixes.find(content(other))) == ids[: 2 * BLOCK].tolist()
    assert prefixes.find(content([91, *ids[1:]])) is None
    assert prefixes.find(content(ids[: BLOCK - 1])) is None


def test_a_block_behind_another_beginning_is_another_block():
    prefixes, ids = Prefixes(), tokens(3 * BLOCK)
    read(prefixes, ids)
    assert prefixes.find(content([*tokens(BLOCK, 4), *ids[BLOCK:]])) is None


@pytest.mark.parametrize("at", [0, 7, BLOCK, 2 * BLOCK - 1])
def test_another_picture_at_the_same_tokens_ends_what_is_found(at):
    prefixes, ids = Prefixes(), tokens(4 * BLOCK)
    read(prefixes, ids, pictures=[(at, "fox")])
    whole = prefixes.find(content(ids, [(at, "fox")]))
    assert told(whole) == ids[: 3 * BLOCK].tolist()
    for pictures in ([(at, "dog")], [], [(at + 1, "fox")]):
        found = prefixes.find(content(ids, pictures))
        assert (0 if found is None else found.tokens) <= at
    unknown = prefixes.find(content(ids, known=at))
    assert (0 if unknown is None else unknown.tokens) <= at


def test_positions_and_the_reach_of_the_prefix_are_a_part_of_the_content():
    prefixes, ids = Prefixes(), tokens(4 * BLOCK)
    positions = np.tile(np.arange(len(ids)), (3, 1))
    positions[1, 5:] += 40
    read(prefixes, ids, position_ids=positions)
    found = prefixes.find(content(ids, position_ids=positions))
    assert found.next_position == 3 * BLOCK - 1 + 40 + 1
    assert prefixes.find(content(ids)) is None and prefixes.find(content(ids, position_ids=positions + 1)) is None
    read(prefixes, ids, bidirectional=2 * BLOCK)
    longer = [*ids, *tokens(3, 2)]
    assert told(prefixes.find(content(longer, bidirectional=2 * BLOCK))) == ids.tolist()
    assert prefixes.find(content(longer, bidirectional=2 * BLOCK + 1)) is None
    changed = [*ids[: BLOCK + 1], 91, *longer[BLOCK + 2 :]]
    assert prefixes.find(content(changed, bidirectional=2 * BLOCK)) is None, "the first block attends to what changed"


def test_of_a_prompt_that_attends_both_ways_less_than_all_of_that_part_is_not_found():
    prefixes, ids = Prefixes(), tokens(2 * BLOCK + 5)
    read(prefixes, ids, bidirectional=len(ids) - 2)
    assert prefixes.find(content(ids, bidirectional=len(ids) - 2)) is None


def test_an_answer_is_found_as_a_part_of_the_next_prompt_with_its_positions():
    prefixes, ids, answer = Prefixes(), tokens(BLOCK + 3), tokens(2 * BLOCK, 3)
    positions = np.tile(np.arange(len(ids)) * 2, (3, 1))
    first, whole = content(ids, position_ids=positions), [*ids, *answer]
    prefixes.put(first.keys(answer), cache_of(tokens(7, 9), whole), row=1)
    going_on = positions[0, -1] + 1 + np.arange(len(answer) + 4)
    following = np.concatenate([positions, np.tile(going_on, (3, 1))], axis=1)
    found = prefixes.find(content([*whole, 1, 2, 3, 4], position_ids=following))
    assert told(found) == whole[: 3 * BLOCK] and found.next_position == following[0, 3 * BLOCK - 1] + 1


def test_of_a_padded_row_its_own_tokens_are_kept():
    prefixes, short, long = Prefixes(), tokens(BLOCK + 2, 1), tokens(3 * BLOCK, 2)
    prefixes.put(content(short).keys(), cache_of(long, short), row=1)
    assert told(prefixes.find(content(short))) == short[:BLOCK].tolist()


def test_bytes_are_bounded_and_the_least_recently_used_prompt_leaves_from_its_end():
    prefixes = Prefixes(limit=6 * BYTES)
    first, second = tokens(3 * BLOCK + 1, 1), tokens(3 * BLOCK + 1, 2)
    read(prefixes, first)
    read(prefixes, second)
    assert prefixes.size == 6 * BYTES
    assert prefixes.find(content(first)).tokens == 3 * BLOCK  # used again
    read(prefixes, tokens(BLOCK, 3))
    assert prefixes.size == 6 * BYTES
    assert prefixes.find(content(second)).tokens == 2 * BLOCK
    assert prefixes.find(content(first)).tokens == 3 * BLOCK
    read(prefixes, tokens(50 * BLOCK, 4))
    assert prefixes.size == 6 * BYTES
    assert prefixes.find(content(tokens(50 * BLOCK, 4))).tokens == 6 * BLOCK


def test_what_is_found_counts_as_long_as_somebody_holds_it_and_newer_prompts_have_the_rest():
    prefixes, first = Prefixes(limit=6 * BYTES), tokens(4 * BLOCK, 1)
    read(prefixes, first)
    waiting = prefixes.find(content([*first, 1]))
    for seed in range(2, 5):
        read(prefixes, tokens(6 * BLOCK, seed))
        assert prefixes.size <= 6 * BYTES
    assert told(waiting) == first.tolist()
    del waiting
    read(prefixes, tokens(6 * BLOCK, 9))
    assert prefixes.size == 6 * BYTES and prefixes.find(content([*tokens(6 * BLOCK, 9), 1])).tokens == 6 * BLOCK


def test_what_two_prompts_begin_with_is_kept_once():
    prefixes, ids = Prefixes(), tokens(4 * BLOCK)
    for seed in range(5):
        read(prefixes, [*ids, *tokens(BLOCK, 10 + seed)])
    assert prefixes.size == (4 + 5) * BYTES


def test_without_room_nothing_is_kept():
    prefixes, ids = Prefixes(limit=0), tokens(3 * BLOCK)
    read(prefixes, ids)
    assert prefixes.size == 0 and prefixes.find(content(ids)) is None


def test_threads_that_put_and_find_keep_the_count_of_bytes():
    prefixes, prompts = Prefixes(limit=9 * BYTES), [tokens(4 * BLOCK, seed % 6) for seed in range(60)]

    def work(mine):
        for ids in mine:
            read(prefixes, ids)
            found = prefixes.find(content(ids))
            assert found is None or told(found) == ids[: found.tokens].tolist()

    failed = []
    threads = [threading.Thread(target=lambda n=n: failed.extend(_raised(work, prompts[n::3]))) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    kept = sum(part.nbytes for block in prefixes._blocks.values() for part in block.parts)
    assert prefixes.size == kept <= 9 * BYTES


def _raised(work, given):
    try:
        work(given)
    except AssertionError as error:
        return [error]
    return []
