"""The threads that speak with SES: a fenced email and its time in, one result out for each, whatever happens.

Uses no table. The standard library's pool does the same for any call and pays for it, in locks and futures, with a
tenth of what a call costs.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from aws_lambda_powertools import Logger

from sendledger.claim_emails import ClaimedEmail
from sendledger.compose_email import ComposedEmail
from sendledger.record_results import SendResult
from sendledger.send_email import Answer, SendOutcome, SesSender

BURST_SECONDS = 0.005
"""How far an email may be ahead of the even pace."""

PATIENCE_SECONDS = 0.25
"""How long calls may take without keeping the rate down, before it is known how long they do take."""

logger = Logger(child=True)


@dataclass(frozen=True)
class ReadyEmail:
    """A claimed email that is composed and signed and waits for its fence; for a deleted lead there is nothing."""

    email: ClaimedEmail
    composed: ComposedEmail | None = None
    request: bytes = b""


@dataclass(frozen=True)
class Call:
    """A fenced email that is to be sent at `due` (`time.monotonic()`) to `address`, which the fence has looked at."""

    ready: ReadyEmail
    due: float
    address: str


class SesThreads:
    """As many threads as the rate has use for, up to `most`, each with a connection of its own: to make one takes as
    long as to send many emails. Make this for each tick and close it."""

    def __init__(self, client: Any, rate: float, most: int, stop_at: float) -> None:
        """Together they begin no more than `rate` calls per second, and none more than a second after `stop_at`
        (`time.monotonic()`)."""
        self.halt = threading.Event()
        """Once set, no further call begins; what waits for its time comes back as not called."""
        self.results: deque[SendResult] = deque()
        """Filled by the threads, emptied by their owner; its operations are atomic."""
        self._client = client
        self._ses: SesSender | None = None
        self._most = most
        self._rate = rate
        self._call_seconds = 0.0
        self._paced_until = 0.0
        self._pacing = threading.Lock()
        self._stop_at = stop_at
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    @property
    def useful(self) -> int:
        """How many calls must be under way at once to use the rate, with SES as slow as it has been of late."""
        return min(self._most, 1 + math.ceil(self._rate * max(PATIENCE_SECONDS, 2 * self._call_seconds)))

    def send(self, calls: Sequence[Call]) -> None:
        """Have these emails sent; SES is called at most once for each, and each has a result when `close` ends."""
        for call in calls:
            self._calls.put(call)
        if self._ses is None:
            self._ses = SesSender(self._client)
        for number in range(len(self._threads), min(self.useful, len(self._threads) + len(calls))):
            thread = threading.Thread(target=self._work, args=(self._ses,), name=f"ses-{number}")
            thread.start()
            self._threads.append(thread)

    def close(self) -> None:
        """Let no further call begin, wait for those under way and end the threads."""
        self.halt.set()
        for _ in self._threads:
            self._calls.put(None)
        for thread in self._threads:
            thread.join()
        if self._ses is not None:
            self._ses.close()
        with contextlib.suppress(Empty):
            while True:
                # Where no thread could be started at all.
                if (call := self._calls.get_nowait()) is not None:
                    self._answer(call, SendOutcome(Answer.NOT_CALLED))

    def _work(self, ses: SesSender) -> None:
        while (call := self._calls.get()) is not None:
            try:
                outcome = self._outcome(call, ses)
            except Exception:
                logger.exception("A call to SES failed", extra={"scheduled_email_id": call.ready.email.id})
                message = "The sender failed in its call."
                outcome = SendOutcome(Answer.UNKNOWN, error_code="outcome_unknown", message=message)
            self._answer(call, outcome)

    def _outcome(self, call: Call, ses: SesSender) -> SendOutcome:
        self._await(call.due)
        self._await(self._turn())
        composed = call.ready.composed
        if self.halt.is_set() or time.monotonic() > self._stop_at + 1.0:
            return SendOutcome(Answer.NOT_CALLED)
        if composed is None or composed.outgoing.to_address != call.address.strip():
            # The lead has another address now than it was composed for.
            return SendOutcome(Answer.NOT_CALLED)
        began = time.monotonic()
        outcome = ses.send(call.ready.request)
        # Up at once, down by and by. That threads overwrite what others found does no harm.
        seconds = time.monotonic() - began
        self._call_seconds = max(seconds, 0.95 * self._call_seconds)
        return outcome

    def _turn(self) -> float:
        """When a call whose time has come may begin. A process that was frozen, as Lambda freezes one that has used up
        its share of a processor, would else make up for the lost time all at once."""
        with self._pacing:
            turn = max(self._paced_until, time.monotonic())
            self._paced_until = turn + 1 / self._rate
        return turn - BURST_SECONDS

    def _await(self, moment: float) -> None:
        if (wait := moment - time.monotonic()) > 0:
            self.halt.wait(wait)

    def _answer(self, call: Call, outcome: SendOutcome) -> None:
        composed = call.ready.composed
        rendered = composed.rendered if composed is not None else None
        self.results.append(SendResult(call.ready.email, outcome, rendered, time.monotonic()))
