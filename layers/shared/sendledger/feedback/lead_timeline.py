"""Everything that ever happened with one lead, in order. Reads the ledger, `email_events`, `replies` and the like."""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

import sqlalchemy as sa

from sendledger.core.errors import NotFound
from sendledger.core.ledger_rules import address_of, covers
from sendledger.core.pagination import Order, Page, page_of
from sendledger.core.tables import leads

# The number before an id puts what happened at the same moment into its order.
_HAPPENED = sa.text(f"""
SELECT '00' AS id, coalesce(l.created_at, l.updated_at, 'epoch') AT TIME ZONE 'UTC' AS at, 'imported' AS event,
       NULL::uuid AS campaign_id,
       NULL::bigint AS scheduled_email_id, NULL::int AS step_number, NULL::smallint AS variant,
       NULL::smallint AS revision,
       NULL::text AS subject, l.source AS reason,
       NULL::boolean AS is_machine, NULL::jsonb AS fields
FROM leads l WHERE l.id = :lead_id
UNION ALL
SELECT '10-' || e.id, e.created_at, 'scheduled', e.campaign_id, e.id, e.workflow_step_number, e.variant, e.revision,
       NULL, NULL, NULL, NULL
FROM scheduled_emails e WHERE e.lead_id = :lead_id
UNION ALL
SELECT '20-' || e.id, CASE e.status WHEN 'sent' THEN e.sent_at WHEN 'failed' THEN coalesce(e.failed_at, e.updated_at)
                                    ELSE e.updated_at END,
       e.status, e.campaign_id, e.id, e.workflow_step_number, e.variant, e.revision, m.subject,
       coalesce(e.reason, e.error_code), NULL, NULL
FROM scheduled_emails e LEFT JOIN emails m ON m.id = e.email_id
WHERE e.lead_id = :lead_id AND e.status IN ('sent', 'failed', 'skipped', 'cancelled')
UNION ALL
SELECT '30-' || v.id, v.occurred_at,
       CASE v.event_type WHEN 'Delivery' THEN 'delivered' WHEN 'DeliveryDelay' THEN 'delayed'
                         WHEN 'Bounce' THEN 'bounced' WHEN 'Complaint' THEN 'complained'
                         WHEN 'Open' THEN 'opened' ELSE 'clicked' END,
       v.campaign_id, v.scheduled_email_id, e.workflow_step_number, e.variant, e.revision, NULL, NULL,
       CASE WHEN v.event_type IN ('Open', 'Click') THEN v.is_machine END, NULL
FROM email_events v LEFT JOIN scheduled_emails e ON e.id = v.scheduled_email_id
WHERE v.lead_id = :lead_id
  AND v.event_type IN ('Delivery', 'DeliveryDelay', 'Bounce', 'Complaint', 'Open', 'Click')
UNION ALL
SELECT '40-' || r.id, r.created_at, 'replied', r.campaign_id, NULL, NULL, NULL, NULL, r.subject, r.outcome, NULL, NULL
FROM replies r WHERE r.lead_id = :lead_id
UNION ALL
SELECT '50-' || u.id, u.created_at, 'unsubscribed', u.campaign_id, u.scheduled_email_id, NULL, NULL, NULL, NULL,
       u.scope, NULL, NULL
FROM unsubscribes u WHERE u.lead_id = :lead_id
UNION ALL
SELECT '60-' || s.id, s.created_at, 'suppressed', s.campaign_id, NULL, NULL, NULL, NULL, NULL, s.reason, NULL, NULL
FROM leads l JOIN suppressions s ON {covers("s", address_of("l"))}
WHERE l.id = :lead_id
UNION ALL
SELECT '61-' || s.id, s.removed_at, 'unsuppressed', s.campaign_id, NULL, NULL, NULL, NULL, NULL, s.removal_reason,
       NULL, NULL
FROM leads l JOIN suppressions s ON {covers("s", address_of("l"))}
WHERE l.id = :lead_id AND s.removed_at IS NOT NULL
UNION ALL
SELECT '70-' || a.id, a.occurred_at, CASE a.action WHEN 'lead.update' THEN 'edited' ELSE 'erased' END,
       NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, a.detail -> 'fields'
FROM audit_log a
WHERE a.entity_type = 'lead' AND a.entity_id = CAST(CAST(:lead_id AS uuid) AS text)
  AND a.action IN ('lead.update', 'lead.erase')
""").columns(
    sa.column("id", sa.Text),
    sa.column("at", sa.TIMESTAMP(timezone=True)),
    *(sa.column(name) for name in ("event", "campaign_id", "scheduled_email_id", "step_number", "variant")),
    *(sa.column(name) for name in ("revision", "subject", "reason", "is_machine", "fields")),
)


def list_page(connection: sa.Connection, lead_id: UUID, limit: int, cursor: str | None, sort: str = "at") -> Page:
    """A page of what happened, oldest first or with `sort` "-at" newest first.

    Raises:
        NotFound: there is no such lead.
    """
    if connection.scalar(sa.select(leads.c.id).where(leads.c.id == lead_id)) is None:
        raise NotFound("lead", lead_id)
    happened = _HAPPENED.bindparams(sa.bindparam("lead_id", lead_id, type_=sa.UUID)).subquery("lead_timeline")
    # An order needs a name and columns; a selection has both.
    order = Order(cast(Any, happened), sort)
    query = sa.select(happened).where(*order.after(cursor)).order_by(*order.by()).limit(limit + 1)
    return page_of(connection.execute(query).mappings().all(), order, limit)
