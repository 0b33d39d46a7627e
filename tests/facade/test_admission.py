"""The budgets of pictures and of bytes."""

from __future__ import annotations

from contextlib import ExitStack

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


def refused(admission: Admission, pictures: int = 1, **holders: str) -> bool:
    try:
        with admission.admit(pictures, **holders):
            return False
    except Overloaded:
        return True


def fill(admission: Admission, stack: ExitStack, **holders: str) -> int:
    """Admit one picture after the other until one is refused; how many were admitted."""
    for admitted in range(1000):
        if refused(admission, **holders):
            return admitted
        stack.enter_context(admission.admit(1, **holders))
    raise AssertionError("nothing is refused")


@pytest.mark.parametrize("kind", ["caller", "model"])
def test_nobody_takes_all_so_that_whoever_comes_next_is_admitted(kind):
    admission = Admission(64, 100, 100)
    with ExitStack() as stack:
        assert fill(admission, stack, **{kind: "greedy"}) == 48
        assert not refused(admission, **{kind: "modest"}), "one caller, or model, leaves room for others"
        assert fill(admission, stack, **{kind: "second"}) == 12
        assert not refused(admission, **{kind: "modest"})
        for i in range(1000):  # however many come, each is admitted less, and the limit holds
            fill(admission, stack, **{kind: f"greedy {i}"})
        assert admission.pictures <= 64
    assert admission.pictures == 0 and not refused(admission, 64, **{kind: "greedy"})
    assert not admission._pictures._held, "callers who have gone are forgotten"


def test_a_greedy_caller_gets_less_as_soon_as_there_is_another():
    """As its requests are answered, new ones of both come in: it keeps no more than the other."""
    admission = Admission(64, 100, 100)
    running = {"greedy": [], "other": []}

    def ask(caller: str) -> None:
        if not refused(admission, caller=caller):
            running[caller].append(admission.admit(1, caller=caller))
            running[caller][-1].__enter__()

    for _ in range(100):
        ask("greedy")
    for turn in range(2000):
        callers = ("greedy",) * 10 + ("other",) * 2
        for caller in callers:
            ask(caller)
        whose = max(running, key=lambda caller: len(running[caller]))
        running[whose].pop(0).__exit__(None, None, None)
    assert abs(len(running["greedy"]) - len(running["other"])) <= 1 and admission.pictures >= 50


def test_no_caller_takes_all_bytes():
    admission = Admission(1, 1000, 900)
    with ExitStack() as stack:
        greedy = [stack.enter_context(ByteReservation(admission)) for _ in range(20)]
        for reservation in greedy:
            reservation.belongs_to("greedy")
        taken = 0
        with pytest.raises(Overloaded):
            for reservation in greedy:
                reservation.take(100)
                taken += 100
        assert taken == 800
        with ByteReservation(admission) as modest:
            modest.take(10)  # before its key was read
            modest.belongs_to("modest")
            modest.take(190)
            assert admission.bytes == 1000
    assert admission.bytes == 0 and not admission.byte_budget._held


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
