"""The budgets of pictures and of bytes."""

from __future__ import annotations

import pytest

from tritonvision.errors import Overloaded, PictureTooLarge
from tritonvision.facade.admission import Admission, ByteReservation


def test_pictures_over_the_limit_are_refused_at_once_with_retry_after():
    admission = Admission(3, 100, 100)
    with admission.admit(2):
        with pytest.raises(Overloaded) as refused, admission.admit(2):
            pass
        assert refused.value.retry_after
        with admission.admit(1):
            assert admission.pictures == 3
    assert admission.pictures == 0


def test_a_request_larger_than_the_budget_passes_alone():
    admission = Admission(3, 100, 100)
    with admission.admit(5):
        assert admission.pictures == 5


def test_the_budget_is_released_after_a_failure():
    admission = Admission(1, 100, 100)
    with pytest.raises(ValueError), admission.admit(1):
        raise ValueError
    assert admission.pictures == 0


def test_bytes_are_limited_for_one_request_and_for_all():
    admission = Admission(1, 100, 60)
    with ByteReservation(admission) as one, ByteReservation(admission) as other:
        one.take(60)
        with pytest.raises(PictureTooLarge):
            one.take(1)
        other.take(40)
        with pytest.raises(Overloaded):
            other.take(1)
        with pytest.raises(Overloaded):
            other.announce(5)
        assert admission.bytes == 100
    assert admission.bytes == 0
