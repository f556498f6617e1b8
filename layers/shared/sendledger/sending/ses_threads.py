"""The threads that call SES: fenced emails and their times go in, exactly one result for each comes out.

Uses no table. The thread pool of the standard library would add a tenth to the cost of a call, for locks and futures.
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

from sendledger.core.vocabulary import ErrorCode
from sendledger.ledger.claim_emails import ClaimedEmail
from sendledger.ledger.record_results import SendResult
from sendledger.sending.compose_email import ComposedEmail
from sendledger.sending.refusals import RefusalGate
from sendledger.ses.answers import Answer, SendOutcome
from sendledger.ses.ses_sender import SesSender
from sendledger.ses.sign_email import SignedRequest

BURST_SECONDS = 0.005
"""How far an email may be ahead of the even pace."""

PATIENCE_SECONDS = 0.25
"""How long a call is assumed to take before the first one has ended."""

LATE_SECONDS = 0.5
"""How late a call may begin. The time after that is reserved for other emails."""

logger = Logger(child=True)


@dataclass(frozen=True)
class ReadyEmail:
    """A claimed email that is composed and signed and waits for the fence. For a deleted lead it is empty."""

    email: ClaimedEmail
    composed: ComposedEmail | None = None
    request: SignedRequest = ()


@dataclass(frozen=True)
class Call:
    """A fenced email that is to be sent at `due` (`time.monotonic()`) to `address`, which the fence has looked at."""

    ready: ReadyEmail
    due: float
    address: str


class SesThreads:
    """As many threads as the rate needs, up to `most`, each with its own connection. Create one for each tick and close
    it."""

    def __init__(self, client: Any, rate: float, most: int, stop_at: float, gate: RefusalGate | None = None) -> None:
        """Together they begin no more than `rate` calls per second, and none more than a second after `stop_at`
        (`time.monotonic()`) or that the gate does not let through."""
        self.halt = threading.Event()
        """Once set, no further call begins. Waiting emails are returned as not called."""
        self.results: deque[SendResult] = deque()
        """Filled by the threads, emptied by their owner. Operations of a deque are atomic."""
        self._client = client
        self._gate = gate or RefusalGate()
        self._ses: SesSender | None = None
        self._most = most
        self._rate = rate
        self._call_seconds = 0.0
        self._began: dict[int, float] = {}
        self._paced_until = 0.0
        self._pacing = threading.Lock()
        self._stop_at = stop_at
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    @property
    def useful(self) -> int:
        """How many concurrent calls the rate needs, at the recent latency of SES."""
        # Calls without an answer yet count too.
        oldest = time.monotonic() - min(self._began.copy().values(), default=math.inf)
        slow = max(PATIENCE_SECONDS, 2 * self._call_seconds, 2 * oldest)
        return min(self._most, 1 + math.ceil(self._rate * slow))

    @property
    def most_per_second(self) -> float:
        """How many calls can be made in a second, at the recent latency of SES."""
        return self._most / self._call_seconds if self._call_seconds else math.inf

    def open(self) -> None:
        """Prepare for sending, including the DNS look-up of SES.

        Raises:
            OSError: it cannot be found.
        """
        if self._ses is None:
            self._ses = SesSender(self._client)

    def send(self, calls: Sequence[Call]) -> None:
        """Have these emails sent, after `open`; SES is called at most once for each, and each has a result when `close`
        ends. One that cannot begin in time comes back as not called."""
        assert self._ses is not None  # noqa: S101 (opened before)
        for call in calls:
            self._calls.put(call)
        self.grow()

    def grow(self) -> None:
        """Start more threads if calls wait for one and the rate needs more. To be called regularly."""
        if self._ses is None or not (waiting := self._calls.qsize()) or self.halt.is_set():
            return
        for number in range(len(self._threads), min(self.useful, len(self._threads) + waiting)):
            thread = threading.Thread(target=self._work, args=(self._ses, number), name=f"ses-{number}")
            thread.start()
            self._threads.append(thread)

    def close(self) -> None:
        """Stop new calls, wait for those under way and end the threads."""
        self.halt.set()
        for _ in self._threads:
            self._calls.put(None)
        for thread in self._threads:
            thread.join()
        if self._ses is not None:
            self._ses.close()
        with contextlib.suppress(Empty):
            while True:
                # If no thread could be started.
                if (call := self._calls.get_nowait()) is not None:
                    self._answer(call, SendOutcome(Answer.NOT_CALLED))

    def _work(self, ses: SesSender, number: int) -> None:
        while (call := self._calls.get()) is not None:
            try:
                outcome = self._outcome(call, ses, number)
            except Exception:
                logger.exception("A call to SES failed", extra={"scheduled_email_id": call.ready.email.id})
                message = "The sender failed in its call."
                outcome = SendOutcome(Answer.UNKNOWN, error_code=ErrorCode.OUTCOME_UNKNOWN, message=message)
            self._answer(call, outcome)
            if outcome.answer is not Answer.NOT_CALLED:
                # After its result was added: a campaign without calls under way has all results.
                self._gate.leave(call.ready.email.campaign_id, outcome.answer)

    def _outcome(self, call: Call, ses: SesSender, number: int) -> SendOutcome:
        self._await(call.due)
        if time.monotonic() > call.due + LATE_SECONDS:
            return SendOutcome(Answer.NOT_CALLED)
        self._await(self._turn())
        composed = call.ready.composed
        if self.halt.is_set() or time.monotonic() > self._stop_at + 1.0:
            return SendOutcome(Answer.NOT_CALLED)
        if composed is None or composed.outgoing.to_address != call.address.strip():
            # The address of the lead has changed since it was composed.
            return SendOutcome(Answer.NOT_CALLED)
        if not self._gate.enter(call.ready.email.campaign_id):
            return SendOutcome(Answer.NOT_CALLED)
        self._began[number] = time.monotonic()
        try:
            return ses.send(call.ready.request)
        finally:
            # It rises immediately and falls slowly. Threads may overwrite each other, as it is only an estimate.
            self._call_seconds = max(time.monotonic() - self._began.pop(number), 0.95 * self._call_seconds)

    def _turn(self) -> float:
        """When a due call may begin.

        Lambda pauses a process that has used up its share of the processor. Without this limit, the emails of that time
        would go out in one burst.
        """
        with self._pacing:
            turn = max(self._paced_until, time.monotonic())
            self._paced_until = turn + 1 / self._rate
        return turn - BURST_SECONDS

    def _await(self, moment: float) -> None:
        if (wait := moment - time.monotonic()) > 0:
            self.halt.wait(wait)

    def _answer(self, call: Call, outcome: SendOutcome) -> None:
        if outcome.answer in (Answer.STOP_FOR_A_WHILE, Answer.STOP_UNTIL_OPERATOR):
            # Without this, many more would be requested before the owner reacts.
            self.halt.set()
        composed = call.ready.composed
        rendered = composed.rendered if composed is not None else None
        self.results.append(SendResult(call.ready.email, outcome, rendered, time.monotonic()))
