"""A picture that was near two deaths is refused; an answer, or one death only, does not condemn it."""

from __future__ import annotations

import pytest

from tritonvision.client.suspects import Suspects
from tritonvision.errors import InvalidPicture


def test_two_different_deaths_refuse_the_picture_and_no_other():
    suspects = Suspects()
    suspects.add(b"bad", 1)
    suspects.add(b"bad", 1)
    suspects.check(b"bad")
    suspects.add(b"bad", 2)
    with pytest.raises(InvalidPicture):
        suspects.check(b"bad")
    suspects.check(b"good")


def test_an_answer_clears_it():
    suspects = Suspects()
    suspects.add(b"picture", 1)
    suspects.clear(b"picture")
    suspects.add(b"picture", 2)
    suspects.check(b"picture")


def test_only_so_many_are_remembered():
    suspects = Suspects()
    for i in range(5000):
        suspects.add(str(i).encode(), 1)
    assert len(suspects._near) <= 1024
