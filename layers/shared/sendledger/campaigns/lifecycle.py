"""The life of a campaign: which status may follow which, and what each change does.

    draft ⇄ scheduled → running ⇄ paused → completed; cancelled from scheduled, running and paused; failed if a
    scheduled start is not possible, and from there started again; archived is the old application's.

Every change locks the campaign, checks its status, writes and commits. Of two concurrent changes one wins and the other
gets `IllegalTransition`. Senders obey the new status from the commit on. Rows that do not fit into the call are left to
background_work.py. Reads and writes `campaigns`, `lead_batches`, `scheduled_emails`; writes `audit_log`.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import math
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import sqlalchemy as sa
from aws_lambda_powertools import Logger

from sendledger.campaigns import background_work, late_emails, winners
from sendledger.campaigns.campaign_steps import check_taken_over, startable_steps
from sendledger.campaigns.campaigns import OUTREACH_TYPES, get_campaign, next_intake
from sendledger.campaigns.content_digest import content_digest
from sendledger.campaigns.failed_emails import count_failed
from sendledger.campaigns.hold_batches import hold_batches, release_batches
from sendledger.campaigns.missing_parts import check_complete
from sendledger.campaigns.refresh_steps import refresh_steps
from sendledger.campaigns.removed_history import check_not_removed
from sendledger.campaigns.schedule_emails import schedule_emails_for_campaign
from sendledger.campaigns.transitions import check_transition, is_startable
from sendledger.campaigns.variants import work_for_retired
from sendledger.core import audit_log
from sendledger.core.audit_log import SYSTEM
from sendledger.core.errors import (
    Conflict,
    ContentChanged,
    FieldError,
    IllegalTransition,
    InvalidInput,
    SendledgerError,
)
from sendledger.core.ledger_rules import is_sending
from sendledger.core.tables import campaigns
from sendledger.core.vocabulary import AuditAction, CampaignStatus, CampaignType, RemovalKind, StartType

CALL_BUDGET = 2.0
"""Seconds after which a call begins no further chunk of background work. The next tick continues it."""

logger = Logger(child=True)


@dataclass(frozen=True)
class StartedCampaign:
    """What a start did. While `background_work` is not empty, the counts grow and nothing is sent."""

    status: str
    total_leads_targeted: int
    emails_scheduled_count: int
    leads_left_out: dict[str, int]
    scheduled_start_at: dt.datetime | None
    background_work: list[dict[str, Any]]


@dataclass(frozen=True)
class StoppedCampaign:
    """What a pause or a cancel did. `emails_in_flight` are being sent already and still go out."""

    status: str
    emails_cancelled: int
    emails_in_flight: int
    background_work: list[dict[str, Any]]


@dataclass(frozen=True)
class ResumedCampaign:
    """What a resume did: the rows that the pause cancelled are pending again, each later by the length of the pause."""

    status: str
    emails_rescheduled: int
    shifted_by_seconds: float
    background_work: list[dict[str, Any]]
    refreshed_steps: list[int]


@dataclass(frozen=True)
class RetriedEmails:
    """What was put back."""

    status: str
    emails: int
    by_error_code: dict[str, int]
    background_work: list[dict[str, Any]]


def start_campaign(
    engine: sa.Engine, campaign_id: uuid.UUID, actor: str = SYSTEM, *, confirmed_content: str | None = None
) -> StartedCampaign:
    """Start now, or at `scheduled_start_at` if that is in the future.

    Up to `schedule_emails.ROWS_PER_BUCKET` rows are written in the transaction of the start itself.
    A larger campaign is running at once. The ticks of the sender write its rows, and it sends when all are written.

    With `confirmed_content`, a digest, nothing else is started: not now and not at the scheduled time.

    Raises:
        ContentChanged: the campaign's content is not the one that was confirmed.
        IllegalTransition: it has started already, or has ended.
        Conflict: a lead batch is held by another campaign.
        InvalidInput: it cannot be sent: not an outreach campaign, no content, no leads, a broken template.
        NobodyToEmail: every lead is left out; the campaign stays as it was.
    """
    with engine.begin() as connection:
        campaign = get_campaign(connection, campaign_id, lock=True)
        check_startable(connection, campaign)
        if confirmed_content is not None and confirmed_content != content_digest(connection, campaign_id):
            raise ContentChanged("Its content was changed after a person had confirmed the start.")
        now = connection.execute(sa.select(sa.func.now())).scalar_one()
        later = campaign["start_type"] == StartType.SCHEDULED and campaign["scheduled_start_at"]
        if later and campaign["scheduled_start_at"] > now:
            startable_steps(connection, campaign)
            status = check_transition("schedule", campaign["status"])
            values = {"failure_reason": None, "failed_at": None, "confirmed_content": confirmed_content}
            _update(connection, campaign_id, status=status, **values)
            audit_log.record(connection, actor, AuditAction.CAMPAIGN_SCHEDULE, "campaign", campaign_id)
            return StartedCampaign(status, 0, 0, {}, campaign["scheduled_start_at"], [])
        _start(connection, campaign, now)
        audit_log.record(connection, actor, AuditAction.CAMPAIGN_START, "campaign", campaign_id)
    with engine.connect() as connection:
        campaign = get_campaign(connection, campaign_id)
    return StartedCampaign(**{each.name: campaign[each.name] for each in fields(StartedCampaign)})


def check_startable(connection: sa.Connection, campaign: sa.RowMapping) -> None:
    """Whether its status and its type allow a start, and it has content and leads.

    Raises:
        IllegalTransition, InvalidInput
    """
    check_transition("start", campaign["status"])
    if not is_startable(campaign):
        message = "This campaign failed after it had started; make a new one."
        raise IllegalTransition(message, status=campaign["status"])
    if campaign["campaign_type"] not in OUTREACH_TYPES:
        message = f"a {campaign['campaign_type']} campaign cannot be started yet; only outreach campaigns can"
        raise InvalidInput("This campaign cannot be started.", [FieldError("campaign_type", message)])
    check_complete(connection, campaign)


def _start(connection: sa.Connection, campaign: sa.RowMapping, now: dt.datetime) -> None:
    campaign_id = campaign["id"]
    hold_batches(connection, campaign)
    scheduled = schedule_emails_for_campaign(connection, campaign_id)
    _update(
        connection,
        campaign_id,
        status=check_transition("start", campaign["status"]),
        actual_started_at=now,
        failure_reason=None,
        failed_at=None,
        use_workflow=campaign["workflow_id"] is not None,
        total_leads_targeted=scheduled.leads,
        emails_scheduled_count=scheduled.emails,
        leads_left_out=dict(scheduled.left_out),
        background_work=scheduled.background_work,
        next_intake_at=next_intake(campaign["intake"]),
    )


def unschedule_campaign(engine: sa.Engine, campaign_id: uuid.UUID, actor: str = SYSTEM) -> CampaignStatus:
    """Make a scheduled campaign a draft again. Returns its status."""
    with engine.begin() as connection:
        campaign = get_campaign(connection, campaign_id, lock=True)
        status = check_transition("unschedule", campaign["status"])
        _update(connection, campaign_id, status=status, failure_reason=None)
        audit_log.record(connection, actor, AuditAction.CAMPAIGN_UNSCHEDULE, "campaign", campaign_id)
    return status


def pause_campaign(
    engine: sa.Engine,
    campaign_id: uuid.UUID,
    actor: str = SYSTEM,
    reason: str | None = None,
    *,
    rows_at_once: bool = True,
) -> StoppedCampaign:
    """Stop sending immediately. Pending rows become cancelled with the reason ``paused`` until a resume.

    `reason` is stored as the campaign's `failure_reason` if the system pauses it. Without `rows_at_once` all rows are
    left to the next tick, for a caller without time.
    """
    began = time.monotonic()
    with engine.begin() as connection:
        campaign = get_campaign(connection, campaign_id, lock=True)
        status = check_transition("pause", campaign["status"])
        in_flight = _in_flight(connection, campaign_id)
        work = [*campaign["background_work"], {"kind": "pause"}]
        _update(
            connection,
            campaign_id,
            status=status,
            paused_at=sa.func.now(),
            failure_reason=reason or campaign["failure_reason"],
            background_work=work,
        )
        detail = {"reason": reason} if reason else {}
        audit_log.record(connection, actor, AuditAction.CAMPAIGN_PAUSE, "campaign", campaign_id, detail)
        if not rows_at_once:
            return StoppedCampaign(status, 0, in_flight, work)
        changed = _work_in_same_transaction(connection, campaign_id, work)
    more, left = _work_on(engine, campaign_id, began)
    return StoppedCampaign(status, changed + more, in_flight, left)


def resume_campaign(
    engine: sa.Engine, campaign_id: uuid.UUID, actor: str = SYSTEM, *, refresh_content: bool = False
) -> ResumedCampaign:
    """Continue a paused campaign. Each row is due later by the length of the pause, so that the gaps are kept.

    With `refresh_content` what is not sent yet gets the content that the templates have now; see `refresh_steps` for
    what it raises.
    """
    began = time.monotonic()
    with engine.begin() as connection:
        campaign = get_campaign(connection, campaign_id, lock=True)
        status = check_transition("resume", campaign["status"])
        check_taken_over(connection, campaign)
        refreshed = refresh_steps(connection, campaign) if refresh_content else []
        shift = connection.scalar(
            sa.select(
                sa.extract("epoch", sa.func.now() - sa.func.coalesce(campaigns.c.paused_at, sa.func.now()))
            ).where(campaigns.c.id == campaign_id)
        )
        shift_seconds = float(shift or 0)
        work = [*campaign["background_work"], {"kind": "resume", "shift_seconds": shift_seconds, "after_id": 0}]
        _update(
            connection,
            campaign_id,
            status=status,
            resumed_at=sa.func.now(),
            failure_reason=None,
            sender_deaths=0,
            background_work=work,
        )
        late_emails.shift_holds(connection, campaign_id, dt.timedelta(seconds=shift_seconds))
        winners.shift_decisions(connection, campaign_id, shift_seconds)
        detail = {"refreshed_steps": refreshed} if refresh_content else {}
        audit_log.record(connection, actor, AuditAction.CAMPAIGN_RESUME, "campaign", campaign_id, detail)
        changed = _work_in_same_transaction(connection, campaign_id, work)
    more, left = _work_on(engine, campaign_id, began)
    return ResumedCampaign(status, changed + more, shift_seconds, left, refreshed)


def cancel_campaign(engine: sa.Engine, campaign_id: uuid.UUID, actor: str = SYSTEM) -> StoppedCampaign:
    """End the campaign. Its pending rows are cancelled and its lead batches are released."""
    began = time.monotonic()
    with engine.begin() as connection:
        campaign = get_campaign(connection, campaign_id, lock=True)
        status = check_transition("cancel", campaign["status"])
        if campaign["campaign_type"] not in set(CampaignType):
            check_taken_over(connection, campaign)
        in_flight = _in_flight(connection, campaign_id)
        # A cancel replaces all other queued work.
        work = [{"kind": "cancel"}]
        _update(connection, campaign_id, status=status, cancelled_at=sa.func.now(), background_work=work)
        release_batches(connection, campaign_id)
        audit_log.record(connection, actor, AuditAction.CAMPAIGN_CANCEL, "campaign", campaign_id)
        changed = _work_in_same_transaction(connection, campaign_id, work)
    more, left = _work_on(engine, campaign_id, began)
    return StoppedCampaign(status, changed + more, in_flight, left)


def retry_failed_emails(
    engine: sa.Engine, campaign_id: uuid.UUID, codes: Sequence[str] | None, actor: str
) -> RetriedEmails:
    """Put failed emails back: those of these error codes, or with None those that can be expected to go out now.

    A completed campaign runs again until they are done; in a paused one they go out after the resume.

    Raises:
        Conflict: there are none.
        IllegalTransition: the campaign was cancelled, has failed or was never started.
    """
    began = time.monotonic()
    with engine.begin() as connection:
        campaign = get_campaign(connection, campaign_id, lock=True)
        status = campaign["status"]
        if status not in (CampaignStatus.RUNNING, CampaignStatus.PAUSED):
            status = check_transition("reopen", status)
        check_not_removed(connection, campaign_id, list(RemovalKind))
        failed = count_failed(connection, campaign_id, codes)
        if not failed.emails:
            raise Conflict("No failed email of this campaign can be put back.", status=campaign["status"])
        work = [*campaign["background_work"], {"kind": "retry_failed", "codes": codes}]
        work += work_for_retired(connection, campaign_id)
        _update(connection, campaign_id, status=status, completed_at=None, background_work=work)
        detail = {"emails": failed.emails, "error_codes": list(failed.by_error_code)}
        audit_log.record(connection, actor, AuditAction.CAMPAIGN_RETRY_FAILED, "campaign", campaign_id, detail)
        _work_in_same_transaction(connection, campaign_id, work)
    _, left = _work_on(engine, campaign_id, began)
    return RetriedEmails(status, failed.emails, failed.by_error_code, left)


def start_due_campaigns(
    engine: sa.Engine, deadline: float = math.inf, check: Callable[[uuid.UUID], None] = lambda campaign_id: None
) -> list[uuid.UUID]:
    """Start the campaigns whose `scheduled_start_at` has passed. One that cannot start fails with the reason.

    No start begins after `time.monotonic()` passes the deadline. `check` raises for a campaign that must not start.
    """
    with engine.connect() as connection:
        due = connection.execute(
            sa.select(campaigns.c.id, campaigns.c.confirmed_content)
            .where(campaigns.c.status == CampaignStatus.SCHEDULED, campaigns.c.scheduled_start_at <= sa.func.now())
            .order_by(campaigns.c.scheduled_start_at)
        ).all()
    started = []
    for campaign_id, confirmed_content in due:
        if time.monotonic() >= deadline:
            break
        # Another tick may be faster, or a person may cancel it.
        with contextlib.suppress(IllegalTransition):
            try:
                check(campaign_id)
                start_campaign(engine, campaign_id, confirmed_content=confirmed_content)
                started.append(campaign_id)
            except IllegalTransition:
                raise
            except Conflict as conflict:
                _note_waiting(engine, campaign_id, f"Waiting to start: {conflict.detail}")
            except SendledgerError as error:
                fail_campaign(engine, campaign_id, f"It could not start: {error.detail}")
            except Exception:
                # One campaign that cannot start must not stop the others.
                logger.exception("A scheduled start failed", extra={"campaign_id": str(campaign_id)})
    return started


def fail_campaign(engine: sa.Engine, campaign_id: uuid.UUID, reason: str) -> None:
    """Record that a scheduled campaign cannot start, and why. It can be corrected and started again."""
    with engine.begin() as connection:
        campaign = get_campaign(connection, campaign_id, lock=True)
        status = check_transition("fail", campaign["status"])
        work = [{"kind": "cancel"}]
        _update(
            connection, campaign_id, status=status, failed_at=sa.func.now(), failure_reason=reason, background_work=work
        )
        release_batches(connection, campaign_id)
        audit_log.record(connection, SYSTEM, AuditAction.CAMPAIGN_FAIL, "campaign", campaign_id, {"reason": reason})
        _work_in_same_transaction(connection, campaign_id, work)


def _note_waiting(engine: sa.Engine, campaign_id: uuid.UUID, reason: str) -> None:
    """Note why a scheduled campaign does not start, unless it was started or cancelled meanwhile."""
    with engine.begin() as connection:
        waiting = sa.and_(campaigns.c.id == campaign_id, campaigns.c.status == CampaignStatus.SCHEDULED)
        connection.execute(sa.update(campaigns).where(waiting).values(failure_reason=reason, updated_at=sa.func.now()))


def _update(connection: sa.Connection, campaign_id: uuid.UUID, **values: Any) -> None:
    connection.execute(
        sa.update(campaigns).where(campaigns.c.id == campaign_id).values(updated_at=sa.func.now(), **values)
    )


def _in_flight(connection: sa.Connection, campaign_id: uuid.UUID) -> int:
    """The number of rows that a sender has fenced: their SES calls may be under way and cannot be stopped."""
    return int(
        connection.scalar(
            sa.text(f"""
                SELECT count(*) FROM scheduled_emails e
                WHERE campaign_id = :campaign_id AND {is_sending("e")} AND send_started_at IS NOT NULL
            """).bindparams(sa.bindparam("campaign_id", type_=sa.UUID)),
            {"campaign_id": campaign_id},
        )
        or 0
    )


def _work_in_same_transaction(connection: sa.Connection, campaign_id: uuid.UUID, work: list[dict[str, Any]]) -> int:
    """Process the first chunk, so that status and rows of a small campaign change together. Older work goes first."""
    return background_work.work_once(connection, campaign_id) if len(work) == 1 else 0


def _work_on(engine: sa.Engine, campaign_id: uuid.UUID, began: float) -> tuple[int, list[dict[str, Any]]]:
    """Process background work for the rest of the call's time. Returns the rows changed and the work left."""
    deadline = began + CALL_BUDGET
    changed = background_work.work_until(engine, campaign_id, deadline) if time.monotonic() < deadline else 0
    with engine.connect() as connection:
        return changed, list(get_campaign(connection, campaign_id)["background_work"])
