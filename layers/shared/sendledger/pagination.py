"""Keyset pages: a query and a cursor in, one page and the next cursor out; stable while rows are written.

A cursor is opaque to callers: the sort key of the last item, as base64url of JSON. It carries no secret and no filter,
so the caller repeats the filters with it.
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


@dataclass(frozen=True)
class Page:
    """`next_cursor` is None on the last page."""

    items: Sequence[sa.RowMapping]
    next_cursor: str | None


def newest_first(
    connection: sa.Connection, query: sa.Select[Any], table: sa.Table, limit: int, cursor: str | None
) -> Page:
    """A page of a query that selects `created_at` and `id` of `table`; rows of unknown age come last.

    Raises:
        InvalidInput: the cursor is not one that a page has returned.
    """
    no_time: sa.ColumnElement[Any] = sa.literal_column("'-infinity'::timestamp", UtcTimestamp)
    created_at: sa.ColumnElement[Any] = table.c.created_at
    if table.c.created_at.nullable:
        created_at = sa.func.coalesce(created_at, no_time)
    if cursor is not None:
        last_time, last_id = _decode_time_and_id(cursor)
        after = no_time if last_time is None else sa.literal(last_time, table.c.created_at.type)
        query = query.where(sa.tuple_(created_at, table.c.id) < sa.tuple_(after, sa.literal(last_id, table.c.id.type)))
    rows = connection.execute(query.order_by(created_at.desc(), table.c.id.desc()).limit(limit + 1)).mappings().all()
    if len(rows) <= limit:
        return Page(rows, None)
    last = rows[limit - 1]
    return Page(rows[:limit], _encode(last["created_at"] and last["created_at"].isoformat(), str(last["id"])))


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


def _decode_time_and_id(cursor: str) -> tuple[dt.datetime | None, UUID]:
    match _decode(cursor):
        case [None, str(id_)]:
            time = None
        case [str(text), str(id_)]:
            time = _time(text)
        case _:
            raise _bad_cursor()
    try:
        return time, UUID(id_)
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
