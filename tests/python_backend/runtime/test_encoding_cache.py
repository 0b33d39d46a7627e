"""The shared cache: what one process made another finds, once, bounded, and whatever happens to either."""

import multiprocessing
import os
import signal
import threading
import time

import numpy as np
import pytest

from tritonvision import heartbeat
from tritonvision.python_backend.runtime import encoding_cache
from tritonvision.python_backend.runtime.encoding_cache import SharedCache

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def cache(tmp_path):
    return SharedCache(tmp_path / "entries")


def entry(value, count=1000):
    return np.full((count,), value, np.float32), np.array([value, 7], np.int64)


def never():
    raise AssertionError("made twice")


def assert_is(arrays, value):
    assert len(arrays) == 2
    np.testing.assert_array_equal(arrays[0], np.full(len(arrays[0]), value, np.float32))
    assert arrays[0].dtype == np.float32 and arrays[1].tolist() == [value, 7]


def test_what_was_made_is_found_again_also_by_others(cache):
    assert cache.get("a") is None
    assert_is(cache.fetch("a", lambda: entry(3)), 3)
    assert_is(cache.fetch("a", never), 3)
    assert_is(SharedCache(cache.folder).get("a"), 3)


def test_what_fails_is_not_kept_and_the_next_one_makes_it(cache):
    with pytest.raises(ZeroDivisionError):
        cache.fetch("a", lambda: 1 / 0)
    assert_is(cache.fetch("a", lambda: entry(1)), 1)


def test_what_was_not_used_for_longest_goes_first(cache):
    cache.limit = 3 * 4400
    for i, name in enumerate("abc"):
        cache.put(name, entry(i))
        os.utime(cache._path(name), ns=(i, i))
    assert cache.get("a") is not None  # so b is the oldest
    cache.put("d", entry(9))
    assert cache.get("b") is None
    assert all(cache.get(name) is not None for name in "acd")
    assert sum(file.stat().st_size for file in cache.folder.glob("*.npy")) <= cache.limit


def test_an_entry_over_the_limit_alone_is_kept_until_the_next(cache):
    cache.limit = 10
    cache.put("a", entry(1))
    assert_is(cache.get("a"), 1)
    cache.put("b", entry(2))
    assert cache.get("a") is None and cache.get("b") is not None


def _make_slowly(folder, made, results):
    def make():
        with made.get_lock():
            made.value += 1
        time.sleep(0.3)
        return entry(5)

    results.put(float(SharedCache(folder).fetch("k", make)[0].sum()))


def test_processes_that_ask_for_the_same_at_once_make_it_once(cache):
    made, results = FORK.Value("i", 0), FORK.Queue()
    asking = [FORK.Process(target=_make_slowly, args=(cache.folder, made, results)) for _ in range(4)]
    for process in asking:
        process.start()
    assert [results.get(timeout=20) for _ in asking] == [5000.0] * 4
    for process in asking:
        process.join(10)
    assert made.value == 1


def _hang(folder, began):
    def make():
        began.set()
        time.sleep(60)
        return entry(0)

    SharedCache(folder).fetch("k", make)


def test_a_killed_process_leaves_the_lock_to_the_next(cache):
    began = FORK.Event()
    victim = FORK.Process(target=_hang, args=(cache.folder, began))
    victim.start()
    assert began.wait(20)
    os.kill(victim.pid, signal.SIGKILL)
    victim.join(10)
    started = time.monotonic()
    assert_is(cache.fetch("k", lambda: entry(2)), 2)
    assert time.monotonic() - started < 5


def test_waiting_for_another_process_is_no_hanging(cache, tmp_path, monkeypatch):
    monkeypatch.setenv(heartbeat.FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.02)
    heart, beats = heartbeat.Heart(longest=0.2), []
    began = FORK.Event()
    busy = FORK.Process(target=_hang, args=(cache.folder, began))
    busy.start()
    assert began.wait(20)

    def end_the_other_when_this_one_has_waited():
        time.sleep(0.5)
        beats.append(heart._file.stat().st_mtime_ns)
        time.sleep(0.2)
        beats.append(heart._file.stat().st_mtime_ns)
        busy.kill()

    watcher = threading.Thread(target=end_the_other_when_this_one_has_waited)
    watcher.start()
    with heart:
        assert_is(cache.fetch("k", lambda: entry(2)), 2)
    watcher.join()
    assert beats[0] < beats[1]


def test_nobody_waits_for_another_key(cache):
    began = FORK.Event()
    busy = FORK.Process(target=_hang, args=(cache.folder, began))
    busy.start()
    assert began.wait(20)
    try:
        for i in range(200):
            assert_is(cache.fetch(f"other {i}", lambda i=i: entry(i, 1)), i)
    finally:
        busy.kill()


def _write_for_ever(folder, large):
    cache = SharedCache(folder)
    while True:
        cache.put("k", entry(4, large))


def test_a_process_killed_while_it_writes_leaves_whole_entries_and_its_scraps_are_removed(cache, monkeypatch):
    for pause in (0.05, 0.08, 0.11):
        victim = FORK.Process(target=_write_for_ever, args=(cache.folder, 2_000_000))
        victim.start()
        time.sleep(pause)
        os.kill(victim.pid, signal.SIGKILL)
        victim.join(10)
        found = cache.get("k")
        assert found is None or len(found[0]) == 2_000_000
    (cache.folder / f"scrap{encoding_cache._UNFINISHED}").touch()
    monkeypatch.setattr(encoding_cache, "_FORGOTTEN_SECONDS", -1.0)
    cache.put("other", entry(1))
    assert not list(cache.folder.glob(f"*{encoding_cache._UNFINISHED}"))


@pytest.mark.parametrize("damage", [b"", b"nothing of the kind", b"\x93NUMPY\x01\x00"])
def test_a_damaged_entry_is_made_anew(cache, damage):
    cache.put("a", entry(1))
    cache._path("a").write_bytes(damage)
    assert_is(cache.fetch("a", lambda: entry(6)), 6)
    assert_is(cache.get("a"), 6)


def test_a_pickle_in_an_entry_is_not_read(cache):
    cache.put("a", entry(1))
    np.save(cache._path("a"), np.array([{}], dtype=object), allow_pickle=True)
    assert cache.get("a") is None


def test_a_folder_that_cannot_be_written_is_an_empty_cache(tmp_path):
    (tmp_path / "file").touch()
    cache = SharedCache(tmp_path / "file" / "below")
    assert_is(cache.fetch("a", lambda: entry(1)), 1)
    assert_is(cache.fetch("a", lambda: entry(2)), 2)


def test_the_servers_folder_is_used_where_there_is_one_and_else_a_private_one_that_goes(tmp_path, monkeypatch):
    monkeypatch.setenv(heartbeat.FOLDER_VARIABLE, str(tmp_path / "server"))
    private = encoding_cache.of_server("encodings")
    folder = private.folder
    assert folder.is_dir() and tmp_path not in folder.parents
    assert folder.stat().st_mode & 0o077 == 0
    private.put("a", entry(1))
    del private
    assert not folder.exists()
    (tmp_path / "server").mkdir(mode=0o700)
    first, second = encoding_cache.of_server("encodings"), encoding_cache.of_server("encodings")
    first.put("a", entry(1))
    assert first.folder == tmp_path / "server" / "encodings"
    assert_is(second.get("a"), 1)
