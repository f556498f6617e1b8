"""Sender addresses: the mailboxes that campaigns send from, each with its own daily cap.

Reads and writes `sender_addresses`; reads `campaigns`; writes `audit_log`. A change counts from the next claim on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from email.utils import parseaddr
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from sendledger.core import audit_log, by_id, database, pagination
from sendledger.core.audit_log import SYSTEM
from sendledger.core.errors import Conflict, NotFound
from sendledger.core.pagination import Page
from sendledger.core.tables import campaigns, sender_addresses
from sendledger.core.vocabulary import UNDER_WAY_STATUSES, AuditAction

_table = sender_addresses
_ADDRESS_KEY = "sender_addresses_address_key"
"""The unique constraint: two caps for one mailbox would be none."""


def create(connection: sa.Connection, values: Mapping[str, Any], actor: str = SYSTEM) -> sa.RowMapping:
    """Store a sender; `values` are columns.

    Raises:
        Conflict: there is a sender with this address.
    """
    inserted = sa.insert(_table).values(_with_address(values)).returning(_table)
    created = _write(connection, inserted, values)
    assert created is not None  # noqa: S101 (for the type checker; an insert returns its row)
    audit_log.record(connection, actor, AuditAction.SENDER_ADDRESS_CREATE, "sender_address", created["id"])
    return created


def get(connection: sa.Connection, sender_id: UUID) -> sa.RowMapping:
    """Raises:
    NotFound: there is no such sender.
    """
    return by_id.row(connection, _table, sender_id, "sender")


def of_campaign(connection: sa.Connection, sender_ids: Sequence[UUID]) -> list[sa.RowMapping]:
    """The senders with these ids, in no order."""
    if not sender_ids:
        return []
    query = sa.select(_table).where(_table.c.id == sa.any_(sa.literal(list(sender_ids), sa.ARRAY(sa.UUID))))
    return list(connection.execute(query).mappings())


def is_under_way(connection: sa.Connection, sender_id: UUID) -> bool:
    """Whether a campaign that sends, or will send, has the sender."""
    under_way = campaigns.c.status.in_(UNDER_WAY_STATUSES)
    return connection.scalar(sa.select(campaigns.c.id).where(_has(sender_id), under_way).limit(1)) is not None


def list_page(connection: sa.Connection, limit: int, cursor: str | None, sort: str = pagination.NEWEST_FIRST) -> Page:
    """A page of senders, in the order of `pagination.Order`."""
    return pagination.sorted_page(connection, sa.select(_table), _table, limit, cursor, sort)


def update(
    connection: sa.Connection, sender_id: UUID, changes: Mapping[str, Any], actor: str = SYSTEM
) -> sa.RowMapping:
    """Change the given columns only.

    Raises:
        NotFound: there is no such sender.
        Conflict: there is another sender with this address.
    """
    before = get(connection, sender_id)
    if not changes:
        return before
    values = {**_with_address(changes), "updated_at": sa.func.now()}
    after = _write(
        connection, sa.update(_table).where(_table.c.id == sender_id).values(values).returning(_table), changes
    )
    if after is None:
        raise NotFound("sender", sender_id)
    # A higher cap lets running campaigns send more, so the log has the values before and after.
    shown = [{name: row[name] for name in sorted(changes)} for row in (before, after)]
    detail = {"fields": sorted(changes), "before": shown[0], "after": shown[1]}
    audit_log.record(connection, actor, AuditAction.SENDER_ADDRESS_UPDATE, "sender_address", sender_id, detail)
    return after


def delete(connection: sa.Connection, sender_id: UUID, actor: str = SYSTEM) -> None:
    """Delete a sender that no campaign has.

    Raises:
        NotFound: there is no such sender.
        Conflict: `data` names campaigns that have it. One that has ended counts too: what failed may be sent again.
    """
    by_id.row(connection, _table, sender_id, "sender", lock=True)
    if users := by_id.named(connection, sa.select(campaigns.c.id, campaigns.c.name).where(_has(sender_id))):
        raise Conflict("Campaigns use the sender; it cannot be deleted. Disable it instead.", campaigns=users)
    connection.execute(sa.delete(_table).where(_table.c.id == sender_id))
    audit_log.record(connection, actor, AuditAction.SENDER_ADDRESS_DELETE, "sender_address", sender_id)


def _has(sender_id: UUID) -> sa.ColumnElement[bool]:
    """Whether a campaign has the sender."""
    return sa.literal(sender_id, sa.UUID) == sa.any_(campaigns.c.sender_ids)


def _write(connection: sa.Connection, statement: sa.UpdateBase, values: Mapping[str, Any]) -> sa.RowMapping | None:
    try:
        with connection.begin_nested():
            return connection.execute(statement).mappings().one_or_none()
    except sa.exc.DBAPIError as error:
        if database.constraint(error) == _ADDRESS_KEY:
            message = f"There is a sender with the address {parseaddr(values['from_address'])[1]} already."
            raise Conflict(message) from error
        raise


def _with_address(values: Mapping[str, Any]) -> dict[str, Any]:
    if "from_address" not in values:
        return dict(values)
    return {**values, "address": parseaddr(values["from_address"])[1].lower()}
