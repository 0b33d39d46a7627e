"""The places of answers, over HTTP: read by the server, in the convention of the model's family."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from facade_thread import facade
from manifests import manifest_of, publish
from vi_runs import KEY

from tritonvision import AutoModel
from tritonvision.errors import InvalidParameter, NotSupported
from tritonvision.grounding import Grounded

WRITER, TALKER = "mine/writer/1", "mine/talker/1"
PHOTO = Path(__file__).parents[3] / "tritonvision" / "data" / "astronaut.png"


@pytest.fixture
def served(tmp_path) -> Iterator[tuple[Any, str]]:
    """The engine that answers from memory, and the address before it."""
    root = tmp_path / "repository"
    root.mkdir()
    publish(root, [manifest_of(WRITER, "vlm", labels=(), grounding="qwen3"), manifest_of(TALKER, "vlm", labels=())])
    with facade(root, KEY) as (engine, address, _):
        yield engine, address
        AutoModel.close()


def test_places_are_fractions_of_each_picture(served):
    engine, address = served
    engine.pieces = ['[{"bbox_2d": [250, 500, 500, 750], ', '"label": "cat"}, {"point_2d": [100, 200], "label": "A"}]']
    model = AutoModel.from_pretrained(WRITER, server=address, api_key=KEY)
    want = [Grounded("cat", ((0.25, 0.5, 0.5, 0.75),)), Grounded("A", points=((0.1, 0.2),))]
    assert model.locate([PHOTO, PHOTO], "Where is the cat?", max_new_tokens=9, detail="low") == [want, want]
    (_, messages, _, settings), _ = engine.chats
    assert settings["max_new_tokens"] == 9 and messages[0]["content"][0]["detail"] == "low"
    engine.pieces = ["A cat."]
    assert model.locate(PHOTO, "What is this?") == [[]]


def test_who_writes_no_places_is_not_asked_for_them(served):
    engine, address = served
    with pytest.raises(NotSupported, match="writes no places"):
        AutoModel.from_pretrained(TALKER, server=address, api_key=KEY).locate(PHOTO, "Where?")
    with pytest.raises(InvalidParameter):
        AutoModel.from_pretrained(WRITER, server=address, api_key=KEY).locate(PHOTO, " ")
    assert engine.chats == []
