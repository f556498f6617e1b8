"""How far many campaigns are, for a list of them: one statement for all. Reads as campaign_counts.py does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from sendledger.campaigns.campaign_counts import expected_finish
from sendledger.core.ledger_rules import is_pending
from sendledger.core.tables import campaigns
from sendledger.core.vocabulary import ScheduledEmailStatus

# Totals are read from their index alone: a campaign may have thousands of them.
_PROGRESS = sa.text(f"""
    WITH changes AS MATERIALIZED (
        SELECT campaign_id, what, step_number, hour, count FROM campaign_counts
        WHERE NOT is_total AND campaign_id = ANY(:ids)
    )
    SELECT c.id, now() AS now, counted.by_status, due.first AS next_due_at, due.last AS last_due_at, rate.per_second
    FROM campaigns c
    CROSS JOIN LATERAL (
        SELECT coalesce(json_object_agg(what, count), '{{}}') AS by_status FROM (
            SELECT what, CAST(sum(count) AS bigint) AS count FROM (
                SELECT what, count FROM campaign_counts WHERE is_total AND campaign_id = c.id AND step_number > 0
                UNION ALL
                SELECT what, count FROM changes WHERE campaign_id = c.id AND step_number > 0) each GROUP BY what) counts
    ) counted
    CROSS JOIN LATERAL (
        SELECT (SELECT scheduled_for FROM scheduled_emails e WHERE campaign_id = c.id AND {is_pending("e")}
                ORDER BY scheduled_for LIMIT 1) AS first,
               (SELECT scheduled_for FROM scheduled_emails e WHERE campaign_id = c.id AND {is_pending("e")}
                ORDER BY scheduled_for DESC LIMIT 1) AS last
    ) due
    CROSS JOIN LATERAL (
        SELECT greatest(date_trunc('hour', now(), 'UTC') - interval '1 hour', c.actual_started_at, c.resumed_at)
    ) since (start)
    CROSS JOIN LATERAL (
        SELECT sum(count) / greatest(extract(epoch FROM now() - since.start), 60) AS per_second FROM (
            SELECT hour, count FROM campaign_counts WHERE is_total AND campaign_id = c.id AND what = 'sent'
            UNION ALL
            SELECT hour, count FROM changes WHERE campaign_id = c.id AND what = 'sent') each
        WHERE hour >= date_trunc('hour', since.start, 'UTC') AND c.status = 'running'
    ) rate
    WHERE c.id = ANY(:ids)
""").bindparams(sa.bindparam("ids", type_=sa.ARRAY(sa.UUID)))


def progress_of(connection: sa.Connection, campaign_ids: Sequence[UUID]) -> list[dict[str, Any]]:
    """The counts by status of each of these campaigns that there is, and when it goes on and ends."""
    ids = sa.literal(list(campaign_ids), sa.ARRAY(sa.UUID))
    query = sa.select(campaigns).where(campaigns.c.id == sa.any_(ids))
    by_id = {row["id"]: row for row in connection.execute(query).mappings()}
    found = []
    for row in connection.execute(_PROGRESS, {"ids": list(campaign_ids)}):
        by_status = dict.fromkeys(ScheduledEmailStatus, 0) | row.by_status
        finish = expected_finish(by_id[row.id], by_status, row.now, row.per_second, row.next_due_at, row.last_due_at)
        progress = {"campaign_id": row.id, "by_status": by_status, "next_due_at": row.next_due_at}
        found.append({**progress, "expected_to_finish_at": finish})
    return found
