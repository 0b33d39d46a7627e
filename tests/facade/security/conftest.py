"""A facade whose callers have keys."""

from __future__ import annotations

from pathlib import Path

import pytest
from callers import BOTH, key


@pytest.fixture
def key_file(tmp_path_factory) -> Path:
    """Where a file of keys may be written, beside the repository."""
    return tmp_path_factory.mktemp("keys") / "keys.jsonl"


@pytest.fixture
def house_of_keys(house_with):
    """A key for detectors, one for everything that may manage, one that may only manage, beside the single one."""

    def make(**options):
        keys = (
            key("detectors", models=("yolov8*",)), key("admin", models=("**",), may=BOTH),
            key("operator", may={"manage"}), key("all"),
        )  # fmt: skip
        return house_with(**{"keys": keys, "api_key": "the-one", **options})

    return make
