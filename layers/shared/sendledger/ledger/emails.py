"""Emails: what was handed to SES, and what became of it. Reads `emails` and `removals`."""

from __future__ import annotations

from uuid import UUID

import sqlalchemy as sa

from sendledger.core.errors import NotFound
from sendledger.core.tables import emails, removals
from sendledger.core.vocabulary import RemovalKind

_EMAIL = (
    emails.c.id,
    emails.c.scheduled_email_id,
    emails.c.campaign_id,
    emails.c.lead_id,
    emails.c.to_address,
    emails.c.subject,
    emails.c.body_text,
    emails.c.body_html,
    emails.c.status,
    emails.c.delivery_status,
    emails.c.external_id.label("ses_message_id"),
    emails.c.error_message,
    emails.c.open_count,
    emails.c.click_count,
    emails.c.sent_at,
    emails.c.delivered_at,
    emails.c.opened_at,
    emails.c.clicked_at,
    emails.c.bounced_at,
    emails.c.soft_bounced_at,
    emails.c.created_at,
)


def get(connection: sa.Connection, email_id: UUID) -> sa.RowMapping:
    """Raises:
    NotFound: there is no such email.
    """
    of_content = (removals.c.campaign_id == emails.c.campaign_id) & (removals.c.kind == RemovalKind.CONTENT)
    query = sa.select(*_EMAIL, removals.c.began_at.label("content_removed_at"))
    found = query.select_from(emails.outerjoin(removals, of_content)).where(emails.c.id == email_id)
    row = connection.execute(found).mappings().one_or_none()
    if row is None:
        raise NotFound("email", email_id)
    return row
