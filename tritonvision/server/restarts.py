"""How long a tritonserver that ended again and again waits for its next start."""

from __future__ import annotations

# Restarts in a row without a wait; then the wait doubles with each. Who ran for so many seconds begins anew.
_AT_ONCE, _RAN_LONG = 3, 120.0
# Seconds. A server that had come back was ended by something else: its callers wait for the next within their deadline.
_LONGEST_UNTOLD, LONGEST_WAIT = 5.0, 60.0


class Restarts:
    """The restarts of a server.

    Attributes:
        came_back: whether its last start brought back every model that was loaded. Else callers are told of the wait.
    """

    def __init__(self) -> None:
        self.came_back = True
        self._in_a_row = 0

    def ended_after(self, seconds: float) -> None:
        """The server ended, ``seconds`` after its start."""
        if seconds > _RAN_LONG:
            self._in_a_row = 0

    def wait(self) -> float:
        """Seconds until its next start, which is counted; 0 for none."""
        self._in_a_row += 1
        further = self._in_a_row - _AT_ONCE
        return min(2.0**further, _LONGEST_UNTOLD if self.came_back else LONGEST_WAIT) if further > 0 else 0.0
