"""Engines over networks small enough to follow."""

import pytest
from counting_vlm import OPTIONS, SPECIAL, Networks

from tritonvision.python_backend.generation.engine import VlmEngine
from tritonvision.python_backend.runtime.sessions import Sessions


@pytest.fixture
def networks():
    return Networks()


@pytest.fixture
def tokenizer(byte_level):
    return byte_level(SPECIAL)


@pytest.fixture
def open_engine(networks, tokenizer):
    made = []

    def build(**more):
        sessions = Sessions.of(dict.fromkeys(("vision", "embed", "decoder"), networks))
        assets = {"tokenizer.json": tokenizer.to_str().encode()}
        made.append(VlmEngine(sessions, "smolvlm", OPTIONS, assets, **more))
        return made[-1]

    yield build
    for one in made:
        one.close()


@pytest.fixture
def engine(open_engine):
    return open_engine()
