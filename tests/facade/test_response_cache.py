"""The cache of answers: found by key and owner, bounded in bytes, the least recently used are evicted first."""

from hypothesis import given
from hypothesis import strategies as st

from tritonvision.facade.response_cache import _OVERHEAD, ResponseCache

OWNER, OTHER = object(), object()


def test_an_answer_is_found_by_its_owner_alone():
    cache = ResponseCache(10_000)
    cache.put(b"k", OWNER, b"body")
    assert cache.get(b"k", OWNER) == b"body" and cache.get(b"k", OTHER) is None and cache.get(b"l", OWNER) is None
    cache.put(b"k", OTHER, b"new")
    assert cache.get(b"k", OTHER) == b"new" and cache.get(b"k", OWNER) is None and len(cache) == 1


def test_the_least_recently_used_goes_first():
    cache = ResponseCache(3 * (_OVERHEAD + 11))
    for key in (b"a", b"b", b"c"):
        cache.put(key, OWNER, bytes(10))
    cache.get(b"a", OWNER)
    cache.put(b"d", OWNER, bytes(10))
    assert [key for key in (b"a", b"b", b"c", b"d") if cache.get(key, OWNER)] == [b"a", b"c", b"d"]


def test_a_limit_of_zero_keeps_nothing_and_larger_answers_are_not_kept():
    cache = ResponseCache(0)
    cache.put(b"a", OWNER, b"")
    assert cache.get(b"a", OWNER) is None and cache.bytes == 0
    cache = ResponseCache(_OVERHEAD + 100)
    cache.put(b"a", OWNER, bytes(50))
    cache.put(b"b", OWNER, bytes(100))
    assert cache.get(b"a", OWNER) == bytes(50) and cache.get(b"b", OWNER) is None
    cache.put(b"a", OWNER, bytes(1000))
    assert cache.get(b"a", OWNER) is None and cache.bytes == 0


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4000)), max_size=60), st.integers(0, 6000))
def test_it_stays_within_its_limit_and_returns_the_latest_value(puts, limit):
    cache, last = ResponseCache(limit), {}
    for number, size in puts:
        key, body = bytes([number]), bytes(size)
        cache.put(key, OWNER, body)
        last[key] = body
        assert cache.bytes <= limit and cache.bytes >= len(cache) * _OVERHEAD
        assert all(cache.get(k, OWNER) in (None, body) for k, body in last.items())
    if puts and len(last[key]) + 1 + _OVERHEAD <= limit:
        assert cache.get(key, OWNER) == last[key]
