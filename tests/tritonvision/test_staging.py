"""Staging folders: gone when their block ends, kept where they hold what could not be taken back."""

from __future__ import annotations

import pytest

from tritonvision import moves
from tritonvision.staging import staging_folder


def test_nothing_is_left_after_the_block_and_after_an_error_in_it(tmp_path):
    with staging_folder(tmp_path) as folder:
        (folder / "model").mkdir()
        assert folder.parent == tmp_path / moves.STAGING
    with pytest.raises(ZeroDivisionError), staging_folder(tmp_path) as folder:
        (folder / "model").mkdir()
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def refused(*_):
    raise PermissionError


def test_a_folder_whose_renames_could_not_be_taken_back_stays_with_what_is_in_it(tmp_path, monkeypatch):
    target = tmp_path / "eyes"
    target.mkdir()
    (target / "old").touch()
    with pytest.raises(PermissionError), staging_folder(tmp_path) as folder:
        fresh = [folder / "eyes", folder / "ears"]
        for path in fresh:
            path.mkdir()
        monkeypatch.setattr(moves._Move, "undo", refused)
        # the second rename fails, and the first cannot be taken back
        moves.move_together([(fresh[0], target), (fresh[1], tmp_path / "nowhere" / "ears")], folder)
    monkeypatch.undo()
    assert (folder / "eyes" / "old").exists(), "the model of before lies in it"
    with staging_folder(tmp_path):  # whoever locks the repository next takes back what was begun
        assert (target / "old").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["eyes"]


def test_the_folder_of_a_process_that_is_gone_is_swept_and_one_in_use_is_not(tmp_path):
    left = tmp_path / moves.STAGING / "left"
    left.mkdir(parents=True)
    with staging_folder(tmp_path) as first, staging_folder(tmp_path) as second:
        assert not left.exists() and first.is_dir() and second.is_dir()
