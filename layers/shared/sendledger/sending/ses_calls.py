"""The calls of SES: fenced emails and their times go in, exactly one result for each comes out.

One thread makes all calls, over as many connections as it needs. Uses no table.
"""

from __future__ import annotations

import contextlib
import functools
import math
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from aws_lambda_powertools import Logger

from sendledger.core.vocabulary import ErrorCode
from sendledger.ledger.claim_emails import ClaimedEmail
from sendledger.ledger.record_results import SendResult
from sendledger.sending.compose_email import ComposedEmail
from sendledger.sending.refusals import RefusalGate
from sendledger.ses.answers import Answer, SendOutcome
from sendledger.ses.connection import BadResponse, Response, SesConnection
from sendledger.ses.ses_sender import SesSender
from sendledger.ses.sign_email import SignedRequest

BURST_SECONDS = 0.03
"""How far an email may be ahead of the even pace. A call that is late by less than this does not delay those after it:
the thread often waits for the others of its process."""

CATCH_UP = 1.02
"""How much faster than the rate calls begin that are late. With the burst it is a twentieth of a second's calls, which
`SENDER_RATE_SAFETY` leaves free."""

PATIENCE_SECONDS = 0.25
"""How long a call is assumed to take before the first one has ended."""

LATE_SECONDS = 0.5
"""How late a call may begin. The time after that is reserved for other emails."""

LONGEST_PAUSE = 0.1
"""How late it is noticed, at most, that an answer does not come or that all calls are to end."""

NOT_CALLED = SendOutcome(Answer.NOT_CALLED)

logger = Logger(child=True)


class ReadyEmail(NamedTuple):
    """A claimed email that is composed and signed and waits for the fence. For a deleted lead it is empty."""

    email: ClaimedEmail
    composed: ComposedEmail | None = None
    request: SignedRequest = ()


class Call(NamedTuple):
    """A fenced email that is to be sent at `due` (`time.monotonic()`) to `address`, which the fence has looked at."""

    ready: ReadyEmail
    due: float
    address: str


class SesCalls:
    """Makes the calls in a thread of its own, `most` at the same time. Create one for each tick and close it."""

    def __init__(self, client: Any, rate: float, most: int, stop_at: float, gate: RefusalGate | None = None) -> None:
        """It begins no more than `rate` calls per second, and none more than a second after `stop_at`
        (`time.monotonic()`) or that the gate does not let through."""
        self.halt = threading.Event()
        """Once set, no further call begins. Waiting emails are returned as not called."""
        self.results: deque[SendResult] = deque()
        """Filled by the thread, emptied by its owner. Operations of a deque are atomic."""
        self._client = client
        self._gate = gate or RefusalGate()
        self._ses: SesSender | None = None
        self._most = most
        self._rate = rate
        self._stop_at = stop_at
        self._call_seconds = 0.0
        self._paced_until = 0.0
        self._waiting: deque[Call] = deque()
        self._under_way: dict[SesConnection, tuple[Call, float]] = {}
        """With the time at which each call has begun, the oldest first."""
        self._idle: list[SesConnection] = []
        self._thread: threading.Thread | None = None
        self._closing = False
        self._timeouts_at = 0.0

    @property
    def useful(self) -> int:
        """How many concurrent calls the rate needs, at the recent latency of SES."""
        # Calls without an answer yet count too.
        began = next((began for _, began in self._under_way.copy().values()), math.inf)
        slow = max(PATIENCE_SECONDS, 2 * self._call_seconds, 2 * (time.monotonic() - began))
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
            ses = SesSender(self._client)
            self._bell, self._ringer = socket.socketpair()
            self._bell.setblocking(False)
            self._ringer.setblocking(False)
            self._selector = selectors.DefaultSelector()
            self._selector.register(self._bell, selectors.EVENT_READ)
            self._ses = ses

    def send(self, calls: Sequence[Call]) -> None:
        """Have these emails sent, after `open`; SES is called at most once for each, and each has a result when `close`
        ends. One that cannot begin in time comes back as not called."""
        assert self._ses is not None  # noqa: S101 (opened before)
        self._waiting.extend(calls)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, args=(self._ses,), name="ses")
            self._thread.start()
        self._ring()

    def close(self) -> None:
        """Stop new calls, wait for those under way and end the thread."""
        self.halt.set()
        if self._ses is None:
            return
        self._closing = True
        self._ring()
        if self._thread is not None and self._thread.ident is not None:
            self._thread.join()
        self._return_waiting()  # if the thread could not be started
        # A call is still under way only if the thread has ended in the middle of it.
        for connection in (*self._idle, *self._under_way):
            connection.close()
        self._selector.close()
        self._bell.close()
        self._ringer.close()

    def _ring(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it has been rung often enough
            self._ringer.send(b"\0")

    def _run(self, ses: SesSender) -> None:
        try:
            while True:
                self._begin_due(ses)
                if self._closing and not self._under_way:
                    return
                for key, _ in self._selector.select(self._pause()):
                    if key.data is None:
                        self._bell.recv(65536)
                    else:
                        self._go_on(ses, key.data, key.data.advance)
                self._end_late_calls(ses)
        except Exception:
            # An error of one call does not come here. Still no result may be lost.
            self.halt.set()
            for connection in list(self._under_way):
                self._end(connection, self._failed(connection))
                connection.close()
        finally:
            self._return_waiting()

    def _pause(self) -> float:
        if not self._waiting:
            return LONGEST_PAUSE
        return max(0.0, min(self._next_begin() - time.monotonic(), LONGEST_PAUSE))

    def _next_begin(self) -> float:
        """When the next call may begin, if there is a connection.

        Lambda pauses a process that has used up its share of the processor. Without the even pace, the emails of that
        time would go out in one burst.
        """
        if not self._can_begin():
            return math.inf
        return max(self._waiting[0].due, self._paced_until - BURST_SECONDS)

    def _can_begin(self) -> bool:
        return bool(self._idle) or len(self._under_way) < self.useful

    def _begin_due(self, ses: SesSender) -> None:
        while self._waiting:
            call, now = self._waiting[0], time.monotonic()
            if self.halt.is_set():
                self._return_waiting()
            elif now > call.due + LATE_SECONDS or now > self._stop_at + 1.0:
                self._not_called(self._waiting.popleft())
            elif self._next_begin() > now:
                return
            else:
                self._paced_until = max(self._paced_until, now) + 1 / (CATCH_UP * self._rate)
                may_begin = self._may_begin(call)
                self._waiting.popleft()
                if may_begin:
                    self._begin(ses, call, now)
                else:
                    self._not_called(call)

    def _may_begin(self, call: Call) -> bool:
        composed = call.ready.composed
        # The address of the lead may have changed since it was composed.
        is_right = composed is not None and composed.outgoing.to_address == call.address.strip()
        return is_right and self._gate.enter(call.ready.email.campaign_id)

    def _begin(self, ses: SesSender, call: Call, now: float) -> None:
        connection = self._idle.pop() if self._idle else ses.connection(self._selector)
        self._under_way[connection] = call, now
        self._go_on(ses, connection, functools.partial(connection.begin, call.ready.request))

    def _go_on(self, ses: SesSender, connection: SesConnection, step: Callable[[], Response | None]) -> None:
        """Let a connection take a step, and end its call if it has an answer then."""
        try:
            response = step()
        except (OSError, BadResponse) as error:
            outcome = ses.failure(error, is_open=connection.is_open)
            connection.close()
        except Exception:
            outcome = self._failed(connection)
            connection.close()
        else:
            if response is None:
                return
            try:
                outcome = ses.outcome(response)
            except Exception:
                outcome = self._failed(connection)
        self._end(connection, outcome)

    def _failed(self, connection: SesConnection) -> SendOutcome:
        """In an `except` block: the outcome of a call that a fault of ours has ended."""
        call, _ = self._under_way[connection]
        logger.exception("A call to SES failed", extra={"scheduled_email_id": call.ready.email.id})
        message = "The sender failed in its call."
        return SendOutcome(Answer.UNKNOWN, error_code=ErrorCode.OUTCOME_UNKNOWN, message=message)

    def _end_late_calls(self, ses: SesSender) -> None:
        if (now := time.monotonic()) >= self._timeouts_at:
            self._timeouts_at = now + LONGEST_PAUSE
            for connection in list(self._under_way):
                if now >= connection.give_up_at:
                    self._go_on(ses, connection, connection.give_up)

    def _end(self, connection: SesConnection, outcome: SendOutcome) -> None:
        call, began = self._under_way.pop(connection)
        self._idle.append(connection)
        # It rises immediately and falls slowly.
        self._call_seconds = max(time.monotonic() - began, 0.95 * self._call_seconds)
        if outcome.answer in (Answer.STOP_FOR_A_WHILE, Answer.STOP_UNTIL_OPERATOR):
            # Without this, many more would be requested before the owner reacts.
            self.halt.set()
        self._answer(call, outcome)
        # After its result was added: a campaign without calls under way has all results.
        self._gate.leave(call.ready.email.campaign_id, outcome.answer)

    def _not_called(self, call: Call) -> None:
        self._answer(call, NOT_CALLED)

    def _return_waiting(self) -> None:
        while self._waiting:
            self._not_called(self._waiting.popleft())

    def _answer(self, call: Call, outcome: SendOutcome) -> None:
        composed = call.ready.composed
        rendered = composed.rendered if composed is not None else None
        self.results.append(SendResult(call.ready.email, outcome, rendered, time.monotonic()))
