"""The pace of one sender: its rate, the size of its chunks, and how many calls are under way. Uses no table."""

from __future__ import annotations

import contextlib
import math
import time
from collections import deque
from collections.abc import Iterator, Sequence

from sendledger.ledger.record_results import SendResult
from sendledger.sending import fence_parts, prepare_emails
from sendledger.sending.prepare_emails import Preparer
from sendledger.sending.ses_calls import SesCalls
from sendledger.sending.tick_summary import SendingLimits
from sendledger.ses.answers import Answer

MAX_CHUNK = 1000
"""Emails that time is reserved for together, at most. At lower rates it is the number that one second allows."""

FIRST_CHUNK = 250
"""Emails of a chunk, at most, until the first call has ended: calls are under way while the next chunk is prepared, and
then it is known how fast SES is."""

RECORD_SECONDS = 0.05
"""The time of the results that are recorded together, at least. Until then their outcomes are unknown if the sender
dies."""

BETWEEN_SECONDS = 0.02
"""How long a sender is assumed to need between two chunks, before it has been measured."""

LEAST_AHEAD_SECONDS = 0.01
"""The time until the next fence in which something else is begun, at least."""


class Lately:
    """How long something takes: the shortest of the last three times. A longer one may have been held up."""

    def __init__(self) -> None:
        self._last = deque[float](maxlen=3)

    @property
    def seconds(self) -> float:
        return min(self._last, default=0.0)

    @property
    def last_seconds(self) -> float:
        return self._last[-1] if self._last else 0.0

    def took(self, seconds: float) -> None:
        self._last.append(seconds)


class Pace:
    """For the sender's main thread only."""

    def __init__(self, limits: SendingLimits, calls: SesCalls, preparer: Preparer) -> None:
        self.allowance = limits.remaining
        """Emails that may still be sent today."""
        self.rate = self._full_rate = limits.rate
        """Emails for which a second is reserved. Halved when SES asks for it."""
        self.fencing = Lately()
        self.recording = Lately()
        self._calls = calls
        self._preparer = preparer
        self._slowed_at = -math.inf
        self._between_seconds = BETWEEN_SECONDS
        self._measured = 0.0

    @property
    def possible_rate(self) -> float:
        """The rate that is reached, at the recent latency of SES."""
        return min(self.rate, self._calls.most_per_second)

    @property
    def chunk_size(self) -> int:
        fitting = prepare_emails.MAX_CHUNK_BYTES // self._preparer.bytes_per_email
        most = FIRST_CHUNK if math.isinf(self._calls.most_per_second) else MAX_CHUNK
        return max(1, int(min(most, MAX_CHUNK, fitting, self.possible_rate, self.allowance)))

    @property
    def claim_size(self) -> int:
        return min(MAX_CHUNK, 2 * self.chunk_size)

    @property
    def record_size(self) -> int:
        """How many results are recorded together: at least as many as come in while others are being recorded."""
        seconds = max(RECORD_SECONDS, self.recording.seconds)
        return min(self.chunk_size, max(fence_parts.LEAST_PART, math.ceil(self.possible_rate * seconds)))

    @property
    def lead(self) -> float:
        """How many seconds before its time a part is fenced."""
        return fence_parts.lead(self.fencing.seconds)

    def useful(self) -> int:
        """How many calls are under way when the next emails are fenced: enough to hide the latency of SES and of the
        fence, but few, because a crash leaves their outcomes unknown."""
        return min(
            self._calls.useful + math.ceil(self.possible_rate * self.lead),
            prepare_emails.MAX_CHUNK_BYTES // self._preparer.bytes_per_email,
        )

    def useful_between(self) -> int:
        """How many calls are under way when a chunk is completed. Calls that begin meanwhile are not in it."""
        between = min(2 * self._between_seconds, fence_parts.ahead(self.fencing.seconds))
        return self.useful() + math.ceil(self.possible_rate * between)

    def parts(self, chunk: int) -> Iterator[range]:
        """The parts in which a chunk is fenced. Each is as long as the fences before it ask for."""
        begin = 0
        while begin < chunk:
            fencing, between = self.fencing.seconds, 2 * self._between_seconds
            end = begin + fence_parts.next_part(chunk - begin, self.possible_rate, fencing, between)
            yield range(begin, end)
            begin = end

    def missed(self, begin: float, count: int, rate: float) -> int:
        """How many emails of a part whose time begins at `begin` cannot be fenced before their time has passed.

        However long the last fence took, a sender that is in time fences half of a part, and so learns how long it
        takes now.
        """
        if fence_parts.is_out_of_reach(count, rate):
            return 0
        longest = self.lead + fence_parts.part_seconds(self.fencing.seconds) / 2
        fenced = time.monotonic() + min(self.fencing.last_seconds, longest)
        return min(count, max(0, int((fenced - begin) * rate)))

    def leaves_time(self, until: float) -> bool:
        """Whether there is time to claim or to prepare emails. Each takes as many waits for the database as a fence."""
        return until - time.monotonic() >= max(LEAST_AHEAD_SECONDS, self.fencing.seconds)

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
