"""How long a server that ended waits for its next start."""

from __future__ import annotations

from tritonvision.server.restarts import Restarts


def test_a_server_that_came_back_waits_for_seconds_from_the_fourth_restart_in_a_row_on():
    restarts = Restarts()
    assert [restarts.wait() for _ in range(7)] == [0, 0, 0, 2, 4, 5, 5]
    restarts.ended_after(60)
    assert restarts.wait() == 5
    restarts.ended_after(121)
    assert [restarts.wait() for _ in range(4)] == [0, 0, 0, 2]


def test_one_that_does_not_come_back_waits_twice_as_long_each_time_up_to_a_minute():
    restarts = Restarts()
    restarts.came_back = False
    assert [restarts.wait() for _ in range(10)] == [0, 0, 0, 2, 4, 8, 16, 32, 60, 60]
