"""Lists of scheduled emails, and "send now" for one of them.

Reads `scheduled_emails` and `campaigns`; `make_due_now` also reads `sender_addresses` and `campaign_lanes`, and writes
`scheduled_emails` and `audit_log`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from sendledger.core import audit_log, pagination
from sendledger.core.errors import Conflict, FieldError, InvalidInput, NotFound
from sendledger.core.ledger_rules import (
    ended_as,
    is_answer,
    is_open,
    is_sending,
    is_step_of,
    is_undecided,
    still_planned,
)
from sendledger.core.pagination import Page
from sendledger.core.tables import campaigns, scheduled_emails
from sendledger.core.vocabulary import (
    AuditAction,
    CampaignStatus,
    ErrorCode,
    Reason,
    ScheduledEmailStatus,
)
from sendledger.policy import business_days

_table = scheduled_emails
_SCHEDULED_EMAIL = (
    _table.c.id,
    _table.c.campaign_id,
    _table.c.lead_id,
    _table.c.template_id,
    _table.c.workflow_id,
    _table.c.workflow_step_number,
    _table.c.variant,
    _table.c.revision,
    _table.c.scheduled_for,
    _table.c.status,
    _table.c.reason,
    _table.c.error_code,
    _table.c.failure_reason,
    _table.c.retry_count,
    _table.c.send_started_at,
    _table.c.sent_at,
    _table.c.failed_at,
    _table.c.ses_message_id,
    _table.c.email_id,
    _table.c.created_at,
    _table.c.updated_at,
)

_BY_REASON = (ScheduledEmailStatus.SKIPPED, ScheduledEmailStatus.CANCELLED)
"""What a reason finds. Failed emails have one, too, if their lead was taken out, but are found by their error code."""
_WORDS: dict[str | None, list[str]] = {
    ScheduledEmailStatus.SENT: [ScheduledEmailStatus.SENT],
    ScheduledEmailStatus.FAILED: [ScheduledEmailStatus.FAILED],
    **{status: list(Reason) for status in _BY_REASON},
}
"""What `ended_as`, the key of their index, may be of rows with a final status."""
_BY_INDEX: dict[object, str] = {
    ScheduledEmailStatus.PENDING: is_open(_table.name),
    ScheduledEmailStatus.SENDING: is_sending(_table.name),
    ScheduledEmailStatus.SENT: "scheduled_emails.sent_at IS NOT NULL",
    ScheduledEmailStatus.FAILED: "scheduled_emails.failed_at IS NOT NULL",
    ScheduledEmailStatus.SKIPPED: "scheduled_emails.reason IS NOT NULL",
    ScheduledEmailStatus.CANCELLED: "scheduled_emails.reason IS NOT NULL",
}
"""What follows from a status, written as in the condition of the index that has its rows."""


def list_page(
    connection: sa.Connection,
    limit: int,
    cursor: str | None,
    *,
    campaign_id: UUID | None = None,
    status: str | None = None,
    step: int | None = None,
    lead_id: UUID | None = None,
    error_code: str | None = None,
    reason: str | None = None,
    sort: str | None = None,
) -> Page:
    """A page of scheduled emails: pending ones by their due time, all others by their ids.

    There are no other orders, because each page must be read from an index, however large the ledger is.

    Raises:
        NotFound: there is no such campaign.
        InvalidInput: these are not listed in this order, or not by reason.
    """
    if reason is not None:
        _check_found_by_reason(status)
    if campaign_id is not None and connection.scalar(sa.select(campaigns.c.id).filter_by(id=campaign_id)) is None:
        raise NotFound("campaign", campaign_id)
    if error_code is not None and status is None:
        status = ScheduledEmailStatus.FAILED  # only these have a code; with this condition the partial index is used
    order = pagination.Order(_table, _checked_order(status, sort))
    filters = {
        _table.c.campaign_id: campaign_id,
        _table.c.status: status,
        _table.c.workflow_step_number: step,
        _table.c.lead_id: lead_id,
        _table.c.error_code: error_code,
        _table.c.reason: reason,
    }
    equal = {column: value for column, value in filters.items() if value is not None}
    if lead_id is not None or status == ScheduledEmailStatus.SENDING or error_code == ErrorCode.OUTCOME_UNKNOWN:
        # These are few. They are looked up, then sorted: in the order of ids the whole ledger would be read.
        by_reason = [] if reason is None else [_table.c.status.in_(_BY_REASON)]
        few = _matching(equal).where(*by_reason, *order.after(cursor)).cte().prefix_with("MATERIALIZED")
        page = sa.select(few).order_by(*order.by(few)).limit(limit + 1)
        return pagination.page_of(connection.execute(page).mappings().all(), order, limit)
    endings = _WORDS.get(status) if reason is None else [reason]
    words = None
    if endings is not None:
        words = sa.func.unnest(sa.cast(endings, sa.ARRAY(sa.Text))).table_valued("word", name="words").render_derived()
        order = replace(order, within=sa.literal_column(ended_as(_table.name), sa.Text), value=words.c.word)
    elif status is None and campaign_id is not None:
        order = replace(order, within=_table.c.campaign_id, value=equal.pop(_table.c.campaign_id))
    page = _matching(equal).where(*order.after(cursor)).order_by(*order.by()).limit(limit + 1)
    # The indexes begin with the campaign, then with how a row ended: read the first rows of each, and take the first.
    each: list[sa.FromClause] = [words] if words is not None else []
    if (status is not None or words is not None) and campaign_id is None:
        each.append(campaigns)
        page = page.where(_table.c.campaign_id == campaigns.c.id)
    if each:
        of_each = page.correlate(*each).lateral()
        page = sa.select(of_each).select_from(*each, of_each).order_by(*order.by(of_each)).limit(limit + 1)
    return pagination.page_of(connection.execute(page).mappings().all(), order, limit)


def _matching(equal: Mapping[sa.Column[Any], object]) -> sa.Select[Any]:
    status = equal.get(_table.c.status)
    found = sa.select(*_SCHEDULED_EMAIL).where(*(column == value for column, value in equal.items()))
    return found.where(sa.text(_BY_INDEX[status])) if status in _BY_INDEX else found


def _check_found_by_reason(status: str | None) -> None:
    if status is not None and status not in _BY_REASON:
        message = f"finds emails that are skipped or cancelled only, not those that are {status}"
        raise InvalidInput("The request is not valid.", [FieldError("reason", message)])


def _checked_order(status: str | None, sort: str | None) -> str:
    key = "scheduled_for" if status == ScheduledEmailStatus.PENDING else "id"
    if sort is None:
        return key
    if sort.lstrip("-") != key:
        message = (
            "emails that are pending are sorted by scheduled_for"
            if status == ScheduledEmailStatus.PENDING
            else "must be id or -id; only with status=pending it is scheduled_for or -scheduled_for"
        )
        raise InvalidInput("The request is not valid.", [FieldError("sort", message)])
    return sort


def get(connection: sa.Connection, scheduled_email_id: int) -> sa.RowMapping:
    """Raises:
    NotFound: there is no such scheduled email.
    """
    row = connection.execute(sa.select(*_SCHEDULED_EMAIL).where(_table.c.id == scheduled_email_id)).mappings().first()
    if row is None:
        raise NotFound("scheduled email", scheduled_email_id)
    return row


def make_due_now(connection: sa.Connection, scheduled_email_id: int, actor: str) -> sa.RowMapping:
    """Make a pending email of a running campaign due now.

    Raises:
        NotFound: there is no such scheduled email.
        Conflict: it is not pending, its campaign is not running, its sender is disabled, the winner of its step is not
            decided, or an earlier step to the lead is still to be sent or was sent less than the configured gap ago.
    """
    current = get(connection, scheduled_email_id)
    # Lock the campaign first, as everywhere: a pause waits, or has committed.
    status = connection.scalar(
        sa.select(campaigns.c.status)
        .where(campaigns.c.id == current["campaign_id"])
        .with_for_update(read=True, key_share=True)
    )
    if status != CampaignStatus.RUNNING:
        raise Conflict(f"Its campaign is {status}, not running.", status=status)
    if current["status"] == ScheduledEmailStatus.PENDING:
        if (disabled := connection.execute(_DISABLED_SENDER, {"id": scheduled_email_id}).first()) is not None:
            message = f"Its sender {disabled.address} is disabled; make it active, or reassign its leads."
            raise Conflict(message, status=status, sender_id=str(disabled.id))
        if connection.scalar(_WAITS_FOR_WINNER, {"id": scheduled_email_id}):
            message = f"The winner of step {current['workflow_step_number']} is not decided yet; decide it first."
            raise Conflict(message, status=status)
        _check_earlier_steps(connection, scheduled_email_id)
    now = sa.func.now()
    changed = connection.execute(
        sa.update(_table)
        .where(_table.c.id == scheduled_email_id, _table.c.status == ScheduledEmailStatus.PENDING)
        .values(scheduled_for=sa.func.least(_table.c.scheduled_for, now), updated_at=now)
        .returning(*_SCHEDULED_EMAIL)
    )
    row = changed.mappings().first()
    if row is None:
        status = get(connection, scheduled_email_id)["status"]
        raise Conflict(f"The email is {status}, not pending.", status=status)
    audit_log.record(connection, actor, AuditAction.SCHEDULED_EMAIL_SEND, "scheduled_email", scheduled_email_id)
    return row


_DISABLED_SENDER = sa.text("""
    SELECT a.id, a.address FROM scheduled_emails e
    JOIN campaign_lanes l ON l.campaign_id = e.campaign_id AND l.lane = e.lane
    JOIN sender_addresses a ON a.id = l.sender_id
    WHERE e.id = :id AND a.status <> 'active'
""").bindparams(sa.bindparam("id", type_=sa.BigInteger))
_WAITS_FOR_WINNER = sa.text(f"""
    SELECT EXISTS (
        SELECT FROM scheduled_emails e
        JOIN campaign_steps s ON {is_step_of("s", "e")}
        WHERE e.id = :id AND e.variant IS NULL AND {is_undecided("s")})
""").bindparams(sa.bindparam("id", type_=sa.BigInteger))
# The same gap as in the fence, which would return the row.
_EARLIER_STEPS = sa.text(f"""
    SELECT p.workflow_step_number AS step, p.sent_at, p.sent_at + own.delay AS gap_until, e.campaign_id, now() AS now
    FROM scheduled_emails e
    JOIN campaign_steps own ON {is_step_of("own", "e")}
    JOIN scheduled_emails p ON p.lead_id = e.lead_id AND p.campaign_id = e.campaign_id
                           AND p.workflow_step_number < e.workflow_step_number
    WHERE e.id = :id AND NOT {is_answer("e")}
      AND (p.status = 'sending' OR {still_planned("p")} OR own.business_days IS NOT NULL
           OR p.sent_at + own.delay > now())
    ORDER BY p.sent_at DESC NULLS FIRST LIMIT 1
""").bindparams(sa.bindparam("id", type_=sa.BigInteger))


def _check_earlier_steps(connection: sa.Connection, scheduled_email_id: int) -> None:
    earlier = connection.execute(_EARLIER_STEPS, {"id": scheduled_email_id}).first()
    if earlier is None:
        return
    if earlier.sent_at is None:
        raise Conflict(f"Step {earlier.step} to this lead has not been sent yet; send that one first.")
    gap = business_days.gaps(connection, [scheduled_email_id], [earlier.campaign_id])
    gap_until = gap.get(scheduled_email_id, earlier.gap_until)
    if gap_until <= earlier.now:
        return
    sent_at, until = (moment.isoformat(timespec="seconds") for moment in (earlier.sent_at, gap_until))
    raise Conflict(
        f"Step {earlier.step} to this lead was sent at {sent_at}; the gap between the steps ends at {until}.",
        sendable_from=until,
    )
