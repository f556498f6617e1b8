"""Segments as records: create, read, change, delete. Reads and writes `segments`; writes `audit_log`.

Reads what the conditions of a segment refer to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from sendledger.core import audit_log, by_id, pagination
from sendledger.core.errors import Conflict, FieldError, InvalidInput
from sendledger.core.pagination import Page
from sendledger.core.tables import campaigns, lead_batches, leads, segments
from sendledger.core.vocabulary import OPEN_CAMPAIGN_STATUSES, AuditAction
from sendledger.segments.conditions import BatchCondition, CampaignCondition, Condition, check_size, of_json, walk
from sendledger.segments.matching_leads import matching

_table = segments
_NEEDS_IT = campaigns.c.status.in_(OPEN_CAMPAIGN_STATUSES)
_IS_SCHEDULING = campaigns.c.background_work.op("@>")(sa.literal([{"kind": "schedule"}], JSONB))


def create(connection: sa.Connection, name: str, filter_: Condition, actor: str) -> sa.RowMapping:
    """Store a segment.

    Raises:
        InvalidInput: the filter is too large, or refers to what does not exist.
    """
    _check(connection, filter_)
    values = {"name": name, "filter": filter_.model_dump(mode="json")}
    created = connection.execute(sa.insert(_table).values(values).returning(_table)).mappings().one()
    audit_log.record(connection, actor, AuditAction.SEGMENT_CREATE, "segment", created["id"])
    return created


def get(connection: sa.Connection, segment_id: UUID) -> sa.RowMapping:
    """Raises:
    NotFound: there is no such segment.
    """
    return by_id.row(connection, _table, segment_id, "segment")


def list_page(connection: sa.Connection, limit: int, cursor: str | None, sort: str = pagination.NEWEST_FIRST) -> Page:
    """A page of segments, in the order of `pagination.Order`."""
    return pagination.sorted_page(connection, sa.select(_table), _table, limit, cursor, sort)


def update(
    connection: sa.Connection, segment_id: UUID, name: str | None, filter_: Condition | None, actor: str
) -> sa.RowMapping:
    """Change what is given.

    Raises:
        NotFound: there is no such segment.
        InvalidInput: as in `create`.
        Conflict: the filter would change while a campaign that has started with it is still being scheduled.
    """
    by_id.row(connection, _table, segment_id, "segment", lock=True)
    changes: Mapping[str, Any] = {"name": name} if name is not None else {}
    if filter_ is not None:
        _check(connection, filter_)
        if users := _users(connection, segment_id, _IS_SCHEDULING):
            message = "A campaign with this segment is still being scheduled; try again in a few minutes."
            raise Conflict(message, campaigns=users)
        changes = {**changes, "filter": filter_.model_dump(mode="json")}
    if changes:
        changed = sa.update(_table).where(_table.c.id == segment_id).values({**changes, "updated_at": sa.func.now()})
        connection.execute(changed)
        detail = {"fields": sorted(changes)}
        audit_log.record(connection, actor, AuditAction.SEGMENT_UPDATE, "segment", segment_id, detail)
    return get(connection, segment_id)


def delete(connection: sa.Connection, segment_id: UUID, actor: str) -> None:
    """Raises:
    NotFound: there is no such segment.
    Conflict: a campaign that has not ended, or can be started again, uses it; `data["campaigns"]`.
    """
    by_id.row(connection, _table, segment_id, "segment", lock=True)
    if users := _users(connection, segment_id, _NEEDS_IT):
        names = ", ".join(repr(user["name"]) for user in users)
        raise Conflict(f"The segment is in use by {names}; it cannot be deleted.", campaigns=users)
    connection.execute(sa.delete(_table).where(_table.c.id == segment_id))
    audit_log.record(connection, actor, AuditAction.SEGMENT_DELETE, "segment", segment_id)


def _users(connection: sa.Connection, segment_id: UUID, which: sa.ColumnElement[bool]) -> list[dict[str, str]]:
    """The campaigns with the segment of which `which` is true."""
    has_it = sa.literal(segment_id, sa.UUID) == sa.any_(campaigns.c.segment_ids)
    return by_id.named(connection, sa.select(campaigns.c.id, campaigns.c.name).where(has_it, which))


def condition_of(connection: sa.Connection, segment_id: UUID) -> sa.ColumnElement[bool]:
    """The condition on `leads` that a segment is.

    Raises:
        NotFound: there is no such segment.
    """
    return matching(of_json(get(connection, segment_id)["filter"]))


def count(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> int:
    """How many leads there are now on which the condition is true."""
    return int(connection.scalar(sa.select(sa.func.count()).select_from(leads).where(condition)) or 0)


def _check(connection: sa.Connection, filter_: Condition) -> None:
    check_size(filter_)
    if errors := list(_missing(connection, filter_)):
        raise InvalidInput("The segment is not valid.", errors)


def _missing(connection: sa.Connection, filter_: Condition) -> Iterator[FieldError]:
    named: dict[str, tuple[str, sa.Table, UUID]] = {}
    for path, condition in walk(filter_, "filter"):
        if isinstance(condition, BatchCondition):
            named[f"{path}.batch_id"] = ("lead batch", lead_batches, condition.batch_id)
        elif isinstance(condition, CampaignCondition):
            named[f"{path}.campaign_id"] = ("campaign", campaigns, condition.campaign_id)
    for table in {table for _, table, _ in named.values()}:
        ids = [id_ for _, other, id_ in named.values() if other is table]
        known = sa.select(table.c.id).where(table.c.id == sa.any_(sa.literal(ids, sa.ARRAY(sa.UUID))))
        found = set(connection.scalars(known))
        for path, (what, other, id_) in named.items():
            if other is table and id_ not in found:
                yield FieldError(path, f"there is no {what} with the id {id_}")
