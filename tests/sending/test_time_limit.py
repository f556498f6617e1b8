"""Work that takes too long is stopped."""

from __future__ import annotations

import time

import pytest

from sendledger.sending.time_limit import TookTooLong, stopping_slow_work


def work() -> None:
    """It ends by itself, so that the test fails if nothing stops it."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        pass


def test_work_that_goes_on_after_the_first_signal_is_stopped_by_the_next() -> None:
    with stopping_slow_work() as limit:
        assert limit is not None
        limit.begin(0.01)
        try:
            # As if Python dropped it, which it does with an exception that is raised within a finalizer.
            with pytest.raises(TookTooLong):
                work()
            with pytest.raises(TookTooLong):
                work()
        finally:
            limit.end()
