"""The rows of each kind of export, in pages: leads, and the ledger of a campaign with a reason for each lead.

Every page is one statement and one transaction, which begins after the last key of the page before. So an export of
millions of rows needs little memory and no long snapshot. The values of a row are from the time of its page. Which
emails and which leads without an email are in the file is decided at the beginning. All of it may come from the reader
endpoint. Reads `leads`, `scheduled_emails`, `left_out_leads`, `emails`, `campaigns`, `campaign_lanes` and
`sender_addresses`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from sendledger.campaigns.audience import REASON_LEFT_OUT, Audience, audience_of
from sendledger.core.errors import NotFound
from sendledger.core.reader import Source
from sendledger.core.tables import (
    campaign_lanes,
    campaigns,
    emails,
    leads,
    left_out_leads,
    scheduled_emails,
    sender_addresses,
)
from sendledger.leads.leads import FIELDS, LEAD, shown

ROWS_PER_PAGE = 5_000
LEADS_PER_LOOK = 20_000
"""How many leads of a campaign's audience one statement checks for a row in the ledger."""

Rows = Sequence[Sequence[object]]

LEAD_HEADER = FIELDS
LEDGER_HEADER = (
    *("lead_id", "email", "company_name", "contact_name", "step", "status", "reason", "detail"),
    *("scheduled_for", "sent_at", "sent_to", "delivery_status", "delivered_at", "opened_at", "clicked_at"),
    *("bounced_at", "soft_bounced_at", "failed_at", "ses_message_id", "scheduled_email_id", "variant"),
    *("time_zone", "sender", "revision"),
)
LEFT_OUT = "left_out"
"""The status in the file for a lead without a row in the ledger."""

_FIRST = UUID(int=0)
_rows = scheduled_emails.c
_LEDGER = (
    sa.select(
        *(_rows.lead_id, leads.c.email, leads.c.company_name, leads.c.contact_name),
        *(_rows.workflow_step_number, _rows.status),
        sa.func.coalesce(_rows.reason, _rows.error_code),
        *(_rows.failure_reason, _rows.scheduled_for, _rows.sent_at, emails.c.to_address),
        *(emails.c.delivery_status, emails.c.delivered_at, emails.c.opened_at, emails.c.clicked_at),
        *(emails.c.bounced_at, emails.c.soft_bounced_at, _rows.failed_at, _rows.ses_message_id, _rows.id),
        *(_rows.variant, campaign_lanes.c.time_zone, sender_addresses.c.address, _rows.revision),
    )
    .select_from(
        scheduled_emails.outerjoin(leads, leads.c.id == _rows.lead_id)
        .outerjoin(emails, emails.c.id == _rows.email_id)
        # The zone that was known at the start, and the sender, of a campaign with a sending policy.
        .outerjoin(
            campaign_lanes,
            (campaign_lanes.c.campaign_id == _rows.campaign_id) & (campaign_lanes.c.lane == _rows.lane),
        )
        .outerjoin(sender_addresses, sender_addresses.c.id == campaign_lanes.c.sender_id)
    )
    .order_by(_rows.id)
    .limit(ROWS_PER_PAGE)
)
# The campaign and its rows at one moment. Writers of rows lock the campaign until they commit, so later rows have
# greater ids.
_written, _left_out = scheduled_emails.alias("written").c, left_out_leads.alias("left_out").c
_AT_THE_BEGINNING = sa.select(
    campaigns,
    sa.func.coalesce(
        sa.select(_written.id)
        .where(_written.campaign_id >= campaigns.c.id, _written.campaign_id <= campaigns.c.id)
        # In the order of the campaign's index. Otherwise the planner may search the whole table.
        .order_by(_written.campaign_id.desc(), _written.id.desc())
        .limit(1)
        .scalar_subquery(),
        0,
    ).label("last_row"),
    sa.func.coalesce(
        sa.select(sa.func.max(_left_out.id)).where(_left_out.campaign_id == campaigns.c.id).scalar_subquery(), 0
    ).label("last_left_out"),
)
_END_OF_LOOK = " AND leads.id > :after ORDER BY leads.id OFFSET :skip LIMIT 1"
_LEFT_OUT = (
    sa.select(
        *(left_out_leads.c.lead_id, leads.c.email, leads.c.company_name, leads.c.contact_name),
        *(left_out_leads.c.reason, left_out_leads.c.id),
    )
    .select_from(left_out_leads.outerjoin(leads, leads.c.id == left_out_leads.c.lead_id))
    .order_by(left_out_leads.c.reason, left_out_leads.c.id)
    .limit(ROWS_PER_PAGE)
)
# Leads for which no start had stored a reason at the beginning of the export: the campaign had not started, its start
# had not reached them, they were added later, or the campaign is older than stored reasons. Their reason is the one of
# now.
_NOT_JUDGED = f"""
        AND leads.id > :after AND (CAST(:until AS uuid) IS NULL OR leads.id <= CAST(:until AS uuid))
        AND NOT EXISTS (SELECT FROM scheduled_emails e
                        WHERE e.lead_id = leads.id AND e.campaign_id = :campaign_id AND e.id <= :last_row)
        AND NOT EXISTS (SELECT FROM left_out_leads o
                        WHERE o.lead_id = leads.id AND o.campaign_id = :campaign_id AND o.id <= :last_left_out)
    )
    SELECT l.id, l.email, l.company_name, l.contact_name, CASE
        WHEN c.started_at IS NULL THEN coalesce({REASON_LEFT_OUT}, 'not_started')
        WHEN c.background_work @> '[{{"kind": "schedule"}}]' THEN 'not_scheduled_yet'
        WHEN l.created_at AT TIME ZONE 'UTC' > judged.at OR EXISTS (
            SELECT FROM campaign_leads cl WHERE cl.campaign_id = :campaign_id AND cl.lead_id = l.id
              AND cl.added_at AT TIME ZONE 'UTC' > judged.at
        ) THEN 'added_after_start'
        ELSE coalesce({REASON_LEFT_OUT}, CASE
            WHEN EXISTS (
                SELECT FROM leads other JOIN scheduled_emails e ON e.lead_id = other.id
                WHERE lower(other.email) = lower(l.email) AND other.id <> l.id AND e.campaign_id = :campaign_id
            ) THEN 'duplicate_address'
            WHEN c.status IN ('cancelled', 'failed') THEN 'campaign_cancelled'
            ELSE 'left_out_at_start'
        END)
    END
    FROM a JOIN leads l ON l.id = a.id
    CROSS JOIN (SELECT :status, :started_at, :background_work) c (status, started_at, background_work)
    LEFT JOIN adopted_campaigns ad ON ad.campaign_id = :campaign_id
    CROSS JOIN LATERAL (SELECT coalesce(ad.adopted_at, c.started_at)) judged (at)
    -- For a lead that was erased since, its anonymous row tells what it got, or why it got nothing.
    WHERE l.erased_at IS NULL OR c.started_at IS NULL OR l.erased_at < judged.at
    ORDER BY l.id
"""
_PARAMETERS = (
    sa.bindparam("until", type_=sa.UUID),
    sa.bindparam("status", type_=sa.Text),
    sa.bindparam("started_at", type_=sa.TIMESTAMP(timezone=True)),
    sa.bindparam("background_work", type_=JSONB),
)
_AFTER = sa.bindparam("after", type_=sa.UUID)


def lead_rows(source: Source, filters: Mapping[str, Any]) -> Iterator[Rows]:
    """All leads in the order of their ids; `filters` may hold a `status` and a `batch_id`."""
    query = sa.select(*LEAD).order_by(leads.c.id).limit(ROWS_PER_PAGE)
    if "status" in filters:
        query = query.where(leads.c.status == filters["status"])
    if "batch_id" in filters:
        query = query.where(leads.c.batch_id == UUID(filters["batch_id"]))
    after = _FIRST
    while True:
        page = query.where(leads.c.id > after)
        rows = source.read(functools.partial(_all, page))
        yield [_lead(row._mapping) for row in rows]
        if len(rows) < ROWS_PER_PAGE:
            return
        after = rows[-1].id


def ledger_rows(source: Source, campaign_id: UUID) -> Iterator[Rows]:
    """Every scheduled email of a campaign in the order of ids, then the leads without one, each with the reason.

    Each lead of the audience is in it, whatever is written meanwhile. Emails that exist at the beginning are exported
    as emails. A lead that is scheduled later is exported as not scheduled yet.

    Raises:
        NotFound: there is no such campaign.
    """
    at_the_beginning = functools.partial(_all, _AT_THE_BEGINNING.where(campaigns.c.id == campaign_id))
    found = source.read(at_the_beginning)
    if not found:  # the reader may not have it yet
        source.take_writer()
        found = source.read(at_the_beginning)
    if not found:
        raise NotFound("campaign", campaign_id)
    campaign = found[0]._mapping
    after = 0
    while True:
        written = _rows.id <= campaign["last_row"]
        page = _LEDGER.where(_rows.campaign_id == campaign_id, _rows.id > after, written)
        rows = source.read(functools.partial(_all, page))
        yield rows
        if len(rows) < ROWS_PER_PAGE:
            break
        after = rows[-1].id
    yield from _left_out_rows(source, campaign)
    yield from _not_judged_rows(source, campaign)


def _left_out_rows(source: Source, campaign: sa.RowMapping) -> Iterator[Rows]:
    columns = left_out_leads.c
    written = _LEFT_OUT.where(columns.campaign_id == campaign["id"], columns.id <= campaign["last_left_out"])
    reason, after = "", 0
    while True:
        last = sa.tuple_(sa.literal(reason), sa.literal(after, columns.id.type))
        later = sa.tuple_(columns.reason, columns.id) > last
        page = written.where(later)
        rows = source.read(functools.partial(_all, page))
        yield [_without_email(row[:-2], row.reason) for row in rows]
        if len(rows) < ROWS_PER_PAGE:
            return
        reason, after = rows[-1].reason, rows[-1].id


def _not_judged_rows(source: Source, campaign: sa.RowMapping) -> Iterator[Rows]:
    then = {name: campaign[name] for name in ("last_row", "last_left_out", "status", "background_work")}
    then["started_at"] = campaign["actual_started_at"]
    after: UUID | None = _FIRST
    while after is not None:
        rows, after = source.read(functools.partial(_not_judged_page, campaign, then, after))
        yield [_without_email(row[:-1], row[-1]) for row in rows]


def _not_judged_page(
    campaign: sa.RowMapping, then: Mapping[str, Any], after: UUID, connection: sa.Connection
) -> tuple[Sequence[sa.Row[Any]], UUID | None]:
    """A page, and the lead that it ends with; None for the last page."""
    audience = _audience(connection, campaign)
    end = audience.statement(audience.leads + _END_OF_LOOK, _AFTER)
    until = connection.scalar(end, {"after": after, "skip": LEADS_PER_LOOK - 1})
    sql = f"WITH a AS MATERIALIZED ({audience.leads}{_NOT_JUDGED}"
    not_judged = audience.statement(sql, _AFTER, *_PARAMETERS)
    return connection.execute(not_judged, {**then, "after": after, "until": until}).all(), until


def _all(statement: sa.Select[Any], connection: sa.Connection) -> Sequence[sa.Row[Any]]:
    return connection.execute(statement).all()


def _audience(connection: sa.Connection, campaign: sa.RowMapping) -> Audience:
    """Once a campaign is scheduled, its segments may match others than at its start; those of the start are judged."""
    is_scheduled = campaign["actual_started_at"] is not None and all(
        work["kind"] != "schedule" for work in campaign["background_work"]
    )
    return audience_of(connection, campaign, with_segments=not is_scheduled)


def _without_email(lead: Sequence[object], reason: str) -> list[object]:
    row = [*lead, None, LEFT_OUT, reason]
    return row + [None] * (len(LEDGER_HEADER) - len(row))


def _lead(row: sa.RowMapping) -> list[object]:
    values = shown(row)
    custom = values["custom_fields"]
    values["custom_fields"] = json.dumps(custom, ensure_ascii=False) if custom else None
    values["tags"] = ", ".join(values["tags"])
    return list(values.values())
