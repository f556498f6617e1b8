"""Work that takes too long is stopped."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable

import pytest

from sendledger.sending.time_limit import TimeLimit, TookTooLong, stopping_slow_work


@pytest.fixture
def limited() -> Callable[[float, Callable[[], None]], None]:
    """Do this work, which may take so many seconds."""

    def limited(seconds: float, work: Callable[[], None]) -> None:
        with stopping_slow_work() as limit:
            assert isinstance(limit, TimeLimit)
            limit.begin(seconds)
            work()

    return limited


def work() -> None:
    """It ends by itself, so that the test fails if nothing stops it."""
    until = time.process_time() + 10
    while time.process_time() < until:
        pass


def test_work_that_goes_on_after_the_first_signal_is_stopped_by_the_next(
    limited: Callable[[float, Callable[[], None]], None],
) -> None:
    def stubborn() -> None:
        # As if Python dropped it, which it does with an exception that is raised within a finalizer.
        with pytest.raises(TookTooLong):
            work()
        work()

    with pytest.raises(TookTooLong):
        limited(0.01, stubborn)


def test_time_in_which_the_process_does_not_work_does_not_count(
    limited: Callable[[float, Callable[[], None]], None],
) -> None:
    limited(0.1, lambda: time.sleep(0.3))


class Finalized:
    """Garbage that only the collector finds, as it is in a circle."""

    def __init__(self, seen: list[str]) -> None:
        self.itself = self
        self.seen = seen

    def __del__(self) -> None:
        self.seen.append("finalized")


def test_no_object_of_others_is_finalized_within_the_work(
    limited: Callable[[float, Callable[[], None]], None],
) -> None:
    seen: list[str] = []
    Finalized(seen)

    def allocate() -> None:
        kept = [[number] for number in range(100_000)]
        seen.append(f"{len(kept)} objects")

    limited(60.0, allocate)
    gc.collect()
    assert seen == ["100000 objects", "finalized"]


def test_collector_works_again_when_the_work_was_stopped(limited: Callable[[float, Callable[[], None]], None]) -> None:
    with pytest.raises(TookTooLong):
        limited(0.01, work)
    assert gc.isenabled()


def test_another_thread_than_the_main_one_has_no_limit() -> None:
    found: list[TimeLimit | None] = []

    def look() -> None:
        with stopping_slow_work() as limit:
            found.append(limit)

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [None]
