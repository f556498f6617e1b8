"""Which campaign holds a lead batch: a batch is used by one campaign at a time. Reads and writes `lead_batches`."""

from __future__ import annotations

import uuid
from collections.abc import Iterable

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from sendledger.core.errors import Conflict
from sendledger.core.tables import campaigns, lead_batches
from sendledger.core.vocabulary import CampaignStatus, LeadBatchStatus, quoted

_UNREADY = (
    LeadBatchStatus.PENDING,
    LeadBatchStatus.CHECKING,
    LeadBatchStatus.CHECKED,
    LeadBatchStatus.IMPORTING,
    LeadBatchStatus.DELETING,
)

_IMPORTED_OR_WILL_BE = (LeadBatchStatus.PENDING, LeadBatchStatus.IMPORTING, LeadBatchStatus.COMPLETED)


def imported_for(campaign: str, statuses: Iterable[LeadBatchStatus] = _IMPORTED_OR_WILL_BE) -> str:
    """A query for the lead batches whose import was given to an evergreen campaign, and that it has not taken in yet.

    A file that is only to be checked is none of them.
    """
    return f"""
        SELECT b.id FROM lead_batches b
        WHERE b.active_campaign_id = {campaign}.id AND b.id <> ALL({campaign}.batch_ids)
          AND b.status IN ({quoted(statuses)}) AND coalesce(b.import_settings ->> 'dry_run', '') <> 'true'
    """


def awaits_import(connection: sa.Connection, campaign_id: uuid.UUID) -> bool:
    """Whether leads of an import for an evergreen campaign have still to come in."""
    query = sa.text(f"SELECT evergreen AND EXISTS ({imported_for('c')}) FROM campaigns c WHERE id = :id")
    return bool(connection.scalar(query.bindparams(sa.bindparam("id", campaign_id, sa.UUID))))


def hold_batches(connection: sa.Connection, campaign: sa.RowMapping) -> None:
    """Mark the campaign's batches as used by it.

    Raises:
        Conflict: as `batch_in_the_way` finds it.
    """
    # The lock comes before the check: if two campaigns start at once, the second one sees the first.
    connection.execute(
        sa.select(lead_batches.c.id)
        .where(lead_batches.c.id.in_(_batch_ids(campaign)))
        .order_by(lead_batches.c.id)
        .with_for_update(key_share=True)
    )
    if (conflict := batch_in_the_way(connection, campaign)) is not None:
        raise conflict
    connection.execute(
        sa.update(lead_batches)
        .where(lead_batches.c.id.in_(_batch_ids(campaign)))
        .values(active_campaign_id=campaign["id"], updated_at=sa.func.now())
    )


def batch_in_the_way(connection: sa.Connection, campaign: sa.RowMapping) -> Conflict | None:
    """Why the campaign cannot have its batches now: another campaign, running or paused, holds one, or one is still
    being imported or deleted. `data` names the batch, and the campaign that holds it."""
    own = lead_batches.c.id.in_(_batch_ids(campaign))
    columns = (lead_batches.c.id, lead_batches.c.name, lead_batches.c.status)
    unready = sa.select(*columns).where(own, lead_batches.c.status.in_(_UNREADY)).order_by(lead_batches.c.id).limit(1)
    if (batch := connection.execute(unready).first()) is not None:
        # Leads that are imported later would be left out silently.
        return Conflict(
            f"Lead batch {batch.name!r} ({batch.id}) is {batch.status}; start when its import is complete.",
            lead_batch_id=str(batch.id),
        )
    holder = campaigns.alias("holder")
    holding = (
        sa.select(lead_batches.c.id, lead_batches.c.name, holder.c.id.label("holder"), holder.c.name.label("by"))
        .select_from(lead_batches.join(holder, holder.c.id == lead_batches.c.active_campaign_id))
        .where(own, holder.c.id != campaign["id"], holder.c.status.in_((CampaignStatus.RUNNING, CampaignStatus.PAUSED)))
        .order_by(lead_batches.c.id)
        .limit(1)
    )
    if (held := connection.execute(holding).first()) is not None:
        return Conflict(
            f"Lead batch {held.name!r} ({held.id}) is in use by campaign {held.by!r} ({held.holder}).",
            lead_batch_id=str(held.id),
            campaign_id=str(held.holder),
        )
    return None


def _batch_ids(campaign: sa.RowMapping) -> list[uuid.UUID]:
    # A fixed order prevents deadlocks between two campaigns that share batches.
    return sorted(set(campaign["batch_ids"]))


def release_batches(connection: sa.Connection, campaign_id: uuid.UUID) -> None:
    """Release the batches of a campaign that has ended, and add it to their history."""
    entry = sa.select(
        sa.func.jsonb_build_array(
            sa.func.jsonb_build_object(
                "campaign_id",
                campaigns.c.id,
                "name",
                campaigns.c.name,
                "status",
                campaigns.c.status,
                "started_at",
                campaigns.c.actual_started_at,
                "ended_at",
                sa.func.now(),
                "emails_sent",
                campaigns.c.emails_sent_count,
            )
        )
    ).where(campaigns.c.id == campaign_id)
    connection.execute(
        sa.update(lead_batches)
        .where(lead_batches.c.active_campaign_id == campaign_id)
        .values(
            active_campaign_id=None,
            campaign_history=lead_batches.c.campaign_history.op("||")(entry.scalar_subquery().cast(JSONB)),
            updated_at=sa.func.now(),
        )
    )
