"""When the emails of a chunk are fenced and sent: a chunk and the rate in, its parts and the times of calls out.

Time is reserved for a chunk of a second, and it is fenced in parts, each just before its time. What is fenced and has
no result yet is of unknown outcome if the sender dies. So parts are short, but where fences are slow they are longer:
otherwise the rate would be lost to waiting. Writes `sender_state` (the shared rate limiter).
"""

from __future__ import annotations

import math
import time

import sqlalchemy as sa

from sendledger.ledger import rate_limiter

LEAD_SECONDS = 0.03
"""How long before its time a part is fenced, at least. Near the database a fence takes a few milliseconds."""

PART_SECONDS = 0.05
"""How much of the reserved time a part takes, at least. Each part is one fence."""

LEAST_PART = 5
"""Emails of a part, at least. Otherwise there would be a fence for nearly every email at low rates."""

AHEAD_SECONDS = 0.25
"""For how long a sender fences ahead while it completes the next chunk, at most, if the database is near."""

FENCES_OF_A_PART = 3
"""A part takes at least as long as so many fences. One is its own; meanwhile the sender also claims and prepares
emails of the next chunk, which is as many waits for the database again."""

SPARE_SECONDS = 0.02
"""How long before its time a part should be through the fence."""

LONGEST_SECONDS = 0.5
"""However slow the database is, no part is fenced longer before its time, and none but the last of a chunk is longer:
if the sender dies, all of it has an unknown outcome."""


def lead(fencing: float) -> float:
    """How long before its time a part is fenced, if a fence takes so many seconds."""
    return min(max(LEAD_SECONDS, fencing + SPARE_SECONDS), LONGEST_SECONDS)


def part_seconds(fencing: float) -> float:
    """How much of the reserved time a part takes."""
    return min(max(PART_SECONDS, FENCES_OF_A_PART * fencing), LONGEST_SECONDS)


def ahead(fencing: float) -> float:
    """For how long a sender fences ahead while it completes the next chunk, at most."""
    return max(AHEAD_SECONDS, part_seconds(fencing))


def next_part(left: int, rate: float, fencing: float, between: float) -> int:
    """How many of the emails that are left of a chunk are fenced next.

    While the last part is sent, the next chunk is completed and its time reserved, which takes `between` seconds, and
    its first part is fenced.
    """
    last = math.ceil(rate * min(lead(fencing) + between, ahead(fencing)))
    each = max(LEAST_PART, math.ceil(rate * part_seconds(fencing)))
    return each if left > each + last else left


def is_out_of_reach(count: int, rate: float) -> bool:
    """Whether a part of so many emails takes less time than its fence: no sender reaches such a rate, so its emails go
    when they can."""
    return count / rate < LEAD_SECONDS


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
