"""A limit of CPU time for one piece of work, enforced by a signal. Uses no table."""

from __future__ import annotations

import contextlib
import gc
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
    before = signal.signal(signal.SIGPROF, _stop)
    limit = TimeLimit()
    try:
        yield limit
    finally:
        limit.end()
        signal.signal(signal.SIGPROF, before)


class TimeLimit:
    """`begin` and `end` frame each piece of work. Both together cost a few microseconds.

    What counts is the CPU time of the process. On a busy machine, or in an environment that was paused, time passes
    without any work being done.

    Meanwhile the garbage collector does not run. The time that it takes is not that of this work, and its finalizers
    belong to other objects: an exception there would stop them halfway.
    """

    def begin(self, seconds: float) -> None:
        """Begin the work, which may take this long.

        Raises:
            TookTooLong: later, in the middle of the work.
        """
        gc.disable()
        signal.setitimer(signal.ITIMER_PROF, seconds, _AGAIN)

    def end(self) -> None:
        """The work is done."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        gc.enable()
