"""Numbers that are none, depth without end and arrays that lie, in every field of every route: never a failure."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from posted_routes import ASKED, JSON, WAIT, Route, assert_told

NUMBERS = ("1e308", "-1e308", "1e400", "9223372036854775808", "-9223372036854775809", "5e-324", "NaN", "Infinity",
           '"NaN"', '"-Infinity"', '"1e999"', "9" * 400)  # fmt: skip
HEADERS = {"content-type": "application/json", **WAIT}
MARK = "\u0001here\u0001"  # stands for what JSON of a library cannot write


def each(routes: list[Route]):
    return pytest.mark.parametrize("route", routes, ids=repr)


def places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """The way to every number in a body; to every list and object, too, of which each may hold one."""
    if isinstance(value, dict | list):
        inner = value.items() if isinstance(value, dict) else enumerate(value)
        for key, part in inner:
            yield from places(part, (*path, key))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path


def with_text(body: dict[str, Any], path: tuple, text: str) -> bytes:
    """The body as JSON with ``text`` written at the end of ``path``."""
    changed = copy.deepcopy(body)
    part: Any = changed
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = MARK
    return json.dumps(changed).replace(json.dumps(MARK), text).encode()


def ways(route: Route) -> list[tuple]:
    """The way to every number of the example, and to every field of the description."""
    return list(dict.fromkeys([*places(route.body), *((name,) for name in route.fields if name != "api_key")]))


def never_fails(house, route: Route, content: bytes) -> int:
    answer = house.client.post(route.path, content=content, headers=HEADERS)
    assert answer.status_code < 500 or answer.status_code in (501, 503), f"{content[:200]!r}: {answer.text[:300]}"
    if answer.status_code >= 400:
        assert_told(answer, route, answer.status_code)
        assert len(answer.content) < 5000
    return answer.status_code


@pytest.mark.attack("numbers out of range")
@each(JSON)
def test_no_number_in_any_field_is_more_than_refused(shared_house, route):
    for i, path in enumerate(ways(route)):
        for number in (NUMBERS[i % len(NUMBERS)], NUMBERS[(i * 5 + 1) % len(NUMBERS)]):
            never_fails(shared_house, route, with_text(route.body, path, number))


@pytest.mark.attack("numbers out of range")
@pytest.mark.slow
@each(JSON)
def test_no_number_at_all_in_any_field_is_more_than_refused(shared_house, route):
    for path in ways(route):
        for number in NUMBERS:
            never_fails(shared_house, route, with_text(route.body, path, number))


@pytest.mark.attack("numbers out of range")
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e400", "1e308", "-0", "0x10", "1_000", "9" * 400, "\u0665"])
def test_no_number_in_a_query_is_more_than_refused(shared_house, value, picture):
    legacy = ("confidence", "overlap", "max_detections", "keypoint_confidence", "stroke", "tradeoff_factor")
    plain = ("threshold", "top_k", "max_detections", "iou_threshold", "return_tensor", "mask_threshold")
    for path, names in (("/coco/3", legacy), ("/models/yolov8n-640", plain), ("/models/resnet18", plain)):
        for name in names:
            answer = shared_house.client.post(
                path, params={name: value}, content=picture, headers={**WAIT, "content-type": "image/jpeg"}
            )
            assert answer.status_code in (200, 400, 422), f"{path} {name}={value}: {answer.text[:200]}"


# ---- depth -----------------------------------------------------------------------------------------------------------


@pytest.mark.attack("JSON nested deeply")
@each(JSON)
@pytest.mark.parametrize("levels", [90, 300, 1000])
def test_depth_in_any_field_is_more_than_nothing_and_less_than_a_failure(shared_house, route, levels):
    fields = ["inputs", "question", "parameters", "options"] if route.dialect == "huggingface" else list(route.fields)
    for name in (*fields, "unknown"):
        for text in ("[" * levels + "]" * levels, '{"type":' * levels + "1" + "}" * levels):
            status = never_fails(shared_house, route, with_text(route.body | {name: 0}, (name,), text))
            assert levels < 100 or status in (400, 422), f"{name} of {levels} levels was let in"


@pytest.mark.attack("JSON nested deeply")
def test_as_deep_as_a_schema_of_answers_may_be_is_no_depth(shared_house):
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(30):  # two levels each
        schema = {"type": "object", "properties": {"a": schema}}
    (chat,) = [route for route in ASKED if route.template == "/v1/chat/completions"]
    form = {"type": "json_schema", "json_schema": {"name": "deep", "schema": schema}}
    assert chat.post(shared_house, chat.body | {"response_format": form}).status_code == 200


# ---- .npy ------------------------------------------------------------------------------------------------------------


def npy(header: str, numbers: bytes = bytes(16), version: int = 1) -> bytes:
    size = len(header).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + size + header.encode("latin-1") + numbers


def told(descr: str = "'|u1'", shape: str = "(2, 2, 3)", order: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"


ARRAYS = {
    "negative sizes": npy(told(shape="(-2, -2, 3)"), bytes(12)),
    "sizes over 64 bits": npy(told(shape=f"({2**64}, 2, 3)"), bytes(12)),
    "sizes whose product wraps to what there is": npy(told(shape=f"({2**32}, {2**32}, 3)"), b""),
    "a billion axes": npy(told(shape="(" + "1," * 400 + ")"), b"\0"),
    "objects": npy(told("'|O'")), "records": npy(told("[('a', '|u1')]")), "a tuple of one": npy(told("('|u1',)")),
    "text": npy(told("'<U4'")), "times": npy(told("'<M8[ns]'")), "sixteen bits": npy(told("'>u2'"), bytes(24)),
    "signed": npy(told("'|i1'"), bytes(12)), "booleans": npy(told("'|b1'"), bytes(12)),
    "complex": npy(told("'<c8'"), bytes(96)), "long doubles": npy(told("'<f16'"), bytes(192)),
    "deep Python": npy("-" * 900 + "1"), "nested Python": npy("(" * 400 + ")" * 400),
    "a long sum": npy("1+" * 4900 + "1"), "long signs": npy("-" * 9900 + "1"), "a call": npy("__import__('os')"),
    "a key of another kind": npy("{[]: 1}"), "digits without end": npy(told(shape="(" + "1" * 900)),
    "version 9": npy(told(), bytes(12), 9), "version 0": npy(told(), bytes(12), 0),
    "a header longer than the file": b"\x93NUMPY\x02\0\xff\xff\xff\xff", "nothing more": b"\x93NUMPY",
}  # fmt: skip


@pytest.mark.attack("malformed arrays")
@pytest.mark.parametrize("name", ARRAYS)
def test_a_malformed_array_is_refused_wherever_arrays_are_read(shared_house, name):
    text = base64.b64encode(ARRAYS[name]).decode()
    picture = {"model_id": "yolov8n-640", "image": {"type": "numpy", "value": text}}
    prompt = {"orig_im_size": [10, 10], "point_coords": [[1, 1]], "point_labels": [1]}
    for path, body in (
        ("/infer/object_detection", picture),
        ("/sam/segment_image", {**prompt, "embeddings": text, "embeddings_format": "binary"}),
        ("/sam2/segment_image", {"image": picture["image"], "prompts": []}),
        ("/models/yolov8n-640", {"inputs": text}),
    ):
        answer = shared_house.client.post(path, json=body, headers=WAIT)
        assert answer.status_code == 400, f"{path}: {answer.text[:300]}"
        assert "Internal" not in answer.text
