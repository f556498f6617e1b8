"""The wish of a person or of the system that this process ends, as a signal brings it."""

from __future__ import annotations

import math
import time

POLL_SECONDS = 0.1


class StopRequest:
    """Like a `threading.Event`, to be set by a signal handler while the main thread waits for it.

    A handler runs within the main thread, wherever that is: in an event's `wait`, say, with the lock in hand that the
    event's `set` then waits for, for ever. And a signal that comes just before the thread begins to wait wakes nobody.
    So this has no lock, and looks now and then.
    """

    def __init__(self) -> None:
        self._made = False

    def set(self) -> None:
        self._made = True

    def is_set(self) -> bool:
        return self._made

    def wait(self, seconds: float = math.inf) -> bool:
        """Returns once it is set or the seconds are over: whether it is set."""
        until = time.monotonic() + seconds
        while not self._made and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, POLL_SECONDS))
        return self._made
