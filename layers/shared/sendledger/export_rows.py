"""The rows of each kind of export, in pages: leads, and the ledger of a campaign with a reason for each lead.

Every page is a statement and a transaction of its own, by the keys after the last one: an export of millions of rows
holds neither memory nor a snapshot for minutes. Reads `leads`, `scheduled_emails`, `left_out_leads`, `emails` and
`campaigns`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from sendledger.lead_values import NAME_PARTS
from sendledger.leads import LEAD
from sendledger.schedule_emails import AUDIENCE, REASON_LEFT_OUT, audience_parameters, get_campaign
from sendledger.tables import emails, leads, left_out_leads, scheduled_emails

ROWS_PER_PAGE = 5_000
LEADS_PER_LOOK = 20_000
"""Of a campaign's audience, among which those without a row in the ledger are looked for at once."""

Page = Sequence[Sequence[object]]

LEAD_HEADER = tuple(column.name for column in LEAD)
LEDGER_HEADER = (
    *("lead_id", "email", "company_name", "contact_name", "step", "status", "reason", "detail"),
    *("scheduled_for", "sent_at", "sent_to", "delivery_status", "delivered_at", "opened_at", "clicked_at"),
    *("bounced_at", "failed_at", "ses_message_id", "scheduled_email_id"),
)
LEFT_OUT = "left_out"
"""The status, in the file, of a lead that has no row in the ledger."""

_FIRST = UUID(int=0)
_rows = scheduled_emails.c
_LEDGER = (
    sa.select(
        *(_rows.lead_id, leads.c.email, leads.c.company_name, leads.c.contact_name),
        *(_rows.workflow_step_number, _rows.status),
        sa.func.coalesce(_rows.reason, _rows.error_code),
        *(_rows.failure_reason, _rows.scheduled_for, _rows.sent_at, emails.c.to_address),
        *(emails.c.delivery_status, emails.c.delivered_at, emails.c.opened_at, emails.c.clicked_at),
        *(emails.c.bounced_at, _rows.failed_at, _rows.ses_message_id, _rows.id),
    )
    .select_from(
        scheduled_emails.outerjoin(leads, leads.c.id == _rows.lead_id).outerjoin(emails, emails.c.id == _rows.email_id)
    )
    .order_by(_rows.id)
    .limit(ROWS_PER_PAGE)
)
_END_OF_LOOK = sa.text(f"{AUDIENCE} AND l.id > :after ORDER BY l.id OFFSET :skip LIMIT 1").bindparams(
    sa.bindparam("batch_ids", type_=sa.ARRAY(sa.UUID)),
    sa.bindparam("campaign_id", type_=sa.UUID),
    sa.bindparam("after", type_=sa.UUID),
)
_LEFT_OUT = (
    sa.select(
        *(left_out_leads.c.lead_id, leads.c.email, leads.c.company_name, leads.c.contact_name),
        *(left_out_leads.c.reason, left_out_leads.c.id),
    )
    .select_from(left_out_leads.outerjoin(leads, leads.c.id == left_out_leads.c.lead_id))
    .order_by(left_out_leads.c.reason, left_out_leads.c.id)
    .limit(ROWS_PER_PAGE)
)
# Those that no start has judged: the campaign has not started, or not gone so far, or they came too late; or it started
# or was adopted before reasons were kept. Then the reason is that of now.
_NOT_JUDGED = sa.text(f"""
    WITH a AS MATERIALIZED (
        {AUDIENCE} AND l.id > :after AND (CAST(:until AS uuid) IS NULL OR l.id <= CAST(:until AS uuid))
          AND NOT EXISTS (SELECT FROM scheduled_emails e WHERE e.lead_id = l.id AND e.campaign_id = :campaign_id)
          AND NOT EXISTS (SELECT FROM left_out_leads o WHERE o.lead_id = l.id AND o.campaign_id = :campaign_id)
    )
    SELECT l.id, l.email, l.company_name, l.contact_name, CASE
        WHEN c.actual_started_at IS NULL THEN coalesce({REASON_LEFT_OUT}, 'not_started')
        WHEN c.row_work @> '[{{"kind": "schedule"}}]' THEN 'not_scheduled_yet'
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
    FROM a JOIN leads l ON l.id = a.id CROSS JOIN campaigns c
    LEFT JOIN adopted_campaigns ad ON ad.campaign_id = c.id
    CROSS JOIN LATERAL (SELECT coalesce(ad.adopted_at, c.actual_started_at)) judged (at)
    WHERE c.id = :campaign_id
      -- Of a lead that was erased since then, its row without a name tells what it got, or why it got nothing.
      AND (l.erased_at IS NULL OR c.actual_started_at IS NULL OR l.erased_at < judged.at)
    ORDER BY l.id
""").bindparams(
    sa.bindparam("batch_ids", type_=sa.ARRAY(sa.UUID)),
    sa.bindparam("campaign_id", type_=sa.UUID),
    sa.bindparam("after", type_=sa.UUID),
    sa.bindparam("until", type_=sa.UUID),
)


def lead_pages(engine: sa.Engine, filters: Mapping[str, Any]) -> Iterator[Page]:
    """All leads in the order of their ids; `filters` may hold a `status` and a `batch_id`."""
    query = sa.select(*LEAD).order_by(leads.c.id).limit(ROWS_PER_PAGE)
    if "status" in filters:
        query = query.where(leads.c.status == filters["status"])
    if "batch_id" in filters:
        query = query.where(leads.c.batch_id == UUID(filters["batch_id"]))
    after = _FIRST
    while True:
        with engine.begin() as connection:
            rows = connection.execute(query.where(leads.c.id > after)).mappings().all()
        yield [_lead(row) for row in rows]
        if len(rows) < ROWS_PER_PAGE:
            return
        after = rows[-1]["id"]


def ledger_pages(engine: sa.Engine, campaign_id: UUID) -> Iterator[Page]:
    """Every scheduled email of a campaign in the order of their ids, then the leads that have none, each with why.

    Raises:
        NotFound: there is no such campaign.
    """
    with engine.begin() as connection:
        campaign = get_campaign(connection, campaign_id)
    after = 0
    while True:
        with engine.begin() as connection:
            query = _LEDGER.where(_rows.campaign_id == campaign_id, _rows.id > after)
            rows = connection.execute(query).all()
        yield rows
        if len(rows) < ROWS_PER_PAGE:
            break
        after = rows[-1].id
    yield from _left_out_pages(engine, campaign_id)
    yield from _not_judged_pages(engine, campaign)


def _left_out_pages(engine: sa.Engine, campaign_id: UUID) -> Iterator[Page]:
    columns = left_out_leads.c
    reason, after = "", 0
    while True:
        last = sa.tuple_(sa.literal(reason), sa.literal(after, columns.id.type))
        later = sa.tuple_(columns.reason, columns.id) > last
        with engine.begin() as connection:
            rows = connection.execute(_LEFT_OUT.where(columns.campaign_id == campaign_id, later)).all()
        yield [_without_email(lead, lead_reason) for *lead, lead_reason, _ in rows]
        if len(rows) < ROWS_PER_PAGE:
            return
        reason, after = rows[-1].reason, rows[-1].id


def _not_judged_pages(engine: sa.Engine, campaign: sa.RowMapping) -> Iterator[Page]:
    audience = {name: audience_parameters(campaign, 0, 1)[name] for name in ("campaign_id", "batch_ids")}
    after: UUID | None = _FIRST
    while after is not None:
        with engine.begin() as connection:
            look = {**audience, "after": after}
            until = connection.scalar(_END_OF_LOOK, {**look, "skip": LEADS_PER_LOOK - 1})
            rows = connection.execute(_NOT_JUDGED, {**look, "until": until}).all()
        yield [_without_email(lead, reason) for *lead, reason in rows]
        after = until


def _without_email(lead: Sequence[object], reason: str) -> list[object]:
    row = [*lead, None, LEFT_OUT, reason]
    return row + [None] * (len(LEDGER_HEADER) - len(row))


def _lead(row: sa.RowMapping) -> list[object]:
    values = dict(row)
    custom = values["custom_fields"] if isinstance(values["custom_fields"], dict) else {}
    custom = {name: value for name, value in custom.items() if name not in NAME_PARTS}
    values["custom_fields"] = json.dumps(custom, ensure_ascii=False) if custom else None
    values["tags"] = ", ".join(values["tags"])
    return list(values.values())
