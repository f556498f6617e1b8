"""Keyset pages: a query and a cursor in, one page and the next cursor out; stable while rows are written.

A cursor is opaque to callers: the sort key of the last item, as base64url of JSON. It carries no secret and no filter,
so the caller repeats the filters and the order with it.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from sendledger.errors import FieldError, InvalidInput
from sendledger.tables import UtcTimestamp

LARGEST_ID = 2**63 - 1
NEWEST_FIRST = "-created_at"


@dataclass(frozen=True)
class Page:
    """`next_cursor` is None on the last page."""

    items: Sequence[sa.RowMapping]
    next_cursor: str | None


def sorted_page(
    connection: sa.Connection,
    query: sa.Select[Any],
    table: sa.Table,
    limit: int,
    cursor: str | None,
    sort: str = NEWEST_FIRST,
) -> Page:
    """A page of a query that selects `id` and what it is sorted by: `created_at` or `name`, with - before it downwards.

    Rows of unknown age are older than all others.

    Raises:
        InvalidInput: the cursor is not one that a page has returned.
    """
    name, downwards = sort.lstrip("-"), sort.startswith("-")
    key: sa.ColumnElement[Any] = table.c[name]
    no_time: sa.ColumnElement[Any] = sa.literal_column("'-infinity'::timestamp", UtcTimestamp)
    if table.c[name].nullable:
        key = sa.func.coalesce(key, no_time)
    if cursor is not None:
        last_key, last_id = _decode_key_and_id(cursor, is_time=name == "created_at")
        after = sa.tuple_(
            no_time if last_key is None else sa.literal(last_key, table.c[name].type),
            sa.literal(last_id, table.c.id.type),
        )
        here = sa.tuple_(key, table.c.id)
        query = query.where(here < after if downwards else here > after)
    order = (key.desc(), table.c.id.desc()) if downwards else (key, table.c.id)
    rows = connection.execute(query.order_by(*order).limit(limit + 1)).mappings().all()
    if len(rows) <= limit:
        return Page(rows, None)
    last = rows[limit - 1]
    value = last[name].isoformat() if isinstance(last[name], dt.datetime) else last[name]
    return Page(rows[:limit], _encode(value, str(last["id"])))


def by_id(connection: sa.Connection, query: sa.Select[Any], table: sa.Table, limit: int, cursor: str | None) -> Page:
    """A page of a query that selects the integer `id` of `table`, in its order.

    Raises:
        InvalidInput: the cursor is not one that a page has returned.
    """
    if cursor is not None:
        query = query.where(table.c.id > _decode_id(cursor))
    rows = connection.execute(query.order_by(table.c.id).limit(limit + 1)).mappings().all()
    if len(rows) <= limit:
        return Page(rows, None)
    return Page(rows[:limit], _encode(rows[limit - 1]["id"]))


def _encode(*key: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(key, separators=(",", ":")).encode()).rstrip(b"=").decode()


def _decode_key_and_id(cursor: str, *, is_time: bool) -> tuple[dt.datetime | str | None, UUID]:
    key: dt.datetime | str | None
    match _decode(cursor):
        case [None, str(id_)] if is_time:
            key = None
        case [str(text), str(id_)]:
            key = _time(text) if is_time else text
        case _:
            raise _bad_cursor()
    try:
        return key, UUID(id_)
    except ValueError:
        raise _bad_cursor() from None


def _decode_id(cursor: str) -> int:
    match _decode(cursor):
        case [int(id_)] if 0 <= id_ <= LARGEST_ID:
            return id_
        case _:
            raise _bad_cursor()


def _decode(cursor: str) -> Any:
    try:
        decoded = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        return json.loads(decoded)
    except (ValueError, binascii.Error, RecursionError):
        raise _bad_cursor() from None


def _time(text: str) -> dt.datetime:
    try:
        time = dt.datetime.fromisoformat(text)
    except ValueError:
        raise _bad_cursor() from None
    if time.utcoffset() != dt.timedelta(0):
        raise _bad_cursor()
    return time


def _bad_cursor() -> InvalidInput:
    return InvalidInput(
        "The cursor is not valid.", [FieldError("cursor", "must be the next_cursor of an earlier page, unchanged")]
    )
