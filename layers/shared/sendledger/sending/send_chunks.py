"""Sending chunk after chunk: claim → compose, sign → reserve → fence → send → record → complete, until nothing is due.

The main thread claims, composes and signs a chunk, and fences it part after part; the threads of `ses_threads` speak
with SES; one more thread records. So while SES gets one chunk, the next is prepared and the last one is recorded, and
the SES rate is used without gaps. Only the main thread changes what is kept in memory. Writes `sender_state` (the
shared rate limiter and the stop); the other tables through the modules that it calls.
"""

from __future__ import annotations

import contextlib
import math
import time
import uuid
from collections import Counter
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
from sendledger.sending import prepare_emails
from sendledger.sending.claimed_emails import ClaimedEmails
from sendledger.sending.fence_parts import AHEAD_SECONDS, FENCE_SECONDS, LEAST_PART, call_times, parts
from sendledger.sending.prepare_emails import Preparer
from sendledger.sending.record_chunks import ChunkRecorder
from sendledger.sending.refusals import REFUSALS, RefusalGate
from sendledger.sending.ses_threads import Call, ReadyEmail, SesThreads
from sendledger.sending.step_contents import ContentKey
from sendledger.sending.tick_summary import SendingLimits, TickSummary
from sendledger.ses.answers import Answer, SendOutcome
from sendledger.ses.ses_sender import MAX_CALL_SECONDS

MAX_CHUNK = 500
"""Emails that are prepared together, at most. At lower rates it is the number that one second allows."""

FINISH_SECONDS = 5.0
"""Seconds reserved at the end of a tick for recording the last results and returning claimed emails."""

POLL_SECONDS = 0.01
"""How often the main thread looks for results."""

CLAIM_AGAIN_SECONDS = 0.25
"""The pause after a claim that found nothing, while the tick has something left to do."""

COMPOSE_SECONDS = 1.0
"""How long a chunk may be composed. Emails that are ready by then are sent."""

QUIET_SECONDS = 2.0
"""How long new content waits for the calls under way. They take a second and the latency of SES."""

RECORD_SECONDS = 0.05
"""The time of the results that are recorded together. Until then their outcomes are unknown if the sender dies."""

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
        self._full_rate = self._rate = limits.rate
        self._slowed_at = -math.inf
        self._allowance = limits.remaining
        threads = max(1, min(settings.sender_threads, math.ceil(limits.rate * MAX_CALL_SECONDS)))
        self._gate = RefusalGate()
        self._threads = SesThreads(ses_client, limits.rate, threads, self._stop_sending_at, self._gate)
        self._in_flight = 0
        self._recorder = ChunkRecorder(engine, self._token, deadline, self._on_recorded)
        self._preparer = Preparer(engine, ses_client, settings, self._token, self._gate, proven)
        self._in_hand = ClaimedEmails(engine, self._token, summary, self._stop_sending_at)
        self._touched: set[uuid.UUID] = set()
        self._refused: set[uuid.UUID] = set()
        self._to_pause: dict[uuid.UUID, str] = {}
        self._stop: SendOutcome | None = None
        self._preparing_seconds = 0.0

    def run(self, only: int | None = None) -> None:
        """Send until nothing is due, the time or the quota is used up, or something stops all sending."""
        try:
            if only is not None:
                self._in_hand.claim_one(only)
            while not self._has_to_end() and self._allowance >= 1:
                if self._in_hand.emails or (only is None and self._claim()):
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
        return self._threads.halt.is_set() or time.monotonic() >= self._stop_sending_at

    def _has_something_in_hand(self) -> bool:
        return bool(self._in_hand.emails or self._in_flight or self._recorder.is_busy)

    def _is_anything_due(self) -> bool:
        with self._engine.connect() as connection:
            return claim_emails.count_due(connection, 1) > 0

    def _chunk_size(self) -> int:
        fitting = prepare_emails.MAX_CHUNK_BYTES // self._preparer.bytes_per_email
        return max(1, int(min(MAX_CHUNK, fitting, self._possible_rate(), self._allowance)))

    def _useful(self) -> int:
        """How many calls are under way when the next emails are fenced: enough to hide the latency of SES and of the
        fence, but few, because a crash leaves their outcomes unknown."""
        return min(
            self._threads.useful + math.ceil(self._possible_rate() * FENCE_SECONDS),
            prepare_emails.MAX_CHUNK_BYTES // self._preparer.bytes_per_email,
        )

    def _useful_meanwhile(self) -> int:
        """How many calls are under way when the next chunk is prepared. Calls that begin meanwhile are not in it."""
        return self._useful() + math.ceil(self._possible_rate() * min(2 * self._preparing_seconds, AHEAD_SECONDS))

    def _possible_rate(self) -> float:
        return min(self._rate, self._threads.most_per_second)

    def _record_size(self) -> int:
        return min(self._chunk_size(), max(LEAST_PART, math.ceil(self._possible_rate() * RECORD_SECONDS)))

    def _claim(self) -> bool:
        most = min(MAX_CHUNK, 2 * self._chunk_size())
        return self._in_hand.claim(most, nothing_in_hand=not self._has_something_in_hand())

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

    def _prepare_chunk(self) -> list[ReadyEmail]:
        """Prepare a chunk of the claimed emails. An email that cannot be prepared fails immediately."""
        self._prove_contents()
        most = min(self._chunk_size(), self._in_hand.bring_forward(self._preparer.proven))
        began = time.monotonic()
        until = min(began + COMPOSE_SECONDS, self._stop_sending_at)
        prepared = self._preparer.prepare(self._in_hand.emails, most, until, alone=self._in_hand.alone)
        self._preparing_seconds = time.monotonic() - began
        for result in prepared.failed:
            self._note(result)
        self._in_hand.emails += prepared.waiting
        self._blame(prepared.stalled)
        if not prepared.stalled:
            self._in_hand.did_no_harm()
        if prepared.waiting and not prepared.ready:
            self._wait(time.monotonic() + POLL_SECONDS)
        return prepared.ready

    def _send_chunk(self) -> None:
        """Compose a chunk, reserve time for it, and fence and hand over each part of it when its time comes."""
        # As late as possible: if preparing kills the process, the outcomes of calls under way become unknown.
        self._wait(self._stop_sending_at, at_most=_none if self._in_hand.alone else self._useful_meanwhile)
        if self._in_hand.alone:
            self._recorder.record_all()
        else:
            size = self._record_size()
            self._recorder.record_if(size // 2, 2 * size)
        chunk = self._prepare_chunk()
        if not chunk:
            return
        late, handed_over = list[Call](), 0
        try:
            self._threads.open()
            self._wait(self._stop_sending_at, at_most=self._useful)
            rate = self._rate
            with self._engine.begin() as connection:
                begin = time.monotonic() + rate_limiter.reserve_rate(connection, len(chunk), rate)
            for part in parts(len(chunk), self._possible_rate(), 2 * self._preparing_seconds):
                due = begin + part.start / rate
                self._wait(min(due - FENCE_SECONDS, self._stop_sending_at))
                self._wait(self._stop_sending_at, at_most=self._useful)
                if self._has_to_end() or self._rate < rate:  # the rest needs more time than was reserved
                    self._in_hand.emails.extendleft(ready.email for ready in reversed(chunk[part.start :]))
                    return
                late += self._fence(chunk[part.start : part.stop], due)
                handed_over = part.stop
        except BaseException:
            # The fence may or may not be committed. SES was not called for any of these emails.
            ended = time.monotonic()
            self._recorder.results += [
                SendResult(ready.email, SendOutcome(Answer.NOT_CALLED), None, ended) for ready in chunk[handed_over:]
            ]
            raise
        finally:
            self._hand_over(late)  # last, as the threads take up calls in this order

    def _fence(self, part: list[ReadyEmail], begin: float) -> list[Call]:
        """Fence a part of a chunk, whose time begins at `begin`, and hand it over. Returns what is to follow the chunk,
        as its time has passed."""
        emails = [ready.email for ready in part]
        with self._engine.begin() as connection:
            fenced = claim_emails.fence(connection, emails, self._token)
        sendable = [ready for ready in part if ready.email.id in fenced.sendable]
        in_time, later = call_times(self._engine, begin, len(sendable), self._rate)
        self._summary.left_out.update(fenced.turned_away)
        self._summary.skipped += sum(
            count for reason, count in fenced.turned_away.items() if reason != "waits_for_earlier_step"
        )
        self._touched.update(email.campaign_id for email in emails if email.id not in fenced.sendable)
        self._allowance -= len(sendable)
        timed = zip(sendable, in_time + later, strict=True)
        calls = [Call(ready, due, fenced.sendable[ready.email.id]) for ready, due in timed]
        self._hand_over(calls[: len(in_time)])
        return calls[len(in_time) :]

    def _hand_over(self, calls: list[Call]) -> None:
        if calls:
            self._in_flight += len(calls)
            self._threads.send(calls)

    def _wait(self, until: float, at_most: Callable[[], int] | None = None) -> None:
        """Collect and record results until `until`, or until no more than `at_most()` calls are under way."""
        while True:
            with contextlib.suppress(IndexError):
                while True:
                    self._note(self._threads.results.popleft())
                    self._in_flight -= 1
            self._threads.grow()
            left = until - time.monotonic()
            if left <= 0 or self._threads.halt.is_set() or (at_most is not None and self._in_flight <= at_most()):
                return
            self._record_if_full()
            # Polling costs less than a wake-up for every result.
            self._threads.halt.wait(min(left, POLL_SECONDS))

    def _note(self, result: SendResult) -> None:
        """Keep a result until it is recorded. If it is about more than its own email, act immediately."""
        self._recorder.results.append(result)
        if result.outcome.answer in REFUSALS and result.rendered is not None:
            self._refused.add(result.email.campaign_id)
        match result.outcome.answer:
            case Answer.SLOW_DOWN | Answer.NOT_REACHED:
                # Others use the account's rate too. Halve the rate, and raise it again while calls succeed. Refusals of
                # the same moment count once.
                if result.ended_at - self._slowed_at > 1.0:
                    self._slowed_at = result.ended_at
                    self._rate = max(self._rate / 2, min(1.0, self._full_rate))
            case Answer.STOP_FOR_A_WHILE | Answer.STOP_UNTIL_OPERATOR:
                self._threads.halt.set()
                if self._stop is None or result.outcome.answer is Answer.STOP_UNTIL_OPERATOR:
                    self._stop = result.outcome
            case Answer.PAUSE_CAMPAIGN:
                code, message = result.outcome.error_code, result.outcome.message or ""
                if code != ErrorCode.INVALID_CONTENT:
                    message = f"SES refused this campaign's email ({code}): {message}"
                self._to_pause.setdefault(result.email.campaign_id, message)

    def _record_if_full(self) -> None:
        """Begin to record a chunk of results, or the last ones."""
        size = self._record_size()
        self._recorder.record_if(size if self._in_flight else 1, 2 * size)

    def _on_recorded(self, results: list[SendResult], recorded: Recorded) -> None:
        summary, counts = self._summary, recorded.counts
        summary.sent += counts[ScheduledEmailStatus.SENT]
        summary.failed += counts[ScheduledEmailStatus.FAILED]
        summary.unknown += counts["unknown"]
        summary.retried += counts["retry"]
        summary.released += counts[ScheduledEmailStatus.PENDING] + counts[ScheduledEmailStatus.CANCELLED]
        self._touched |= recorded.campaign_ids
        # Calls that were under way when SES asked to slow down do not count for the lower rate.
        if all(
            result.ended_at > self._slowed_at + 1.0
            and result.outcome.answer not in (Answer.SLOW_DOWN, Answer.NOT_REACHED)
            for result in results
        ):
            self._rate = min(self._full_rate, self._rate * 1.1)

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
        """End the threads, write the last results, return claimed emails and complete campaigns."""
        self._threads.halt.set()
        self._wait(0.0)
        # The wait for the last calls may take all of the time that is left.
        self._recorder.begin_if_idle()
        self._threads.close()
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
