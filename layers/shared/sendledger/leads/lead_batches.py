"""Lead batches: the imports, and which campaign holds them. Reads and writes `lead_batches`; a deletion `leads` too."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from sendledger.core import audit_log, by_id, pagination
from sendledger.core.audit_log import SYSTEM
from sendledger.core.errors import Conflict
from sendledger.core.pagination import Page
from sendledger.core.tables import (
    campaign_leads,
    campaigns,
    emails,
    lead_batches,
    leads,
    past_contacts,
    scheduled_emails,
)
from sendledger.core.vocabulary import OPEN_CAMPAIGN_STATUSES, AuditAction, LeadBatchStatus

LEADS_PER_DELETION = 20_000
"""Deleting one lead takes about 40 µs, because five tables refer to it."""

UPLOADS = "imports/"
"""The prefix of uploaded files in the bucket. The id of the lead batch follows. The upload starts the import."""

UPLOAD_SECONDS = 3600
"""How long after its creation a lead batch accepts the upload of its file."""

NOTHING_COUNTED = dict.fromkeys(("total_leads", "successful_imports", "duplicates_skipped", "failed_imports"), 0)

_table = lead_batches


def create_pending(connection: sa.Connection, batch: Mapping[str, Any]) -> sa.RowMapping:
    """Store a lead batch that waits for the file `source_object`. `batch` has its name and other columns."""
    id_ = uuid4()
    values = {**batch, "id": id_, "status": LeadBatchStatus.PENDING, "source_object": f"{UPLOADS}{id_}.csv"}
    return connection.execute(sa.insert(_table).values(values).returning(_table)).mappings().one()


def with_settings(changes: Mapping[str, Any]) -> sa.ColumnElement[Any]:
    """The column `import_settings` with these changes."""
    return sa.func.coalesce(_table.c.import_settings, sa.literal({}, JSONB)).op("||")(sa.literal(dict(changes), JSONB))


def begin_again(
    connection: sa.Connection,
    lead_batch_id: UUID,
    columns: Mapping[str, str] | None,
    actor: str,
    *,
    dry_run: bool,
) -> sa.RowMapping:
    """Request the import of an uploaded file that was checked, or another check or import after a failure.

    `columns` says what columns are, None as before. An import that has failed goes on after the rows that are there.

    Raises:
        NotFound: there is no such lead batch.
        Conflict: it is at work or complete, has no file, or a part of the file is imported otherwise.
    """
    batch = by_id.row(connection, _table, lead_batch_id, "lead batch", lock=True)
    status, settings = batch["status"], batch["import_settings"] or {}
    if batch["source_object"] is None:
        raise Conflict("The lead batch has no uploaded file; import the file again.", status=status)
    if status not in (LeadBatchStatus.CHECKED, LeadBatchStatus.FAILED):
        message = f"The lead batch is {status}; the file of one that is checked or failed can be imported."
        raise Conflict(message, status=status)
    was_check = bool(settings.get("dry_run"))
    is_begun = bool(batch["total_leads"]) and not was_check
    if is_begun and (dry_run or (columns is not None and dict(columns) != settings.get("columns", {}))):
        message = f"{batch['total_leads']:,} rows of the file are imported; the import can only go on as it began."
        raise Conflict(message, status=status)
    chosen = settings.get("columns", {}) if columns is None else dict(columns)
    again = (
        sa.update(_table)
        .where(_table.c.id == lead_batch_id)
        .values(
            status=LeadBatchStatus.CHECKING if dry_run else LeadBatchStatus.IMPORTING,
            failure_reason=None,
            rejects_object=None,
            runs_without_progress=0,
            import_settings=with_settings({"columns": chosen, "dry_run": dry_run}),
            updated_at=sa.func.now(),
            **({} if is_begun else NOTHING_COUNTED),
        )
        .returning(_table)
    )
    detail = {"dry_run": dry_run}
    audit_log.record(connection, actor, AuditAction.LEAD_BATCH_IMPORT, "lead_batch", lead_batch_id, detail)
    return connection.execute(again).mappings().one()


def get(connection: sa.Connection, lead_batch_id: UUID) -> sa.RowMapping:
    """Raises:
    NotFound: there is no such lead batch.
    """
    return by_id.row(connection, _table, lead_batch_id, "lead batch")


def list_page(
    connection: sa.Connection,
    limit: int,
    cursor: str | None,
    *,
    status: str | None = None,
    sort: str = pagination.NEWEST_FIRST,
) -> Page:
    """A page of lead batches, in the order of `pagination.Order`."""
    query = sa.select(_table)
    if status is not None:
        query = query.where(_table.c.status == status)
    return pagination.sorted_page(connection, query, _table, limit, cursor, sort)


def delete(connection: sa.Connection, lead_batch_id: UUID, actor: str = SYSTEM) -> bool:
    """Delete a batch and its leads, as if the file had never been imported. Returns whether that is done.

    A batch with more than `LEADS_PER_DELETION` leads is only marked. `delete_until` does the rest.

    Raises:
        NotFound: there is no such lead batch.
        Conflict: a campaign that has not ended, or can be started again, uses it (`data["campaigns"]`), or a campaign
            has used one of its leads: what they were sent would be lost.
    """
    batch = by_id.row(connection, _table, lead_batch_id, "lead batch", lock=True)
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
    if users := by_id.named(connection, used_by):
        raise Conflict("A campaign uses this lead batch; it cannot be deleted.", campaigns=users)
    for table in (scheduled_emails, emails, past_contacts, campaign_leads):
        used = sa.select(leads.c.id).join(table, table.c.lead_id == leads.c.id).where(leads.c.batch_id == lead_batch_id)
        if connection.execute(used.limit(1)).first() is not None:
            raise Conflict("Leads of this batch belong to a campaign; delete single leads instead.")
    marked = (
        sa.update(_table)
        .where(_table.c.id == lead_batch_id)
        .values(status=LeadBatchStatus.DELETING, updated_at=sa.func.now())
    )
    connection.execute(marked)
    audit_log.record(connection, actor, AuditAction.LEAD_BATCH_DELETE, "lead_batch", lead_batch_id)
    return _delete_some(connection, lead_batch_id)


def delete_until(engine: sa.Engine, lead_batch_id: UUID, deadline: float) -> bool:
    """Continue a deletion, one transaction for each part, until `time.monotonic()` passes the deadline.

    Returns whether there is more to do.
    """
    while True:
        with engine.begin() as connection:
            if _delete_some(connection, lead_batch_id):
                return False
        if time.monotonic() >= deadline:
            return True


def _delete_some(connection: sa.Connection, lead_batch_id: UUID) -> bool:
    """Delete leads of a marked batch, and after the last one the batch. Returns whether the batch was deleted."""
    some = sa.select(leads.c.id).where(leads.c.batch_id == lead_batch_id).limit(LEADS_PER_DELETION)
    if connection.execute(sa.delete(leads).where(leads.c.id.in_(some))).rowcount < LEADS_PER_DELETION:
        connection.execute(
            sa.delete(_table).where(_table.c.id == lead_batch_id, _table.c.status == LeadBatchStatus.DELETING)
        )
        return True
    touched = sa.update(_table).where(_table.c.id == lead_batch_id).values(updated_at=sa.func.now())
    connection.execute(touched)
    return False
