"""The audit log: who did what to which thing, written in the transaction of the deed itself. Uses `audit_log`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from sendledger.pagination import Page, sorted_page
from sendledger.tables import audit_log


def record(
    connection: sa.Connection,
    actor: str,
    action: str,
    entity_type: str,
    entity_id: object,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Append one entry; it stands or falls with the caller's transaction and can never be changed afterwards."""
    connection.execute(
        sa.insert(audit_log).values(
            actor=actor,
            action=action,
            entity_type=entity_type,
            entity_id=str(entity_id),
            detail=dict(detail or {}),
        )
    )


def list_page(
    connection: sa.Connection,
    limit: int,
    cursor: str | None,
    *,
    actor: str | None = None,
    action: str | None = None,
    entity_type: str | None = None,
    entity_id: str | None = None,
    sort: str = "id",
) -> Page:
    """A page of entries, oldest first or with `sort` "-id" newest first, of those that fit every filter given."""
    filters = {"actor": actor, "action": action, "entity_type": entity_type, "entity_id": entity_id}
    query = sa.select(audit_log)
    for name, value in filters.items():
        if value is not None:
            query = query.where(audit_log.c[name] == value)
    return sorted_page(connection, query, audit_log, limit, cursor, sort)
