"""The sender: one tick sends what is due, from claim to completion, within its time.

    check in → sweep → background work → scheduled starts → quota → send, chunk after chunk (`send_chunks`) → complete

Reads and writes `sender_state`; the other tables through the modules that it calls.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import math
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from aws_lambda_powertools import Logger
from botocore.exceptions import BotoCoreError, ClientError

from sendledger.campaigns import background_work, campaign_counts, completion, intake, late_emails, lifecycle, winners
from sendledger.core.errors import IllegalTransition
from sendledger.core.settings import SenderSettings
from sendledger.ledger import claim_emails, sender_state, sweep
from sendledger.policy import budgets
from sendledger.preflight import preflight
from sendledger.sending.send_chunks import ChunkSender, last_call
from sendledger.sending.step_contents import ContentKey
from sendledger.sending.tick_summary import SendingLimits, TickSummary
from sendledger.ses.answers import Answer, classify
from sendledger.ses.client import SendingQuota, sending_quota

SWEEP_SECONDS = 10.0
"""The time after which a tick goes on without a sweep. Removing settled claims takes this long only after a release
that does not know them was in use. Each tick removes a part of them."""

BACKGROUND_WORK_SECONDS = 30.0
"""The share of a tick that background work may take. The rest is left for the next tick."""

QUOTA_TRIES = 6
QUOTA_WAIT_SECONDS = 1.0
"""GetAccount allows one call a second, and senders that start together ask together. The client does not retry."""

SWITCH_SECONDS = 0.002
"""After how much time a thread that computes lets another one go on."""

logger = Logger(child=True)


@dataclass(frozen=True)
class Resources:
    """The resources of a sender. The handler creates them once per process."""

    engine: sa.Engine
    ses_client: Any
    settings: SenderSettings
    bulk_engine: sa.Engine | None = None
    """For background work and starts, with a longer statement timeout than sending allows."""
    start_sender: Callable[[], None] | None = None
    """Starts one further sender without waiting for it; None if that is not possible."""
    proven: set[ContentKey] = field(default_factory=set)
    """The contents of which this process has rendered an email; see `prepare_emails`."""


def tune_process() -> None:
    """For a process that only sends: collect garbage rarely, and never the imported modules; change threads often.

    Reference counting frees nearly everything. The collector took a tenth of the processor time. The thread that calls
    SES waits for the interpreter at each of its steps: up to 5 ms by default, in which other threads prepare or record.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def send_due_emails(resources: Resources, seconds: float, *, further: bool = False) -> TickSummary:
    """Run one tick that ends within `seconds`; `further` marks a sender that another tick has started to help it.

    However it ends, the ledger accounts for each email: claimed rows without a fence become pending again, fenced rows
    without a result become ``outcome_unknown``.

    Raises:
        NotThisDeployment: the database belongs to another deployment; nothing was sent.
    """
    started = time.monotonic()
    engine, settings = resources.engine, resources.settings
    summary = TickSummary()
    with engine.begin() as connection:
        sender_state.check_in(connection, settings.deployment_id, settings.sending_day_time_zone)
    _sweep(engine, summary, started + min(SWEEP_SECONDS, seconds / 4))
    if not further:
        _keep_campaigns_going(resources, summary, started + min(BACKGROUND_WORK_SECONDS, seconds / 2))
    limits = _limits(resources, summary)
    # Only a tick that could send counts: days with a blocked account are an outage too.
    if limits is not None and not further:
        with engine.begin() as connection:
            summary.campaigns_held = late_emails.hold_after_outage(connection, settings.late_after)
    deadline = started + seconds
    if limits is not None and limits.remaining >= 1:
        if not further:
            _start_further_senders(resources, summary, last_call(deadline) - time.monotonic())
        ChunkSender(engine, resources.ses_client, settings, limits, summary, deadline, resources.proven).run()
        if summary.sent:
            with engine.begin() as connection:
                sender_state.forget_expired_stop(connection)
    if not further:
        summary.campaigns_completed += len(completion.complete_finished_campaigns(engine))
    return summary


def send_scheduled_email(resources: Resources, scheduled_email_id: int, seconds: float = 30.0) -> TickSummary:
    """Send one email now, due or not, with the same checks as any other. The summary has the result."""
    deadline = time.monotonic() + seconds
    summary = TickSummary()
    with resources.engine.begin() as connection:
        settings = resources.settings
        sender_state.check_in(connection, settings.deployment_id, settings.sending_day_time_zone)
    limits = _limits(resources, summary)
    if limits is not None and limits.remaining >= 1:
        sender = ChunkSender(resources.engine, resources.ses_client, resources.settings, limits, summary, deadline)
        sender.run(only=scheduled_email_id)
    return summary


def _sweep(engine: sa.Engine, summary: TickSummary, until: float) -> None:
    if not sweep.forget_settled_claims(engine, until):
        logger.warning("There are too many settled claims to sweep now; the next tick removes more of them")
        return
    # In a separate transaction: otherwise no other sender could reserve its rate while a sweep waits for a campaign.
    with engine.begin() as connection:
        swept = sweep.sweep(connection)
    summary.swept, summary.unknown, summary.failed = swept.returned, swept.unknown, swept.sender_died
    for campaign_id, reason in swept.to_pause.items():
        with contextlib.suppress(IllegalTransition):
            lifecycle.pause_campaign(engine, campaign_id, reason=reason, rows_at_once=False)
            summary.campaigns_paused += 1


def _limits(resources: Resources, summary: TickSummary) -> SendingLimits | None:
    """What may be sent now: nothing if the daily quota is used up.

    None where something else stops all sending; the summary then has the reason.
    """
    with resources.engine.connect() as connection:
        state = sender_state.read(connection)
    if state.stop_code is not None:
        summary.stopped = f"{state.stop_code}: {state.stop_reason}"
        # A temporary block is the daily quota.
        return SendingLimits(0.0, 0.0) if state.stopped_until is not None else None
    try:
        quota = _quota(resources.ses_client)
    except (ClientError, BotoCoreError) as error:
        summary.stopped = f"quota_unknown: SES did not say what may be sent. {error}"[:1000]
        logger.exception("GetAccount failed")
        return None
    if quota.blocked or quota.max_send_rate <= 0:
        summary.stopped = f"account: {quota.blocked or 'SES gives this account no sending rate.'}"
        return None
    if quota.remaining_24_hours < 1:
        summary.stopped = "daily_quota: The account's quota for 24 hours is used up."
    summary.sandbox = quota.sandbox
    summary.rate = round(quota.max_send_rate * resources.settings.sender_rate_safety, 6)
    return SendingLimits(summary.rate, quota.remaining_24_hours)


def _quota(ses_client: Any) -> SendingQuota:
    for _ in range(QUOTA_TRIES - 1):
        try:
            return sending_quota(ses_client)
        except ClientError as error:
            said = error.response["Error"]
            if classify(said["Code"], said["Message"], 0) is not Answer.SLOW_DOWN:
                raise
        time.sleep(QUOTA_WAIT_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311 (not a secret)
    return sending_quota(ses_client)


def _keep_campaigns_going(resources: Resources, summary: TickSummary, deadline: float) -> None:
    engine = resources.bulk_engine or resources.engine
    with engine.begin() as connection:
        campaign_counts.fold(connection)
        budgets.fold(connection)
        budgets.forget_days(connection)
    winners.decide_due(engine)
    with _others_go_on("Beginning intakes failed"), engine.begin() as connection:
        intake.begin_due_intakes(connection)
    with engine.begin() as connection:
        lagging = background_work.campaigns_with_work(connection)
    for campaign_id in lagging:
        if time.monotonic() < deadline:
            with _others_go_on("Background work failed", campaign_id=str(campaign_id)):
                background_work.work_until(engine, campaign_id, deadline)
    ready = functools.partial(preflight.refuse_scheduled_start_unless_ready, engine, mail=resources.settings)
    summary.campaigns_started = len(lifecycle.start_due_campaigns(engine, deadline, ready))


@contextlib.contextmanager
def _others_go_on(message: str, **ids: str) -> Iterator[None]:
    """Log an error: one campaign that cannot continue must not stop the others."""
    try:
        yield
    except Exception:
        logger.exception(message, extra=ids)


def _start_further_senders(resources: Resources, summary: TickSummary, seconds: float) -> None:
    """Start as many senders as the due emails and the SES rate can use, up to the setting."""
    settings = resources.settings
    useful = min(settings.sender_concurrency, math.ceil(summary.rate / settings.sender_capacity_per_second))
    if useful < 2 or resources.start_sender is None:
        return
    per_sender = max(1, int(settings.sender_capacity_per_second * seconds))
    with resources.engine.connect() as connection:
        due = claim_emails.count_due(connection, per_sender * useful)
    for _ in range(min(useful, math.ceil(due / per_sender)) - 1):
        try:
            resources.start_sender()
        except Exception:
            logger.exception("A further sender could not be started")
            return
        summary.senders_started += 1
