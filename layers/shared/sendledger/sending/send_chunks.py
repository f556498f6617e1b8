"""Sending chunk after chunk: claim → compose, sign → reserve → fence → send → record → complete, until nothing is due.

The main thread fences a chunk part after part. Between the parts it claims, composes and signs the emails of the next
chunk. The thread of `ses_calls` speaks with SES; one more thread records. So the SES rate is used without gaps, and
few emails at a time are fenced without a recorded result. Only the main thread changes what is kept in memory. Writes
`sender_state` (the shared rate limiter and the stop); the other tables through the modules that it calls.
"""

from __future__ import annotations

import contextlib
import math
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from aws_lambda_powertools import Logger

from sendledger.campaigns import completion, guardrails, lifecycle
from sendledger.core import database
from sendledger.core.errors import IllegalTransition
from sendledger.core.settings import SenderSettings
from sendledger.core.vocabulary import ErrorCode, ScheduledEmailStatus
from sendledger.ledger import claim_emails, rate_limiter, sender_state, sweep
from sendledger.ledger.record_results import Recorded, SendResult
from sendledger.sending.claimed_emails import ClaimedEmails
from sendledger.sending.fence_parts import call_times
from sendledger.sending.pace import Pace
from sendledger.sending.prepare_emails import Preparer
from sendledger.sending.record_chunks import ChunkRecorder
from sendledger.sending.refusals import REFUSALS, RefusalGate
from sendledger.sending.ses_calls import Call, ReadyEmail, SesCalls
from sendledger.sending.step_contents import ContentKey
from sendledger.sending.tick_summary import SendingLimits, TickSummary
from sendledger.ses.answers import Answer, SendOutcome
from sendledger.ses.ses_sender import MAX_CALL_SECONDS

FINISH_SECONDS = 5.0
"""Seconds reserved at the end of a tick for recording the last results and returning claimed emails."""

POLL_SECONDS = 0.01
"""How often the main thread looks for results."""

CLAIM_AGAIN_SECONDS = 0.25
"""The pause after a claim that found nothing, while the tick has something left to do."""

COMPOSE_SECONDS = 1.0
"""How long a chunk may be composed. Emails that are ready by then are sent."""

LEAST_AHEAD = 20
"""Emails of the next chunk that are prepared together, at least. Each time, what is prepared is noted twice."""

QUIET_SECONDS = 2.0
"""How long new content waits for the calls under way. They take a second and the latency of SES."""

QUOTA_STOP_SECONDS = 600
"""How long all sending stops after SES says that the daily quota is used up."""

logger = Logger(child=True)


def last_call(deadline: float) -> float:
    """Until when calls may begin in a tick that ends at `deadline`. The last call may time out, and its result must
    still be written."""
    return deadline - MAX_CALL_SECONDS - FINISH_SECONDS


class ChunkSender:
    """Sends with one claim token. Create one for each tick and do not use it afterwards."""

    def __init__(
        self,
        engine: sa.Engine,
        ses_client: Any,
        settings: SenderSettings,
        limits: SendingLimits,
        summary: TickSummary,
        deadline: float,
        proven: set[ContentKey] | None = None,
    ) -> None:
        """`proven` is kept by the process: the contents of which it has rendered an email."""
        self._engine = engine
        self._settings = settings
        self._summary = summary
        self._deadline = deadline
        self._stop_sending_at = last_call(deadline)
        self._token = uuid.uuid4()
        summary.claim_token = str(self._token)
        connections = max(1, min(settings.sender_connections, math.ceil(limits.rate * MAX_CALL_SECONDS)))
        self._gate = RefusalGate()
        self._calls = SesCalls(ses_client, limits.rate, connections, self._stop_sending_at, self._gate)
        self._in_flight = 0
        self._recorder = ChunkRecorder(engine, self._token, deadline, self._on_recorded)
        self._preparer = Preparer(engine, ses_client, settings, self._token, self._gate, proven)
        self._pace = Pace(limits, self._calls, self._preparer)
        self._in_hand = ClaimedEmails(engine, self._token, summary, self._stop_sending_at)
        self._ready: deque[ReadyEmail] = deque()
        """Prepared and not fenced: what is left of the chunk that is sent, then what is prepared of the next one."""
        self._touched: set[uuid.UUID] = set()
        self._refused: set[uuid.UUID] = set()
        self._to_pause: dict[uuid.UUID, str] = {}
        self._stop: SendOutcome | None = None

    def run(self, only: int | None = None) -> None:
        """Send until nothing is due, the time or the quota is used up, or something stops all sending."""
        try:
            if only is not None:
                self._in_hand.claim_one(only)
            while not self._has_to_end() and self._pace.allowance >= 1:
                if only is None and not self._in_hand.emails:
                    self._claim()
                if self._in_hand.emails or self._ready:
                    self._send_chunk()
                    self._record_if_full()
                elif not self._has_something_in_hand() and (only is not None or not self._is_anything_due()):
                    break
                else:  # calls are under way, or the due emails are locked for a moment
                    again = min(time.monotonic() + CLAIM_AGAIN_SECONDS, self._stop_sending_at)
                    self._wait(again, at_most=_none if self._in_flight else None)
                    self._recorder.record_all()
                self._act()
            # The quota may be used up with calls still waiting for their time.
            self._wait(self._stop_sending_at, at_most=_none)
        finally:
            self._finish()

    def _has_to_end(self) -> bool:
        return self._calls.halt.is_set() or time.monotonic() >= self._stop_sending_at

    def _has_something_in_hand(self) -> bool:
        return bool(self._in_hand.emails or self._ready or self._in_flight or self._recorder.is_busy)

    def _is_anything_due(self) -> bool:
        with self._engine.connect() as connection:
            return claim_emails.count_due(connection, 1) > 0

    def _claim(self) -> None:
        self._in_hand.claim(self._pace.claim_size, nothing_in_hand=not self._has_something_in_hand())

    def _prove_contents(self) -> None:
        """Render one email of each campaign that is new to this process, while no call is under way.

        If the content kills the process, nothing is fenced then, so that no outcome is unknown.
        """
        claimed = self._in_hand.unproven(self._preparer.proven)
        if not claimed:
            return
        # Do not wait for a call that stalls: all sending would wait.
        self._wait(min(time.monotonic() + QUIET_SECONDS, self._stop_sending_at), at_most=_none)
        self._recorder.record_all()
        if not self._has_to_end():
            with self._engine.connect() as connection:
                due = claim_emails.first_due(connection)
            self._blame(self._preparer.prove([*claimed, *due], time.monotonic() + COMPOSE_SECONDS))

    def _blame(self, stalled: list[uuid.UUID]) -> None:
        """An email of each of these campaigns took too long to prepare."""
        if not stalled:
            return
        with self._engine.begin() as connection:
            self._to_pause |= sweep.blame(connection, Counter(stalled))
        self._in_hand.give_back(stalled)

    def _prepare(self, most: int, until: float) -> None:
        """Prepare up to `most` of the claimed emails. One that cannot be prepared fails immediately."""
        most = min(most, self._in_hand.bring_forward(self._preparer.proven))
        if most < 1:
            return
        prepared = self._preparer.prepare(self._in_hand.emails, most, until, alone=self._in_hand.alone)
        self._ready += prepared.ready
        for result in prepared.failed:
            self._note(result)
        self._in_hand.emails += prepared.waiting
        self._blame(prepared.stalled)
        if not prepared.stalled:
            self._in_hand.did_no_harm()

    def _prepare_ahead(self, until: float) -> None:
        """While a chunk waits for the time of its next part, prepare as many emails for the next chunk as this one has
        handed over."""
        size = self._pace.chunk_size
        lacking = size - len(self._ready)
        if lacking < max(1, min(LEAST_AHEAD, size // 2)) or self._in_hand.alone or self._has_to_end():
            return
        if not self._in_hand.emails and self._in_hand.more_are_due and self._pace.leaves_time(until):
            self._claim()
        if not self._in_hand.alone and self._pace.leaves_time(until):
            self._prepare(lacking, until)

    def _complete_chunk(self) -> int:
        """Prepare what a chunk lacks. Returns the number of its emails."""
        # As late as possible: if preparing kills the process, the outcomes of calls under way become unknown.
        self._wait(self._stop_sending_at, at_most=_none if self._in_hand.alone else self._pace.useful_between)
        if self._in_hand.alone:
            self._recorder.record_all()
        else:
            size = self._pace.record_size
            self._recorder.record_if(size // 2, 2 * size)
        self._prove_contents()
        with self._pace.between_chunks(self._in_flight):
            until = min(time.monotonic() + COMPOSE_SECONDS, self._stop_sending_at)
            self._prepare(self._pace.chunk_size - len(self._ready), until)
        return min(self._pace.chunk_size, len(self._ready))

    def _send_chunk(self) -> None:
        """Reserve time for a chunk, and fence and hand over each part of it when its time comes."""
        count = self._complete_chunk()
        if not count:  # none of them may be sent now
            self._wait(time.monotonic() + POLL_SECONDS)
            return
        late, passed_over = list[Call](), list[ReadyEmail]()
        try:
            self._calls.open()
            self._wait(self._stop_sending_at, at_most=self._pace.useful)
            rate = self._pace.rate
            with self._pace.between_chunks(self._in_flight), self._engine.begin() as connection:
                begin = time.monotonic() + rate_limiter.reserve_rate(connection, count, rate)
            self._pace.begin_chunk()
            for part in self._pace.parts(count):
                due = begin + part.start / rate
                fence_at = min(due - self._pace.lead, self._stop_sending_at)
                self._prepare_ahead(fence_at)
                self._wait(fence_at)
                self._wait(self._stop_sending_at, at_most=self._pace.useful)
                if self._has_to_end() or self._pace.rate < rate:  # the rest needs more time than was reserved
                    return
                emails = [self._ready.popleft() for _ in part]
                # Their time would have to be reserved again after the fence, and they would wait for it fenced.
                missed = self._pace.missed(due, len(part), rate) if part.start else 0
                passed_over += emails[:missed]
                if emails[missed:]:
                    in_time, later = self._fence(emails[missed:], due + missed / rate)
                    late += later
                    self._hand_over(in_time)
        finally:
            self._ready.extendleft(reversed(passed_over))
            self._hand_over(late)  # last, as calls begin in this order

    def _fence(self, part: list[ReadyEmail], begin: float) -> tuple[list[Call], list[Call]]:
        """Fence a part of a chunk, whose time begins at `begin`. Returns the calls in this time, and what is to follow
        the chunk, as its time has passed."""
        emails = [ready.email for ready in part]
        began = time.monotonic()
        try:
            with self._engine.begin() as connection:
                fenced = claim_emails.fence(connection, emails, self._token)
            self._pace.fencing.took(time.monotonic() - began)
            sendable = [ready for ready in part if ready.email.id in fenced.sendable]
            in_time, later = call_times(self._engine, begin, len(sendable), self._pace.rate)
        except BaseException:
            # The fence may or may not be committed. SES was not called for any of these emails.
            ended = time.monotonic()
            not_called = SendOutcome(Answer.NOT_CALLED)
            self._recorder.results += [SendResult(email, not_called, None, ended) for email in emails]
            raise
        self._summary.left_out.update(fenced.turned_away)
        self._summary.skipped += sum(
            count for reason, count in fenced.turned_away.items() if reason != "waits_for_earlier_step"
        )
        self._touched.update(email.campaign_id for email in emails if email.id not in fenced.sendable)
        self._pace.allowance -= len(sendable)
        timed = zip(sendable, in_time + later, strict=True)
        calls = [Call(ready, due, fenced.sendable[ready.email.id]) for ready, due in timed]
        return calls[: len(in_time)], calls[len(in_time) :]

    def _hand_over(self, calls: list[Call]) -> None:
        if calls:
            self._in_flight += len(calls)
            self._calls.send(calls)

    def _wait(self, until: float, at_most: Callable[[], int] | None = None) -> None:
        """Collect and record results until `until`, or until no more than `at_most()` calls are under way."""
        while True:
            with contextlib.suppress(IndexError):
                while True:
                    self._note(self._calls.results.popleft())
                    self._in_flight -= 1
            left = until - time.monotonic()
            if left <= 0 or self._calls.halt.is_set() or (at_most is not None and self._in_flight <= at_most()):
                return
            self._record_if_full()
            # Polling costs less than a wake-up for every result.
            self._calls.halt.wait(min(left, POLL_SECONDS))

    def _note(self, result: SendResult) -> None:
        """Keep a result until it is recorded. If it is about more than its own email, act immediately."""
        self._recorder.results.append(result)
        if result.outcome.answer in REFUSALS and result.rendered is not None:
            self._refused.add(result.email.campaign_id)
        match result.outcome.answer:
            case Answer.SLOW_DOWN | Answer.NOT_REACHED:
                self._pace.slow_down(result.ended_at)
            case Answer.STOP_FOR_A_WHILE | Answer.STOP_UNTIL_OPERATOR:
                self._calls.halt.set()
                if self._stop is None or result.outcome.answer is Answer.STOP_UNTIL_OPERATOR:
                    self._stop = result.outcome
            case Answer.PAUSE_CAMPAIGN:
                code, message = result.outcome.error_code, result.outcome.message or ""
                if code != ErrorCode.INVALID_CONTENT:
                    message = f"SES refused this campaign's email ({code}): {message}"
                self._to_pause.setdefault(result.email.campaign_id, message)

    def _record_if_full(self) -> None:
        """Begin to record a chunk of results, or the last ones."""
        size = self._pace.record_size
        self._recorder.record_if(size if self._in_flight else 1, 2 * size)

    def _on_recorded(self, results: list[SendResult], recorded: Recorded, seconds: float) -> None:
        summary, counts = self._summary, recorded.counts
        summary.sent += counts[ScheduledEmailStatus.SENT]
        summary.failed += counts[ScheduledEmailStatus.FAILED]
        summary.unknown += counts["unknown"]
        summary.retried += counts["retry"]
        summary.released += counts[ScheduledEmailStatus.PENDING] + counts[ScheduledEmailStatus.CANCELLED]
        self._touched |= recorded.campaign_ids
        self._pace.recording.took(seconds)
        self._pace.speed_up(results)

    def _act(self) -> None:
        """Stop all senders or pause campaigns if results require it."""
        if self._stop is not None:
            outcome, self._stop = self._stop, None
            code, reason = outcome.error_code or "stopped", outcome.message or ""
            self._summary.stopped = f"{code}: {reason}"
            seconds = QUOTA_STOP_SECONDS if outcome.answer is Answer.STOP_FOR_A_WHILE else None
            # In a separate transaction, as all senders share that row.
            with self._engine.begin() as connection:
                sender_state.stop(connection, code, reason, seconds)
        self._judge_refusals()
        for campaign_id, reason in list(self._to_pause.items()):
            try:
                lifecycle.pause_campaign(self._engine, campaign_id, reason=reason, rows_at_once=False)
                self._summary.campaigns_paused += 1
            except IllegalTransition:
                pass  # it was paused already
            except sa.exc.DBAPIError as error:
                # It is locked for long. This is retried; meanwhile its emails are sent.
                if not database.is_transient(error):
                    raise
                logger.warning("A campaign could not be paused yet", extra={"campaign_id": str(campaign_id)})
                continue
            del self._to_pause[campaign_id]
            self._in_hand.give_back([campaign_id])

    def _judge_refusals(self) -> None:
        """Find the campaigns to pause because SES refuses their emails, after all their results are recorded."""
        quiet = {campaign_id for campaign_id in self._refused if self._gate.is_quiet(campaign_id)}
        if not quiet:
            return
        self._wait(0.0)
        quiet = {campaign_id for campaign_id in quiet if not self._recorder.holds_results_of(campaign_id)}
        with self._engine.connect() as connection:
            found = guardrails.provider_errors(connection, quiet, self._settings)
        self._refused -= quiet
        self._to_pause |= found
        for campaign_id in quiet - found.keys():
            self._gate.forgive(campaign_id)

    def _finish(self) -> None:
        """End the calls, write the last results, return claimed emails and complete campaigns."""
        self._calls.halt.set()
        self._wait(0.0)
        # The wait for the last calls may take all of the time that is left.
        self._recorder.begin_if_idle()
        self._calls.close()
        self._in_hand.emails.extendleft(ready.email for ready in reversed(self._ready))
        failure: Exception | None = None
        # In the order of importance. An error in one does not stop the others.
        for step in (self._record_the_rest, self._in_hand.give_back, self._act, self._complete, self._preparer.close):
            try:
                step()
            except Exception as error:
                logger.exception("A tick could not end as it should")
                failure = failure or error
        if failure is not None:
            raise failure

    def _record_the_rest(self) -> None:
        self._wait(0.0)
        self._recorder.close()
        rates = guardrails.excessive_rates_after_sending(self._engine, self._touched, self._settings)
        self._to_pause = rates | self._to_pause

    def _complete(self) -> None:
        for campaign_id in self._touched:
            self._summary.campaigns_completed += completion.mark_campaign_complete(self._engine, campaign_id)


def _none() -> int:
    return 0
