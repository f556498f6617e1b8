"""When the emails of a chunk are fenced and sent: a chunk and the rate in, its parts and the times of calls out.

Time is reserved for a chunk of a second, and it is fenced in parts, each just before its time. What is fenced and has
no result yet is of unknown outcome if the sender dies. Writes `sender_state` (the shared rate limiter).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import sqlalchemy as sa

from sendledger.ledger import rate_limiter

FENCE_SECONDS = 0.03
"""How long before its time a part is fenced. A fence takes a few milliseconds."""

PART_SECONDS = 0.05
"""How much of the reserved time a part takes. Each part is one fence."""

LEAST_PART = 5
"""Emails of a part, at least. Otherwise there would be a fence for nearly every email at low rates."""

AHEAD_SECONDS = 0.25
"""For how long a sender fences ahead while it completes the next chunk, at most."""


def parts(count: int, rate: float, between: float) -> Iterator[range]:
    """The positions of each part of a chunk of `count` emails.

    While the last part is sent, the next chunk is completed and its time reserved, which takes so many seconds, and its
    first part is fenced.
    """
    last = math.ceil(rate * min(FENCE_SECONDS + between, AHEAD_SECONDS))
    each, begin = max(LEAST_PART, math.ceil(rate * PART_SECONDS)), 0
    while count - begin > each + last:
        yield range(begin, begin + each)
        begin += each
    yield range(begin, count)


def is_out_of_reach(count: int, rate: float) -> bool:
    """Whether a part of so many emails takes less time than its fence: no sender reaches such a rate, so its emails go
    when they can."""
    return count / rate < FENCE_SECONDS


def call_times(engine: sa.Engine, begin: float, count: int, rate: float) -> tuple[list[float], list[float]]:
    """When to send the emails of a part whose reserved time begins at `begin` (`time.monotonic()`): times in it, and
    times after that of the whole chunk.

    Time that has already passed is reserved again, as the time after the chunk belongs to other senders.
    """
    now = time.monotonic()
    missed = min(count, max(0, int((now - begin) * rate)))
    in_time = [max(now, begin + position / rate) for position in range(count)]
    if not missed or is_out_of_reach(count, rate):
        return in_time, []
    with engine.begin() as connection:
        again = time.monotonic() + rate_limiter.reserve_rate(connection, missed, rate)
    return in_time[missed:], [again + position / rate for position in range(missed)]
