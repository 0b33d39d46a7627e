"""The pictures that a call names: order and length are the caller's, and each missing one is its own error."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tritonvision.client.vi.sources import name, read, resolve
from tritonvision.errors import InvalidPicture
from tritonvision.settings import Settings
from tritonvision.vi.errors import ViFileNotFoundError, ViValidationError


@pytest.fixture
def folder(tmp_path) -> Path:
    for path in ("b.jpg", "a.PNG", "notes.txt", "c.Jpg", "deep/d.webp", "empty/readme.md"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(b"x")
    return tmp_path


def names(found) -> list[str]:
    return [name(source) for source in found.listed]


def test_one_file_is_one_and_may_be_called_anything(folder):
    for given in (folder / "notes.txt", str(folder / "notes.txt")):
        found = resolve(given)
        assert not found.several and found.listed == [str(folder / "notes.txt")]


def test_a_folder_is_its_pictures_sorted_and_deeper_ones_if_asked(folder):
    assert names(resolve(folder)) == ["a.PNG", "b.jpg"] and resolve(folder).several
    assert names(resolve(str(folder), recursive=True)) == ["a.PNG", "b.jpg", "d.webp"]


def test_a_list_keeps_its_order_its_length_and_what_is_there_twice(folder):
    given = [folder / "b.jpg", "nowhere.jpg", folder, folder / "b.jpg", folder / "empty", 3, "\0"]
    found = resolve(given)
    assert found.several and names(found) == ["b.jpg", "a picture", "a.PNG", "b.jpg", "b.jpg", *["a picture"] * 3]
    kinds = [type(found.listed[at]) for at in (1, 5, 6, 7)]
    assert kinds == [ViFileNotFoundError, ViValidationError, ViValidationError, ViFileNotFoundError]


def test_a_list_or_a_folder_of_one_is_still_a_list(folder):
    assert resolve([folder / "b.jpg"]).several and resolve(folder / "deep").several


def test_the_home_is_spelt_with_a_tilde(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    assert resolve("~/b.jpg").listed == [str(folder / "b.jpg")] and names(resolve("~/deep")) == ["d.webp"]


def test_addresses_and_data_urls_are_no_paths():
    given = ["https://example.com/a.jpg", "data:image/png;base64,eA=="]
    assert resolve(given).listed == given and names(resolve(given)) == ["a.jpg", "a picture"]


@pytest.mark.parametrize("given", [[], (), 3, b"x.jpg", {"a": 1}])
def test_what_names_no_picture_is_raised(given):
    with pytest.raises(ViValidationError):
        resolve(given)


def test_an_empty_folder_is_raised_and_says_what_would_help(folder):
    with pytest.raises(ViValidationError, match="'empty' holds no picture.*recursive=True"):
        resolve(folder / "empty")


def test_a_data_url_is_read(photo):
    url = f"data:image/png;base64,{base64.b64encode(photo).decode()}"
    assert read(url, Settings()) == photo
    for wrong in ("data:image/png;base64,***", "data:image/png,abc", "data:image/png;base64,eA=="):
        with pytest.raises(InvalidPicture):
            read(wrong, Settings())
