"""Lead batches: the imports, and which campaign holds them. Reads and writes `lead_batches`; a deletion `leads` too."""

from __future__ import annotations

from uuid import UUID

import sqlalchemy as sa

from sendledger import pagination
from sendledger.errors import Conflict, NotFound
from sendledger.pagination import Page
from sendledger.tables import campaign_leads, campaigns, emails, lead_batches, leads, scheduled_emails

OPEN_CAMPAIGN_STATUSES = ("draft", "scheduled", "running", "paused", "active")
MOST_NAMED = 20
"""How many users of a lead batch an error names."""

_table = lead_batches


def get(connection: sa.Connection, lead_batch_id: UUID) -> sa.RowMapping:
    """Raises:
    NotFound: there is no such lead batch.
    """
    return _get(connection, sa.select(_table), lead_batch_id)


def list_page(connection: sa.Connection, limit: int, cursor: str | None) -> Page:
    """A page of lead batches, newest first."""
    return pagination.newest_first(connection, sa.select(_table), _table, limit, cursor)


def delete(connection: sa.Connection, lead_batch_id: UUID) -> None:
    """Delete a batch and its leads, as if the file had never been imported.

    Raises:
        NotFound: there is no such lead batch.
        Conflict: a campaign that has not ended uses it (`data["campaigns"]`), or a campaign has used one of its leads:
            what they were sent would be lost.
    """
    # Locked first, looked second: a campaign that is about to start with it waits for this lock or has committed.
    batch = _get(connection, sa.select(_table).with_for_update(), lead_batch_id)
    used_by = sa.select(campaigns.c.id, campaigns.c.name).where(
        sa.or_(
            campaigns.c.id == batch["active_campaign_id"],
            sa.and_(
                campaigns.c.status.in_(OPEN_CAMPAIGN_STATUSES),
                sa.or_(
                    campaigns.c.batch_id == lead_batch_id, sa.literal(lead_batch_id) == sa.any_(campaigns.c.batch_ids)
                ),
            ),
        )
    )
    users = [{"id": str(row.id), "name": row.name} for row in connection.execute(used_by.limit(MOST_NAMED))]
    if users:
        raise Conflict("A campaign uses this lead batch; it cannot be deleted.", campaigns=users)
    for table in (scheduled_emails, emails, campaign_leads):
        used = sa.select(leads.c.id).join(table, table.c.lead_id == leads.c.id).where(leads.c.batch_id == lead_batch_id)
        if connection.execute(used.limit(1)).first() is not None:
            raise Conflict("Leads of this batch belong to a campaign; delete single leads instead.")
    connection.execute(sa.delete(leads).where(leads.c.batch_id == lead_batch_id))
    connection.execute(sa.delete(_table).where(_table.c.id == lead_batch_id))


def _get(connection: sa.Connection, query: sa.Select[tuple[object, ...]], lead_batch_id: UUID) -> sa.RowMapping:
    row = connection.execute(query.where(_table.c.id == lead_batch_id)).mappings().one_or_none()
    if row is None:
        raise NotFound("lead batch", lead_batch_id)
    return row
