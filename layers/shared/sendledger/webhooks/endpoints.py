"""Webhook endpoints: where events go, which ones, and what became of them.

Reads and writes `webhook_endpoints` and `webhook_deliveries`; writes `audit_log`. The caller owns the transaction.
"""

from __future__ import annotations

import base64
import datetime as dt
import ipaddress
import json
import re
import secrets
import socket
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import sqlalchemy as sa

from sendledger.core import audit_log, by_id, pagination
from sendledger.core.errors import Conflict, FieldError, InvalidInput, NotFound
from sendledger.core.pagination import Order, Page, page_of
from sendledger.core.tables import campaigns, webhook_deliveries, webhook_endpoints
from sendledger.core.vocabulary import AuditAction, WebhookDeliveryStatus, WebhookEventType
from sendledger.webhooks.targets import is_public

MOST_ENDPOINTS = 20
"""Each event is written once for each endpoint that wants it."""
OLD_SECRET_SIGNS_FOR = dt.timedelta(days=1)
DISABLED_BY_HAND = "Disabled by a person."

_table = webhook_endpoints
_LOCK = 0x77656268


def new_secret() -> str:
    """A secret as Standard Webhooks writes it: https://github.com/standard-webhooks/standard-webhooks"""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def check_url(url: str, *, any_target: bool) -> None:
    """Refuse what can never be delivered to. Where a name leads is checked at each connection, not here.

    Raises:
        InvalidInput
    """
    message = None
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host, message = urlsplit(""), None, "must be a URL such as https://example.com/webhooks"
    if message is None:
        if parts.scheme != "https" and not (any_target and parts.scheme == "http"):
            message = "must begin with https://"
        elif not host or not re.fullmatch(r"[!-~]{1,2000}", url):
            message = "must be a URL of printable ASCII, such as https://example.com/webhooks"
        elif parts.username is not None or parts.password is not None:
            message = "must not contain a user name or a password"
        elif parts.fragment:
            message = "must not contain a fragment (#…)"
        elif not any_target and _is_private(host):
            message = "must be an address that is reachable from the internet"
    if message is not None:
        raise InvalidInput("The webhook endpoint is not valid.", [FieldError("url", message)])


def _is_private(host: str) -> bool:
    try:
        return not is_public(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        # Forms of IPv4 that a resolver takes: 0x7f.1, 2130706433.
        return not is_public(ipaddress.IPv4Address(socket.inet_aton(host)))
    except OSError:
        return host == "localhost" or host.endswith((".localhost", ".internal", ".local"))


def create(connection: sa.Connection, values: Mapping[str, Any], actor: str, *, any_target: bool) -> sa.RowMapping:
    """A new endpoint, with its secret. It gets what happens from the commit on.

    Raises:
        InvalidInput: the URL is not possible, or there is no such campaign.
        Conflict: there are `MOST_ENDPOINTS`.
    """
    _check(connection, values, any_target)
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    if (connection.scalar(sa.select(sa.func.count()).select_from(_table)) or 0) >= MOST_ENDPOINTS:
        raise Conflict(f"There are {MOST_ENDPOINTS} webhook endpoints already; delete one first.")
    insert = sa.insert(_table).values(**values, secret=new_secret(), created_by=actor).returning(_table)
    created = connection.execute(insert).mappings().one()
    audit_log.record(connection, actor, AuditAction.WEBHOOK_ENDPOINT_CREATE, "webhook_endpoint", created["id"])
    return created


def update(
    connection: sa.Connection, endpoint_id: UUID, changes: Mapping[str, Any], actor: str, *, any_target: bool
) -> sa.RowMapping:
    """Change the given fields. Enabling an endpoint forgets its failures, and its events go on being delivered.

    Raises:
        NotFound, InvalidInput
    """
    _check(connection, changes, any_target)
    values = dict(changes)
    if values.get("is_enabled") is True:
        values |= {"disabled_reason": None, **_NO_FAILURES}
    elif values.get("is_enabled") is False:
        values["disabled_reason"] = sa.func.coalesce(_table.c.disabled_reason, DISABLED_BY_HAND)
    if "url" in values:
        values |= _NO_FAILURES
    changed = _change(connection, endpoint_id, values)
    if "failures" in values:
        # The 24 hours of what waits begin anew.
        table = webhook_deliveries
        waiting = (table.c.endpoint_id == endpoint_id, table.c.status == WebhookDeliveryStatus.PENDING)
        connection.execute(sa.update(table).where(*waiting).values(attempts=0, first_attempt_at=None))
    detail = {"fields": sorted(changes)}
    audit_log.record(connection, actor, AuditAction.WEBHOOK_ENDPOINT_UPDATE, "webhook_endpoint", endpoint_id, detail)
    return changed


_NO_FAILURES: Mapping[str, Any] = {"failures": 0, "failing_since": None, "next_attempt_at": sa.func.now()}


def _change(connection: sa.Connection, endpoint_id: UUID, values: Mapping[str, Any]) -> sa.RowMapping:
    statement = sa.update(_table).where(_table.c.id == endpoint_id).values(**values, updated_at=sa.func.now())
    changed = connection.execute(statement.returning(_table)).mappings().one_or_none()
    if changed is None:
        raise NotFound("webhook endpoint", endpoint_id)
    return changed


def _check(connection: sa.Connection, values: Mapping[str, Any], any_target: bool) -> None:
    if "url" in values:
        check_url(values["url"], any_target=any_target)
    wanted = values.get("campaign_ids")
    if wanted is not None:
        known = set(connection.scalars(sa.select(campaigns.c.id).where(campaigns.c.id.in_(wanted))))
        missing = [
            FieldError(f"campaign_ids.{index}", f"there is no campaign with the id {id_}")
            for index, id_ in enumerate(wanted)
            if id_ not in known
        ]
        if missing:
            raise InvalidInput("The webhook endpoint is not valid.", missing)


def get(connection: sa.Connection, endpoint_id: UUID) -> sa.RowMapping:
    """Raises:
    NotFound
    """
    return by_id.row(connection, _table, endpoint_id, "webhook endpoint")


def list_page(connection: sa.Connection, limit: int, cursor: str | None, sort: str = pagination.NEWEST_FIRST) -> Page:
    """A page of endpoints."""
    return pagination.sorted_page(connection, sa.select(_table), _table, limit, cursor, sort)


def delete(connection: sa.Connection, endpoint_id: UUID, actor: str) -> None:
    """Delete an endpoint. Its deliveries are handed out no more, and the next run deletes them.

    Raises:
        NotFound
    """
    if connection.execute(sa.delete(_table).where(_table.c.id == endpoint_id)).rowcount == 0:
        raise NotFound("webhook endpoint", endpoint_id)
    audit_log.record(connection, actor, AuditAction.WEBHOOK_ENDPOINT_DELETE, "webhook_endpoint", endpoint_id)


def rotate_secret(connection: sa.Connection, endpoint_id: UUID, actor: str) -> sa.RowMapping:
    """Another secret. For a day the one before signs too, so that receivers have time to change theirs.

    Raises:
        NotFound
    """
    values = {
        "secret": new_secret(),
        "previous_secret": _table.c.secret,
        "previous_secret_until": sa.func.now() + OLD_SECRET_SIGNS_FOR,
    }
    changed = _change(connection, endpoint_id, values)
    audit_log.record(connection, actor, AuditAction.WEBHOOK_ENDPOINT_ROTATE, "webhook_endpoint", endpoint_id)
    return changed


def add_test(connection: sa.Connection, endpoint_id: UUID) -> sa.RowMapping:
    """An event that says nothing, for this endpoint only.

    Raises:
        NotFound
        Conflict: the endpoint is disabled.
    """
    if not get(connection, endpoint_id)["is_enabled"]:
        raise Conflict("This webhook endpoint is disabled; enable it first.")
    values = {"endpoint_id": endpoint_id, "event_type": WebhookEventType.WEBHOOK_TEST, "data": {}}
    insert = sa.insert(webhook_deliveries).values(values).returning(webhook_deliveries)
    return connection.execute(insert).mappings().one()


def count_disabled(connection: sa.Connection) -> int:
    """Endpoints that were disabled because they failed, and not by a person."""
    disabled = sa.select(sa.func.count()).where(~_table.c.is_enabled, _table.c.disabled_reason != DISABLED_BY_HAND)
    return connection.scalar(disabled.select_from(_table)) or 0


def list_deliveries(
    connection: sa.Connection,
    endpoint_id: UUID,
    limit: int,
    cursor: str | None,
    *,
    status: str | None = None,
    event_type: str | None = None,
) -> Page:
    """A page of the deliveries to an endpoint, newest first.

    Raises:
        NotFound
    """
    get(connection, endpoint_id)
    table = webhook_deliveries
    order = Order(table, "-id", within=table.c.endpoint_id, value=endpoint_id)
    query = sa.select(table)
    for column, value in ((table.c.status, status), (table.c.event_type, event_type)):
        if value is not None:
            query = query.where(column == value)
    query = query.where(*order.after(cursor)).order_by(*order.by()).limit(limit + 1)
    return page_of(connection.execute(query).mappings().all(), order, limit)


def content(delivery: Mapping[str, Any], address: str | None) -> str:
    """The body of an event. It is the same in each attempt, but for an address that was erased since."""
    data = delivery["data"] if address is None else {**delivery["data"], "address": address}
    event = {"type": delivery["event_type"], "timestamp": delivery["occurred_at"].isoformat(), "data": data}
    return json.dumps(event, ensure_ascii=False, separators=(",", ":"))
