"""The audit log: who did what to which thing, written in the transaction of the change. Uses `audit_log`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from sendledger.core.pagination import Order, Page, page_of
from sendledger.core.tables import audit_log

_INDEXED = ("entity_id", "actor")
"""Filters that match few entries. A page by action or by kind of thing is read in the order of ids instead."""


SYSTEM = "sendledger"
"""The actor of automatic changes."""


def record(
    connection: sa.Connection,
    actor: str,
    action: str,
    entity_type: str,
    entity_id: object,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Append one entry in the caller's transaction. It can never be changed afterwards."""
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
    order = Order(audit_log, sort)
    filters = {"entity_id": entity_id, "actor": actor, "action": action, "entity_type": entity_type}
    query = sa.select(audit_log)
    for name, value in filters.items():
        if value is None:
            continue
        if order.within is None and name in _INDEXED:
            order = replace(order, within=audit_log.c[name], value=value)
        else:
            query = query.where(audit_log.c[name] == value)
    query = query.where(*order.after(cursor)).order_by(*order.by()).limit(limit + 1)
    return page_of(connection.execute(query).mappings().all(), order, limit)
