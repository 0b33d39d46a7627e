"""JSON that would need far more memory than its bytes is refused before it is parsed."""

from __future__ import annotations

import asyncio

import pytest

from tritonvision.errors import PictureTooLarge
from tritonvision.facade.inputs.json_body import parse_json, starts_an_object

MEGABYTE = 2**20


@pytest.mark.attack("JSON that grows in memory")
@pytest.mark.parametrize("body", [
    b'{"a":[' + b"1," * MEGABYTE * 2 + b"1]}", b'{"a":[' + b"{}," * MEGABYTE + b"{}]}",
    b'{"a":[' + b"[]," * MEGABYTE + b"[]]}", b'{"a":[' + b'"ab",' * MEGABYTE + b'""]}',
    b'{"a":"' + b"A" * 5 * MEGABYTE + "\U0001f408".encode() + b'"}',
], ids=["numbers", "objects", "lists", "texts", "a wide text"])  # fmt: skip
def test_json_that_expands_in_memory_is_refused(body):
    with pytest.raises(PictureTooLarge):
        asyncio.run(parse_json(body))


@pytest.mark.parametrize("body, found", [
    (b'{"image":"' + b"A" * 5 * MEGABYTE + b'"}', lambda value: len(value["image"]) == 5 * MEGABYTE),
    (b'{"image":"' + b"A" * 5 * MEGABYTE + b'","text":"\xe7\x8c\xab"}', lambda value: value["text"] == "\u732b"),
    (b"[" + b"-0.123456," * (256 * 64 * 64) + b"1]", lambda value: len(value) == 256 * 64 * 64 + 1),
], ids=["a picture", "a picture and a word", "an encoding of SAM"])  # fmt: skip
def test_large_json_of_pictures_and_numbers_is_accepted(body, found):
    assert found(asyncio.run(parse_json(body)))


@pytest.mark.parametrize("body", [b"", b"{", b'{"a":' + b"1" * MEGABYTE + b"x}"])
def test_invalid_json_is_a_value_error(body):
    with pytest.raises(ValueError):
        asyncio.run(parse_json(body))


@pytest.mark.parametrize("body", [b'{"a"', b" \n\t{"])
def test_an_object_is_recognised_by_its_first_character(body):
    assert starts_an_object(body) and not starts_an_object(b"[" + body) and not starts_an_object(body[:1].strip(b"{"))
