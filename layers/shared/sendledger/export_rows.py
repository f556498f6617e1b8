"""The rows of each kind of export, in pages: leads, and the ledger of a campaign with a reason for each lead.

Every page is a statement and a transaction of its own, by the keys after the last one: an export of millions of rows
holds neither memory nor a snapshot for minutes. Reads `leads`, `scheduled_emails`, `emails` and `campaigns`.
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
from sendledger.tables import emails, leads, scheduled_emails

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
# The reason is that of now: at the start only the leads were counted, by reason.
_LEFT_OUT = sa.text(f"""
    WITH a AS MATERIALIZED (
        {AUDIENCE} AND l.id > :after AND (CAST(:until AS uuid) IS NULL OR l.id <= CAST(:until AS uuid))
          AND NOT EXISTS (SELECT FROM scheduled_emails e WHERE e.lead_id = l.id AND e.campaign_id = :campaign_id)
    )
    SELECT l.id, l.email, l.company_name, l.contact_name, coalesce({REASON_LEFT_OUT}, CASE
        WHEN c.actual_started_at IS NULL THEN 'not_started'
        WHEN c.row_work @> '[{{"kind": "schedule"}}]' THEN 'not_scheduled_yet'
        WHEN EXISTS (
            SELECT FROM leads other JOIN scheduled_emails e ON e.lead_id = other.id
            WHERE lower(other.email) = lower(l.email) AND other.id <> l.id AND e.campaign_id = :campaign_id
        ) THEN 'duplicate_address'
        WHEN l.created_at AT TIME ZONE 'UTC' > c.actual_started_at THEN 'added_after_start'
        ELSE 'left_out_at_start'
    END)
    FROM a JOIN leads l ON l.id = a.id CROSS JOIN campaigns c WHERE c.id = :campaign_id
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
    yield from _left_out_pages(engine, campaign)


def _left_out_pages(engine: sa.Engine, campaign: sa.RowMapping) -> Iterator[Page]:
    audience = {name: audience_parameters(campaign, 0, 1)[name] for name in ("campaign_id", "batch_ids")}
    after: UUID | None = _FIRST
    empty = [None] * (len(LEDGER_HEADER) - 7)
    while after is not None:
        with engine.begin() as connection:
            look = {**audience, "after": after}
            until = connection.scalar(_END_OF_LOOK, {**look, "skip": LEADS_PER_LOOK - 1})
            rows = connection.execute(_LEFT_OUT, {**look, "until": until}).all()
        yield [[*lead, None, LEFT_OUT, reason, *empty] for *lead, reason in rows]
        after = until


def _lead(row: sa.RowMapping) -> list[object]:
    values = dict(row)
    custom = values["custom_fields"] if isinstance(values["custom_fields"], dict) else {}
    custom = {name: value for name, value in custom.items() if name not in NAME_PARTS}
    values["custom_fields"] = json.dumps(custom, ensure_ascii=False) if custom else None
    values["tags"] = ", ".join(values["tags"])
    return list(values.values())
