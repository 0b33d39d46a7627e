"""A picture that was near two deaths is refused; an answer, or one death only, does not condemn it."""

from __future__ import annotations

import pytest

from tritonvision.engine.quarantine import Quarantine
from tritonvision.errors import InvalidPicture


def test_two_different_deaths_refuse_the_picture_and_no_other():
    quarantine = Quarantine()
    quarantine.add(b"bad", 1)
    quarantine.add(b"bad", 1)
    quarantine.check(b"bad")
    quarantine.add(b"bad", 2)
    with pytest.raises(InvalidPicture):
        quarantine.check(b"bad")
    quarantine.check(b"good")


def test_an_answer_clears_it():
    quarantine = Quarantine()
    quarantine.add(b"picture", 1)
    quarantine.clear(b"picture")
    quarantine.add(b"picture", 2)
    quarantine.check(b"picture")


def test_only_so_many_are_remembered():
    quarantine = Quarantine()
    for i in range(5000):
        quarantine.add(str(i).encode(), 1)
    assert len(quarantine._near) <= 1024
