"""docs/architecture.md names files and folders that are there, and every room of the tree."""

import re
import tomllib
from pathlib import Path

import pytest

TREE = Path(__file__).parents[2]
TEXT = (TREE / "docs" / "architecture.md").read_text()
ROOMS = tomllib.loads((TREE / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"].values()
PATHS = sorted({path for path in re.findall(r"`((?:[\w.-]+/)+[\w.-]*)`", TEXT) if path.split("/")[0] in ROOMS})


def test_the_document_names_paths():
    assert len(PATHS) > 30


@pytest.mark.parametrize("path", PATHS)
def test_a_path_of_the_document_is_there(path):
    assert (TREE / path).exists()


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_stands_in_the_table(room):
    assert f"\n| `{room}/` |" in TEXT
