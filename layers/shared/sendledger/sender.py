"""The sender: one tick sends what is due, from claim to completion, within its time.

    check in → sweep → row work → scheduled starts → quota
    → again and again: claim → render → reserve → fence → send → record → complete

The main thread speaks with the database and renders; a pool of threads speaks with SES. While one chunk is on its way
the next is claimed and fenced and the last one recorded, so that the SES rate is used without gaps. Reads and writes
`sender_state`; the other tables through the modules named above.
"""

from __future__ import annotations

import contextlib
import functools
import math
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import sqlalchemy as sa
from aws_lambda_powertools import Logger
from botocore.exceptions import BotoCoreError, ClientError

from sendledger import (
    campaign_counts,
    campaign_lifecycle,
    claim_emails,
    database,
    guardrails,
    late_emails,
    preflight,
    record_results,
    row_work,
    sender_state,
)
from sendledger.claim_emails import ClaimedEmail
from sendledger.compose_email import ComposedEmail, Composer, StepContent
from sendledger.errors import IllegalTransition
from sendledger.record_results import SendResult
from sendledger.render_email import RenderError, compile_template
from sendledger.send_email import MAX_CALL_SECONDS, Answer, SendOutcome, SesSender, sending_quota
from sendledger.settings import SenderSettings
from sendledger.tables import campaign_steps, campaigns

MAX_CHUNK = 500
"""Emails fenced at once, at most; at lower rates it is what one second of the rate allows."""

FINISH_SECONDS = 5.0
"""Kept at the end of a tick for recording the last results and giving back what was claimed."""

POLL_SECONDS = 0.01
"""How often the main thread looks for answers."""

FENCE_SECONDS = 0.1
"""How long before its reserved time a chunk is fenced."""

QUOTA_STOP_SECONDS = 600
"""How long all sending rests after SES says that the daily quota is used up."""

ROW_WORK_SECONDS = 30.0
"""The part of a tick that row work may take before it is left for the next."""

logger = Logger(child=True)


@dataclass(frozen=True)
class Resources:
    """What a sender works with; made once per process by the handler."""

    engine: sa.Engine
    ses_client: Any
    settings: SenderSettings
    bulk_engine: sa.Engine | None = None
    """For row work and starts, whose statements may take longer than a tick can wait while it sends."""
    start_sender: Callable[[], None] | None = None
    """Starts one further sender and does not wait for it; None where there is no way to."""


@dataclass
class TickSummary:
    """What one tick did. `stopped` says why nothing (more) was sent, if anything kept it from sending."""

    claimed: int = 0
    sent: int = 0
    failed: int = 0
    skipped: int = 0
    released: int = 0
    retried: int = 0
    unknown: int = 0
    swept: int = 0
    campaigns_started: int = 0
    campaigns_completed: int = 0
    campaigns_paused: int = 0
    campaigns_held: int = 0
    senders_started: int = 0
    # The tag `attempt` of every email that it sent, and of the events of SES about them.
    claim_token: str | None = None
    rate: float = 0.0
    stopped: str | None = None
    left_out: Counter[str] = field(default_factory=Counter)

    def as_dict(self) -> dict[str, Any]:
        # asdict would make a Counter of the pairs of a Counter.
        return {**asdict(self), "left_out": dict(self.left_out)}


def send_due_emails(resources: Resources, seconds: float, *, further: bool = False) -> TickSummary:
    """Run one tick that ends within `seconds`; `further` marks a sender that another tick has started to help it.

    However it ends, the ledger accounts for each email: what was claimed and not fenced returns to pending, what was
    fenced and has no result becomes ``outcome_unknown``.

    Raises:
        NotThisDeployment: the database belongs to another deployment; nothing was sent.
    """
    started = time.monotonic()
    engine, settings = resources.engine, resources.settings
    summary = TickSummary()
    with engine.begin() as connection:
        sender_state.check_in(connection, settings.deployment_id)
    # Not in the same transaction: while a sweep waits for a campaign no other sender could reserve its rate.
    with engine.begin() as connection:
        swept = claim_emails.sweep(connection)
    summary.swept, summary.unknown = swept["returned"], swept["unknown"]
    if not further:
        _keep_campaigns_going(resources, summary, started + min(ROW_WORK_SECONDS, seconds / 2))
    tick = _Tick(resources, summary, started + seconds)
    may_send = tick.find_rate()
    if (may_send or tick.quota_is_used_up) and not further:
        # Only a tick that could send counts: an account that was blocked for days has been an outage as well.
        with engine.begin() as connection:
            summary.campaigns_held = late_emails.hold_after_outage(connection, settings.late_after)
    if may_send:
        if not further:
            _start_further_senders(resources, summary, tick.stop_sending_at - time.monotonic())
        tick.run()
    if not further:
        summary.campaigns_completed += len(campaign_lifecycle.complete_finished_campaigns(engine))
    return summary


def send_scheduled_email(resources: Resources, scheduled_email_id: int, seconds: float = 30.0) -> TickSummary:
    """Send one email now, due or not, through the same gates as any other; see the summary for what became of it."""
    summary = TickSummary()
    with resources.engine.begin() as connection:
        sender_state.check_in(connection, resources.settings.deployment_id)
    tick = _Tick(resources, summary, time.monotonic() + seconds)
    if tick.find_rate():
        tick.run(only=scheduled_email_id)
    return summary


def mark_campaign_complete(engine: sa.Engine, campaign_id: uuid.UUID) -> bool:
    """Complete the campaign if every one of its scheduled emails is terminal; see `campaign_lifecycle`."""
    return campaign_lifecycle.mark_campaign_complete(engine, campaign_id)


def _keep_campaigns_going(resources: Resources, summary: TickSummary, deadline: float) -> None:
    engine = resources.bulk_engine or resources.engine
    with engine.begin() as connection:
        campaign_counts.fold(connection)
    with engine.begin() as connection:
        lagging = row_work.campaigns_with_work(connection)
    for campaign_id in lagging:
        if time.monotonic() < deadline:
            try:
                row_work.work_until(engine, campaign_id, deadline)
            except Exception:
                # One campaign that cannot go on must not keep the others from being sent.
                logger.exception("Row work failed", extra={"campaign_id": str(campaign_id)})
    ready = functools.partial(preflight.refuse_scheduled_start_unless_ready, engine, mail=resources.settings)
    summary.campaigns_started = len(campaign_lifecycle.start_due_campaigns(engine, deadline, ready))


_DUE = sa.text("""
    SELECT count(*) FROM (
        SELECT FROM campaigns c CROSS JOIN LATERAL (
            SELECT FROM scheduled_emails e
            WHERE e.campaign_id = c.id AND e.status = 'pending' AND e.scheduled_for <= now()
              AND e.scheduled_for > coalesce(c.late_hold_until, '-infinity')
            LIMIT :limit) due
        WHERE c.status = 'running' AND c.row_work = '[]' LIMIT :limit) bounded
""").bindparams(sa.bindparam("limit", type_=sa.Integer))


def _start_further_senders(resources: Resources, summary: TickSummary, seconds: float) -> None:
    """Start as many senders as the due emails and the SES rate can keep busy, up to the setting."""
    settings = resources.settings
    useful = min(settings.sender_concurrency, math.ceil(summary.rate / settings.sender_capacity_per_second))
    if useful < 2 or resources.start_sender is None:
        return
    per_sender = max(1, int(settings.sender_capacity_per_second * seconds))
    with resources.engine.connect() as connection:
        due = connection.execute(_DUE, {"limit": per_sender * useful}).scalar_one()
    for _ in range(min(useful, math.ceil(due / per_sender)) - 1):
        try:
            resources.start_sender()
        except Exception:
            logger.exception("A further sender could not be started")
            return
        summary.senders_started += 1


@dataclass(frozen=True)
class _Ready:
    """A claimed email that is composed and waits for its fence; for a lead that was deleted there is nothing."""

    email: ClaimedEmail
    composed: ComposedEmail | None


class _Tick:
    """The sending part of a tick."""

    def __init__(self, resources: Resources, summary: TickSummary, deadline: float) -> None:
        self._engine = resources.engine
        self._client = resources.ses_client
        self._settings = resources.settings
        self._summary = summary
        self._deadline = deadline
        # The last call may take its full time and its result must still be written.
        self.stop_sending_at = deadline - MAX_CALL_SECONDS - FINISH_SECONDS
        self.quota_is_used_up = False
        self._token = uuid.uuid4()
        summary.claim_token = str(self._token)
        self._rate = 0.0
        self._full_rate = 0.0
        self._slowed_at = -math.inf
        self._allowance = math.inf
        self._halt = threading.Event()
        self._answers: deque[SendResult] = deque()  # filled by the threads; its operations are atomic
        self._in_flight = 0
        self._unrecorded: list[SendResult] = []
        self._composer = Composer(resources.settings)
        self._contents: dict[tuple[uuid.UUID, int], StepContent | RenderError] = {}
        self._ready: deque[_Ready] = deque()
        self._touched: set[uuid.UUID] = set()
        self._to_pause: dict[uuid.UUID, str] = {}

    def find_rate(self) -> bool:
        """Learn what may be sent now; False, with the reason in the summary, where it is nothing."""
        with self._engine.connect() as connection:
            state = sender_state.read(connection)
        if state.stop_code is not None:
            self._summary.stopped = f"{state.stop_code}: {state.stop_reason}"
            self.quota_is_used_up = state.stopped_until is not None
            return False
        try:
            quota = sending_quota(self._client)
        except (ClientError, BotoCoreError) as error:
            self._summary.stopped = f"quota_unknown: SES did not say what may be sent ({type(error).__name__})."
            logger.exception("GetAccount failed")
            return False
        if quota.blocked or quota.max_send_rate <= 0:
            self._summary.stopped = f"account: {quota.blocked or 'SES gives this account no sending rate.'}"
            return False
        if quota.remaining_24_hours < 1:
            self._summary.stopped = "daily_quota: The account's quota for 24 hours is used up."
            self.quota_is_used_up = True
            return False
        self._full_rate = self._rate = quota.max_send_rate * self._settings.sender_rate_safety
        self._allowance = quota.remaining_24_hours
        self._summary.rate = self._rate
        return True

    def run(self, only: int | None = None) -> None:
        """Send until nothing is due, the time or the quota is used up, or something stops all sending."""
        threads = max(1, min(self._settings.sender_threads, math.ceil(self._rate * MAX_CALL_SECONDS)))
        ses = SesSender(self._client)
        pool = ThreadPoolExecutor(threads, thread_name_prefix="ses")
        try:
            if only is not None:
                self._claim_one(only)
            while not self._halt.is_set() and time.monotonic() < self.stop_sending_at and self._allowance >= 1:
                if not self._ready and (only is not None or not self._claim()):
                    if not self._in_flight and not self._unrecorded:
                        break
                    self._wait(self.stop_sending_at, at_most=0)
                    continue
                self._send_chunk(ses, pool)
            # The quota may be used up with calls still waiting for their time.
            self._wait(self.stop_sending_at, at_most=0)
        finally:
            self._finish(pool, ses)

    def _chunk_size(self) -> int:
        return max(1, min(MAX_CHUNK, int(self._rate), int(min(self._allowance, MAX_CHUNK))))

    def _claim(self) -> bool:
        with self._engine.begin() as connection:
            claimed = claim_emails.claim(connection, min(MAX_CHUNK, 2 * self._chunk_size()), self._token)
            if not claimed and not self._in_flight and not self._unrecorded:
                claimed = claim_emails.claim_suspect(connection, self._token)
            self._load_contents(connection, claimed)
        self._compose(claimed)
        return bool(claimed)

    def _claim_one(self, scheduled_email_id: int) -> None:
        with self._engine.begin() as connection:
            email = claim_emails.claim_one(connection, scheduled_email_id, self._token)
            claimed = [email] if email is not None else []
            self._load_contents(connection, claimed)
        if not claimed:
            self._summary.stopped = "not_pending: The email is not pending or its campaign is not running."
        self._compose(claimed)

    def _compose(self, claimed: list[ClaimedEmail]) -> None:
        """Compose what was claimed; what cannot be rendered has its result at once."""
        self._summary.claimed += len(claimed)
        for email in claimed:
            if email.lead is None or not (email.lead["email"] or "").strip():
                self._ready.append(_Ready(email, None))  # the fence turns it away
                continue
            content = self._contents[email.campaign_id, email.step_number]
            try:
                if isinstance(content, RenderError):
                    raise content
                composed = self._composer.compose(content, email, self._token)
            except Exception as error:
                # Whatever one lead's data can do wrong fails this email alone.
                if not isinstance(error, RenderError):
                    logger.exception("An email could not be composed", extra={"scheduled_email_id": email.id})
                    error = RenderError("not_composed", f"The email could not be made ({type(error).__name__}).")
                outcome = SendOutcome(Answer.FAIL_ROW, error_code=error.code, message=error.message[:1000])
                self._unrecorded.append(SendResult(email, outcome, None, time.monotonic()))
            else:
                self._ready.append(_Ready(email, composed))

    def _load_contents(self, connection: sa.Connection, claimed: list[ClaimedEmail]) -> None:
        missing = {(email.campaign_id, email.step_number) for email in claimed} - self._contents.keys()
        if not missing:
            return
        rows = connection.execute(
            sa.select(campaign_steps, campaigns.c.name, campaigns.c.from_address, campaigns.c.reply_to_address)
            .join(campaigns, campaigns.c.id == campaign_steps.c.campaign_id)
            .where(campaign_steps.c.campaign_id.in_({campaign_id for campaign_id, _ in missing}))
        ).mappings()
        for row in rows:
            content: StepContent | RenderError
            try:
                content = StepContent(
                    compile_template(row["subject"], row["body_text"], row["body_html"]),
                    row["name"],
                    row["from_address"] or self._settings.sender_from_address,
                    row["reply_to_address"],
                )
            except Exception as error:
                # The start has compiled it once; whatever is wrong now is wrong for this step alone.
                content = RenderError("template_error", str(error))
            self._contents[row["campaign_id"], row["step_number"]] = content

    def _send_chunk(self, ses: SesSender, pool: ThreadPoolExecutor) -> None:
        """Reserve time for a chunk, wait for it, fence the chunk and hand it to the threads."""
        chunk = [self._ready.popleft() for _ in range(min(self._chunk_size(), len(self._ready)))]
        try:
            # Enough must be on its way to hide SES's latency, but a crash shall leave few outcomes unknown.
            self._wait(self.stop_sending_at, at_most=max(len(chunk), self._settings.sender_threads))
            with self._engine.begin() as connection:
                wait = claim_emails.reserve_rate(connection, len(chunk), self._rate)
            begin = time.monotonic() + wait
            self._wait(min(begin - FENCE_SECONDS, self.stop_sending_at))
            if self._halt.is_set() or time.monotonic() >= self.stop_sending_at:
                self._ready.extendleft(reversed(chunk))
                return
            with self._engine.begin() as connection:
                fenced = claim_emails.fence(connection, [ready.email for ready in chunk], self._token)
            sendable = [ready for ready in chunk if ready.email.id in fenced.sendable]
            times = self._times(begin, len(sendable))
        except BaseException:
            # Whether or not the fence was committed, SES has not been called for any of them.
            ended = time.monotonic()
            self._unrecorded += [
                SendResult(ready.email, SendOutcome(Answer.NOT_CALLED), None, ended) for ready in chunk
            ]
            raise
        self._summary.left_out.update(fenced.turned_away)
        self._summary.skipped += sum(
            count for reason, count in fenced.turned_away.items() if reason != "waits_for_earlier_step"
        )
        self._touched.update(ready.email.campaign_id for ready in chunk if ready.email.id not in fenced.sendable)
        self._allowance -= len(sendable)
        self._in_flight += len(sendable)
        for ready, due in zip(sendable, times, strict=True):
            pool.submit(self._send, ses, ready, due, fenced.sendable[ready.email.id])

    def _times(self, begin: float, count: int) -> list[float]:
        """When to send each email of a chunk whose reserved time begins at `begin`.

        What of that time has gone by already is not made up for, as the time after it belongs to others: it is
        reserved anew. A chunk that lasts no time to speak of is at a rate that nobody can use up.
        """
        now = time.monotonic()
        missed = min(count, max(0, int((now - begin) * self._rate)))
        in_time = [max(now, begin + position / self._rate) for position in range(count)]
        if not missed or count / self._rate < FENCE_SECONDS:
            return in_time
        with self._engine.begin() as connection:
            again = time.monotonic() + claim_emails.reserve_rate(connection, missed, self._rate)
        return in_time[missed:] + [again + position / self._rate for position in range(missed)]

    def _send(self, ses: SesSender, ready: _Ready, due: float, address: str) -> None:
        """In a thread: one call to SES at its time. Every fenced email ends here with a result, whatever happens.

        `address` is what the fence has looked at; an email that was composed for another one goes back.
        """
        email, composed = ready.email, ready.composed
        outcome = SendOutcome(Answer.UNKNOWN, error_code="outcome_unknown", message="The sender failed in its call.")
        try:
            if (wait := due - time.monotonic()) > 0:
                self._halt.wait(wait)
            late = time.monotonic() > self.stop_sending_at + 1.0
            if self._halt.is_set() or late or composed is None or composed.outgoing.to_address != address.strip():
                outcome = SendOutcome(Answer.NOT_CALLED)
            else:
                outcome = ses.send(composed.outgoing, self._settings.ses_configuration_set)
        except Exception:
            logger.exception("A call to SES failed", extra={"scheduled_email_id": email.id})
        finally:
            rendered = composed.rendered if composed is not None else None
            self._answers.append(SendResult(email, outcome, rendered, time.monotonic()))

    def _wait(self, until: float, at_most: int | None = None) -> None:
        """Take in and record answers until `until`, or until no more than `at_most` calls are under way."""
        while True:
            with contextlib.suppress(IndexError):
                while True:
                    self._take(self._answers.popleft())
            if len(self._unrecorded) >= self._chunk_size() or (self._unrecorded and not self._in_flight):
                self._record()
            left = until - time.monotonic()
            if left <= 0 or self._halt.is_set() or (at_most is not None and self._in_flight <= at_most):
                return
            # Looking now and then costs less than being woken by every answer.
            self._halt.wait(min(left, POLL_SECONDS))

    def _take(self, result: SendResult) -> None:
        self._in_flight -= 1
        self._unrecorded.append(result)
        match result.outcome.answer:
            case Answer.SLOW_DOWN:
                # Somebody else uses the account's rate too. Half of it, and back up as it goes well again. What was
                # refused at the same moment says the same thing once.
                if result.ended_at - self._slowed_at > 1.0:
                    self._slowed_at = result.ended_at
                    self._rate = max(self._rate / 2, min(1.0, self._full_rate))
            case Answer.STOP_FOR_A_WHILE | Answer.STOP_UNTIL_OPERATOR:
                self._halt.set()
            case Answer.PAUSE_CAMPAIGN:
                message = f"SES refused this campaign's email ({result.outcome.error_code}): {result.outcome.message}"
                self._to_pause.setdefault(result.email.campaign_id, message)

    def _record(self) -> None:
        """Write the results at hand; a lost connection is tried again until the tick's end."""
        results = self._unrecorded
        while True:
            try:
                with self._engine.begin() as connection:
                    recorded = record_results.record(connection, results, self._token)
                    self._to_pause |= guardrails.provider_errors(connection, _refused(results), self._settings)
                break
            except sa.exc.DBAPIError as error:
                if time.monotonic() > self._deadline - 1.0 or not database.is_transient(error):
                    raise
                logger.warning("The results could not be written yet", exc_info=True)
                time.sleep(0.2)
        self._unrecorded = []
        self._stop_all(results)
        summary, counts = self._summary, recorded.counts
        summary.sent += counts["sent"]
        summary.failed += counts["failed"]
        summary.unknown += counts["unknown"]
        summary.retried += counts["retry"]
        summary.released += counts["pending"] + counts["cancelled"]
        self._touched |= recorded.campaign_ids
        if not any(result.outcome.answer is Answer.SLOW_DOWN for result in results):
            self._rate = min(self._full_rate, self._rate * 1.1)
        self._pause_refused()

    def _stop_all(self, results: list[SendResult]) -> None:
        """Stop every sender where SES said so; in a transaction of its own, as all senders share that row."""
        answers = {result.outcome.answer: result.outcome for result in results}
        outcome = answers.get(Answer.STOP_UNTIL_OPERATOR) or answers.get(Answer.STOP_FOR_A_WHILE)
        if outcome is None:
            return
        code, reason = outcome.error_code or "stopped", outcome.message or ""
        seconds = QUOTA_STOP_SECONDS if outcome.answer is Answer.STOP_FOR_A_WHILE else None
        self._summary.stopped = f"{code}: {reason}"
        with self._engine.begin() as connection:
            sender_state.stop(connection, code, reason, seconds)

    def _pause_refused(self) -> None:
        while self._to_pause:
            campaign_id, reason = self._to_pause.popitem()
            with contextlib.suppress(IllegalTransition):
                campaign_lifecycle.pause_campaign(self._engine, campaign_id, reason=reason)
                self._summary.campaigns_paused += 1

    def _finish(self, pool: ThreadPoolExecutor, ses: SesSender) -> None:
        """End the threads, write the last results, give back the rest and complete what is done."""
        self._halt.set()
        pool.shutdown(wait=True)
        ses.close()
        self._wait(0.0)
        if self._unrecorded:
            self._record()
        if self._ready:
            with self._engine.begin() as connection:
                self._summary.released += claim_emails.release(
                    connection, [ready.email for ready in self._ready], self._token
                )
        for campaign_id in self._touched:
            self._summary.campaigns_completed += campaign_lifecycle.mark_campaign_complete(self._engine, campaign_id)


def _refused(results: list[SendResult]) -> set[uuid.UUID]:
    """The campaigns with emails that SES was asked to send and did not say that it has."""
    refusals = [result for result in results if result.outcome.answer in (Answer.FAIL_ROW, Answer.UNKNOWN)]
    # What could not be rendered never got as far as SES.
    return {result.email.campaign_id for result in refusals if result.rendered is not None}
