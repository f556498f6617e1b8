"""The leads that the start of a campaign left out, each with its reason. Reads `left_out_leads`.

Campaigns that started before this table existed have only the counts in `campaigns.leads_left_out`.
"""

from __future__ import annotations

from uuid import UUID

import sqlalchemy as sa

from sendledger.core import pagination
from sendledger.core.errors import NotFound
from sendledger.core.pagination import Page
from sendledger.core.tables import campaigns, leads, left_out_leads

_table = left_out_leads


def list_page(
    connection: sa.Connection, campaign_id: UUID, limit: int, cursor: str | None, *, reason: str | None = None
) -> Page:
    """A page of a campaign's left-out leads by reason. For a deleted or erased lead, only the reason is left.

    Raises:
        NotFound: there is no such campaign.
    """
    if connection.scalar(sa.select(campaigns.c.id).filter_by(id=campaign_id)) is None:
        raise NotFound("campaign", campaign_id)
    query = (
        sa.select(_table.c.id, _table.c.lead_id, _table.c.reason, leads.c.email, leads.c.contact_name)
        .add_columns(sa.func.nullif(leads.c.company_name, "").label("company_name"))
        .select_from(_table.outerjoin(leads, leads.c.id == _table.c.lead_id))
        .where(_table.c.campaign_id == campaign_id)
    )
    if reason is not None:
        query = query.where(_table.c.reason == reason)
    return pagination.sorted_page(connection, query, _table, limit, cursor, "reason")
