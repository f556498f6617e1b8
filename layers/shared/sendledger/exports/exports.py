"""Exports: requests for a file, and their progress. Reads and writes `exports`."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import sqlalchemy as sa

from sendledger.campaigns.removed_history import check_not_removed
from sendledger.core import audit_log, by_id, pagination
from sendledger.core.errors import FieldError, InvalidInput
from sendledger.core.pagination import Page
from sendledger.core.tables import campaigns, exports
from sendledger.core.vocabulary import AuditAction, ExportStatus, RemovalKind

MOST_ATTEMPTS = 3
"""After this many interrupted attempts an export fails."""

_table = exports


def create(
    connection: sa.Connection,
    kind: str,
    campaign_id: UUID | None,
    filters: dict[str, Any],
    actor: str,
    made_for: str | None = None,
) -> sa.RowMapping:
    """Store an export that waits to be written.

    Raises:
        InvalidInput: there is no such campaign.
        Conflict: the ledger of the campaign was removed, in whole or in part.
    """
    if campaign_id is not None:
        # Locked, so that nothing is removed between the check and the commit; afterwards retention waits.
        locked = sa.select(campaigns.c.id).filter_by(id=campaign_id).with_for_update(read=True, key_share=True)
        if connection.scalar(locked) is None:
            message = f"there is no campaign with the id {campaign_id}"
            raise InvalidInput("The request is not valid.", [FieldError("campaign_id", message)])
        check_not_removed(connection, campaign_id, [RemovalKind.LEDGER])
    values = {"kind": kind, "campaign_id": campaign_id, "filters": filters, "requested_by": actor, "made_for": made_for}
    created = connection.execute(sa.insert(_table).values(values).returning(_table)).mappings().one()
    # Audited, because personal data leaves the system.
    detail = {"kind": kind, "campaign_id": campaign_id and str(campaign_id), "filters": filters}
    audit_log.record(connection, actor, AuditAction.EXPORT_CREATE, "export", created["id"], detail)
    return created


def get(connection: sa.Connection, export_id: UUID) -> sa.RowMapping:
    """Raises:
    NotFound: there is no such export.
    """
    return by_id.row(connection, _table, export_id, "export")


def list_page(
    connection: sa.Connection,
    limit: int,
    cursor: str | None,
    *,
    kind: str | None = None,
    status: str | None = None,
    campaign_id: UUID | None = None,
    sort: str = pagination.NEWEST_FIRST,
) -> Page:
    """A page of exports that fit every filter given."""
    query = sa.select(_table)
    for column, value in ((_table.c.kind, kind), (_table.c.status, status), (_table.c.campaign_id, campaign_id)):
        if value is not None:
            query = query.where(column == value)
    return pagination.sorted_page(connection, query, _table, limit, cursor, sort)


def unfinished(connection: sa.Connection) -> list[UUID]:
    """The exports that no run seems to work on, oldest first."""
    age = sa.func.now() - _table.c.updated_at
    left_behind = sa.or_(
        sa.and_(_table.c.status == ExportStatus.PENDING, age > sa.text("interval '1 min'")),
        sa.and_(_table.c.status == ExportStatus.RUNNING, age > sa.text("interval '10 min'")),
    )
    return list(connection.scalars(sa.select(_table.c.id).where(left_behind).order_by(_table.c.updated_at)))


def begin(connection: sa.Connection, export_id: UUID) -> sa.RowMapping | None:
    """Begin an attempt and count it. None if there is nothing to do: it has ended, was deleted, or fails now."""
    begun = _table.update().values(
        status=ExportStatus.RUNNING, attempts=_table.c.attempts + 1, rows_written=0, updated_at=sa.func.now()
    )
    row = connection.execute(begun.where(_is_open(export_id)).returning(_table)).mappings().one_or_none()
    if row is not None and row["attempts"] > MOST_ATTEMPTS:
        fail(connection, export_id, f"It was interrupted {MOST_ATTEMPTS} times; see the log.")
        return None
    return row


def note_progress(connection: sa.Connection, export_id: UUID, rows_written: int) -> None:
    values = {"rows_written": rows_written, "updated_at": sa.func.now()}
    connection.execute(sa.update(_table).where(_is_open(export_id)).values(values))


def complete(connection: sa.Connection, export_id: UUID, object_key: str, rows_written: int) -> None:
    now = sa.func.now()
    values = {"object_key": object_key, "rows_written": rows_written, "completed_at": now, "updated_at": now}
    connection.execute(sa.update(_table).where(_is_open(export_id)).values(status=ExportStatus.COMPLETED, **values))


def fail(connection: sa.Connection, export_id: UUID, reason: str) -> None:
    values = {"status": ExportStatus.FAILED, "failure_reason": reason, "updated_at": sa.func.now()}
    connection.execute(sa.update(_table).where(_is_open(export_id)).values(values))


def _is_open(export_id: UUID) -> sa.ColumnElement[bool]:
    return sa.and_(_table.c.id == export_id, _table.c.status.in_((ExportStatus.PENDING, ExportStatus.RUNNING)))
