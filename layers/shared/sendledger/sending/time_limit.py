"""A time limit for one piece of work, enforced by a signal. Uses no table."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class TookTooLong(BaseException):
    """The work was stopped. It is not an `Exception`, so that handlers in the work do not catch it."""


_AGAIN = 1.0
"""Seconds until the next signal, if the work goes on: Python drops an exception that is raised within a finalizer."""


def _stop(signal_number: int, frame: FrameType | None) -> None:
    raise TookTooLong


@contextlib.contextmanager
def stopping_slow_work() -> Iterator[TimeLimit | None]:
    """A `TimeLimit` for this block. None outside of the main thread, as only that receives signals."""
    if threading.current_thread() is not threading.main_thread():
        yield None
        return
    before = signal.signal(signal.SIGALRM, _stop)
    try:
        yield TimeLimit()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class TimeLimit:
    """`begin` and `end` frame each piece of work; both cost less than a microsecond."""

    def begin(self, seconds: float) -> None:
        """Begin the work, which may take this long.

        Raises:
            TookTooLong: later, in the middle of the work.
        """
        signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)

    def end(self) -> None:
        """The work is done."""
        signal.setitimer(signal.ITIMER_REAL, 0)
