"""A stop flag that is safe to set in a signal handler."""

from __future__ import annotations

import math
import time

POLL_SECONDS = 0.1


class StopRequest:
    """Like a `threading.Event`, to be set by a signal handler while the main thread waits for it.

    A handler interrupts the main thread anywhere: for example in an event's `wait`, which holds the lock that the
    event's `set` needs. That is a deadlock. And a signal just before the wait would wake nobody. So this flag has no
    lock, and the wait polls it.
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
