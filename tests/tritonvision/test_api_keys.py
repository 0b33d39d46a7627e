"""The file of API keys: what is kept, what is refused, and that no key is in it."""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tritonvision import api_keys
from tritonvision.api_keys import ApiKey
from tritonvision.errors import SetupError


def key(name: str, text: str = "", **more) -> ApiKey:
    return ApiKey(name=name, sha256=api_keys.digest(text or name), **more)


def test_keys_are_long_and_never_the_same():
    made = {api_keys.new_key() for _ in range(100)}
    assert len(made) == 100 and {len(text) for text in made} == {46} and all(text.startswith("tv_") for text in made)


def test_what_is_written_is_read_again_and_no_key_is_in_the_file(tmp_path):
    text = api_keys.new_key()
    written = [
        key("cameras", text, models=("yolov8*", "mine/*"), rate=2.5, concurrency=4, created="2026-11-30"),
        key("admin", models=("**",), may={"ask", "manage"}),
    ]  # fmt: skip
    path = tmp_path / "new" / "keys.jsonl"
    api_keys.write(path, written)
    assert api_keys.read(path) == written
    assert text not in path.read_text() and text[3:] not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_replaced_keeps_who_may_read_it(tmp_path):
    path = tmp_path / "keys.jsonl"
    api_keys.write(path, [key("a")])
    path.chmod(0o644)
    api_keys.write(path, [key("b")])
    assert path.stat().st_mode & 0o777 == 0o644 and [path.name] == os.listdir(tmp_path)


def test_a_file_that_cannot_be_replaced_leaves_nothing_beside_it(tmp_path):
    (tmp_path / "keys.jsonl").mkdir()
    with pytest.raises(SetupError, match="The keys cannot be written to"):
        api_keys.write(tmp_path / "keys.jsonl", [key("a")])
    assert os.listdir(tmp_path) == ["keys.jsonl"]


def test_keys_that_are_made_at_the_same_time_are_all_kept(tmp_path):
    path = tmp_path / "keys.jsonl"

    def add(number: int) -> None:
        with api_keys.changing(path):
            known = api_keys.read(path) if path.exists() else []
            time.sleep(0.01)
            api_keys.write(path, [*known, key(f"k{number}")])

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(add, range(8)))
    assert sorted(one.name for one in api_keys.read(path)) == [f"k{number}" for number in range(8)]


def test_empty_lines_and_comments_are_passed_over(tmp_path):
    path = tmp_path / "keys.jsonl"
    path.write_text(f"# ours\n\n{key('a').line()}\n  # theirs\n{key('b').line()}\n")
    assert [one.name for one in api_keys.read(path)] == ["a", "b"]


@pytest.mark.parametrize("change, word", [
    ({"model": ["x"]}, "model"), ({"sha256": "5"}, "sha256"), ({"sha256": "x" * 64}, "sha256"), ({"name": ""}, "name"),
    ({"name": "a b"}, "name"), ({"name": "a\nb"}, "name"), ({"rate": 0}, "rate"), ({"rate": -1}, "rate"),
    ({"concurrency": 0}, "concurrency"), ({"may": ["everything"]}, "may"), ({"models": "yolov8n-640"}, "models"),
])  # fmt: skip
def test_a_line_that_is_no_key_is_named_and_not_repeated(tmp_path, change, word):
    path = tmp_path / "keys.jsonl"
    line = json.loads(key("a").line()) | change
    path.write_text(f"{key('first').line()}\n{json.dumps(line)}\n")
    with pytest.raises(SetupError, match=f"Line 2 .*{word}") as refused:
        api_keys.read(path)
    assert api_keys.digest("a") not in refused.value.message


@pytest.mark.parametrize("others", [[key("a", "1"), key("a", "2")], [key("a", "1"), key("b", "1")]])
def test_a_name_or_a_key_that_is_there_twice_is_refused(tmp_path, others):
    path = tmp_path / "keys.jsonl"
    api_keys.write(path, others)
    with pytest.raises(SetupError, match="twice"):
        api_keys.read(path)


def test_a_file_that_everybody_may_write_to_is_refused(tmp_path):
    path = tmp_path / "keys.jsonl"
    api_keys.write(path, [key("a")])
    path.chmod(0o606)
    with pytest.raises(SetupError, match="write") as refused:
        api_keys.read(path)
    assert "chmod o-w" in refused.value.hint


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"{"])
def test_what_cannot_be_read_is_one_sentence(tmp_path, content):
    path = tmp_path / "keys.jsonl"
    if content is not None:
        path.write_bytes(content)
        path.chmod(0o600)
    with pytest.raises(SetupError):
        api_keys.read(path)


def test_the_digest_does_not_show_when_a_key_is_printed():
    assert api_keys.digest("a") not in repr(key("a"))
