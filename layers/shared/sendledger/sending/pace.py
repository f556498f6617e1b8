"""The pace of one sender: its rate, the size of its chunks, and how many calls are under way. Uses no table."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Sequence

from sendledger.ledger.record_results import SendResult
from sendledger.sending import fence_parts, prepare_emails
from sendledger.sending.prepare_emails import Preparer
from sendledger.sending.ses_threads import SesThreads
from sendledger.sending.tick_summary import SendingLimits
from sendledger.ses.answers import Answer

MAX_CHUNK = 500
"""Emails that time is reserved for together, at most. At lower rates it is the number that one second allows."""

RECORD_SECONDS = 0.05
"""The time of the results that are recorded together. Until then their outcomes are unknown if the sender dies."""

BETWEEN_SECONDS = 0.02
"""How long a sender is assumed to need between two chunks, before it has been measured."""


class Pace:
    """For the sender's main thread only."""

    def __init__(self, limits: SendingLimits, threads: SesThreads, preparer: Preparer) -> None:
        self.allowance = limits.remaining
        """Emails that may still be sent today."""
        self.rate = self._full_rate = limits.rate
        """Emails for which a second is reserved. Halved when SES asks for it."""
        self.fencing_seconds = 0.0
        """How long the last fence took."""
        self._threads = threads
        self._preparer = preparer
        self._slowed_at = -math.inf
        self._between_seconds = BETWEEN_SECONDS
        self._measured = 0.0

    @property
    def possible_rate(self) -> float:
        """The rate that is reached, at the recent latency of SES."""
        return min(self.rate, self._threads.most_per_second)

    @property
    def chunk_size(self) -> int:
        fitting = prepare_emails.MAX_CHUNK_BYTES // self._preparer.bytes_per_email
        return max(1, int(min(MAX_CHUNK, fitting, self.possible_rate, self.allowance)))

    @property
    def claim_size(self) -> int:
        return min(MAX_CHUNK, 2 * self.chunk_size)

    @property
    def record_size(self) -> int:
        """How many results are recorded together."""
        return min(self.chunk_size, max(fence_parts.LEAST_PART, math.ceil(self.possible_rate * RECORD_SECONDS)))

    def useful(self) -> int:
        """How many calls are under way when the next emails are fenced: enough to hide the latency of SES and of the
        fence, but few, because a crash leaves their outcomes unknown."""
        return min(
            self._threads.useful + math.ceil(self.possible_rate * fence_parts.FENCE_SECONDS),
            prepare_emails.MAX_CHUNK_BYTES // self._preparer.bytes_per_email,
        )

    def useful_between(self) -> int:
        """How many calls are under way when a chunk is completed. Calls that begin meanwhile are not in it."""
        between = min(2 * self._between_seconds, fence_parts.AHEAD_SECONDS)
        return self.useful() + math.ceil(self.possible_rate * between)

    def parts(self, chunk: int) -> Iterator[range]:
        """The parts in which a chunk is fenced."""
        return fence_parts.parts(chunk, self.possible_rate, 2 * self._between_seconds)

    def missed(self, begin: float, count: int, rate: float) -> int:
        """How many emails of a part whose time begins at `begin` cannot be fenced before their time has passed.

        However long the last fence took, a sender that is in time fences half of a part, and so learns how long it
        takes now.
        """
        if fence_parts.is_out_of_reach(count, rate):
            return 0
        longest = fence_parts.FENCE_SECONDS + fence_parts.PART_SECONDS / 2
        fenced = time.monotonic() + min(self.fencing_seconds, longest)
        return min(count, max(0, int((fenced - begin) * rate)))

    @contextlib.contextmanager
    def between_chunks(self, in_flight: int) -> Iterator[None]:
        """Around each thing that is done between two chunks. Measured is what calls under way have to last for."""
        began = time.monotonic()
        yield
        if in_flight:
            self._measured += time.monotonic() - began

    def begin_chunk(self) -> None:
        """All is done that is done between two chunks."""
        if self._measured:
            self._between_seconds, self._measured = self._measured, 0.0

    def slow_down(self, at: float) -> None:
        """Others use the account's rate too. Halve the rate, and raise it again while calls succeed. Refusals of the
        same moment count once."""
        if at - self._slowed_at > 1.0:
            self._slowed_at = at
            self.rate = max(self.rate / 2, min(1.0, self._full_rate))

    def speed_up(self, results: Sequence[SendResult]) -> None:
        """These are recorded. Calls that were under way when SES asked to slow down do not count for the lower rate."""
        if all(
            result.ended_at > self._slowed_at + 1.0
            and result.outcome.answer not in (Answer.SLOW_DOWN, Answer.NOT_REACHED)
            for result in results
        ):
            self.rate = min(self._full_rate, self.rate * 1.1)
