"""Keyset pagination: a query and a cursor go in, one page and the next cursor come out. Pages are stable while rows are
written.

A cursor is opaque to callers: the list, its order and the sort key of the last item, as base64url of JSON. It carries
no secret and no filter, so the caller repeats the filters and the order with it. A cursor of another list, or of the
same list in another order, is refused.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.sql.visitors import replacement_traverse

from sendledger.core.errors import FieldError, InvalidInput
from sendledger.core.postgres_values import is_infinite

LARGEST_ID = 2**63 - 1
NEWEST_FIRST = "-created_at"

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


@dataclass(frozen=True)
class Page:
    """`next_cursor` is None on the last page."""

    items: Sequence[sa.RowMapping | dict[str, Any]]
    next_cursor: str | None


@dataclass(frozen=True)
class Order:
    """The order of a list: by a column of `table`, descending with a - before it, then by `id`. Rows without a time
    count as the oldest. The column should rarely change: a row that moves while a client pages through the list may be
    seen twice or not at all.

    `within` is what has one `value` in the whole list and comes first in an index. It is compared as a range and is
    part of the order, so that only this index fits. Equality would let the planner scan a large table by id.
    """

    table: sa.Table
    sort: str = NEWEST_FIRST
    within: sa.ColumnElement[Any] | None = None
    value: object = None

    def by(self, rows: sa.FromClause | None = None) -> list[sa.ColumnElement[Any]]:
        """What to order by; `rows` is a selection of the table's columns, if the query reads one."""
        keys = [_not_null(column) for column in self._columns(self.table if rows is None else rows)]
        if self.within is not None and rows is None:
            keys.insert(0, self.within)
        return [key.desc() for key in keys] if self._is_downwards else keys

    def after(self, cursor: str | None) -> list[sa.ColumnElement[bool]]:
        """The conditions for rows of the list that come after the cursor.

        Raises:
            InvalidInput: the cursor is not one that a page of this list in this order has returned.
        """
        inside = [] if self.within is None else [self.within >= self.value, self.within <= self.value]
        if cursor is None:
            return inside
        columns = self._columns(self.table)
        match _decode(cursor):
            case [self.table.name, self.sort, *values] if len(values) == len(columns):
                last = [_literal(column, value) for column, value in zip(columns, values, strict=True)]
                last[0] = self._exact(columns[0], last)
            case _:
                raise _bad_cursor()
        here = [_not_null(column) for column in columns]
        if self.within is None:
            row, end = sa.tuple_(*here), sa.tuple_(*last)
            return [row < end if self._is_downwards else row > end]
        value = self.value if isinstance(self.value, sa.ColumnElement) else sa.literal(self.value, self.within.type)
        # No < or >: the planner would estimate from the first column alone that no rows are left.
        row, end = sa.tuple_(self.within, *here), sa.tuple_(value, *last)
        return [*inside, row <= end if self._is_downwards else row >= end, columns[-1] != last[-1]]

    def _exact(self, column: sa.ColumnElement[Any], last: Sequence[sa.ColumnElement[Any]]) -> sa.ColumnElement[Any]:
        """The first key. For a time that Python cannot hold, the stored value is used while its row exists."""
        key = last[0]
        if not (isinstance(key, sa.BindParameter) and isinstance(key.value, dt.datetime) and is_infinite(key.value)):
            return key
        rows = self.table.alias("last")
        stored = sa.select(_not_null(rows.c[self.sort.lstrip("-")])).where(rows.c.id == last[-1]).scalar_subquery()
        return sa.func.coalesce(stored, key, type_=column.type)

    def cursor(self, row: sa.RowMapping) -> str:
        """The cursor of a page that ends with this row, which has the columns by their names."""
        key = [row[column.name] for column in self._columns(self.table)]
        shown = [value.isoformat() if isinstance(value, dt.datetime) else value for value in key]
        text = json.dumps([self.table.name, self.sort, *shown], default=str, separators=(",", ":"), ensure_ascii=False)
        return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()

    @property
    def _is_downwards(self) -> bool:
        return self.sort.startswith("-")

    def _columns(self, rows: sa.FromClause) -> list[sa.ColumnElement[Any]]:
        name = self.sort.lstrip("-")
        return [rows.c.id] if name == "id" else [rows.c[name], rows.c.id]


def sorted_page(
    connection: sa.Connection,
    query: sa.Select[Any],
    table: sa.Table,
    limit: int,
    cursor: str | None,
    sort: str = NEWEST_FIRST,
) -> Page:
    """A page of a query that selects `id` of `table`, and the column of it that it is sorted by; see `Order`.

    Raises:
        InvalidInput: the cursor is not one that a page of this list in this order has returned.
    """
    order = Order(table, sort)
    query = query.where(*order.after(cursor)).order_by(*order.by()).limit(limit + 1)
    return page_of(connection.execute(query).mappings().all(), order, limit)


def first_rows(query: sa.Select[Any], order: Order, cursor: str | None, most: int) -> sa.Subquery:
    """The first rows after the cursor of a query on one table, under the table's name, with their sort keys.

    The limit lets the planner read them by the index of the order, whatever it knows of conditions on them.
    """
    keys = (_not_null(column).label(f"key_{place}") for place, column in enumerate(order._columns(order.table)))
    rows = query.with_only_columns(*order.table.c, *keys).where(*order.after(cursor))
    return rows.order_by(*order.by()).limit(most).subquery(order.table.name)


def of_rows(condition: sa.ColumnElement[bool], table: sa.Table, rows: sa.Subquery) -> sa.ColumnElement[bool]:
    """A condition on a table as one on `first_rows` of it."""

    def replaced(element: Any, **_: Any) -> Any:
        return rows.c[element.key] if isinstance(element, sa.Column) and element.table is table else None

    return replacement_traverse(condition, {}, replaced)


def scanned_page(
    connection: sa.Connection,
    query: sa.Select[Any],
    condition: sa.ColumnElement[bool],
    order: Order,
    limit: int,
    cursor: str | None,
    scan_limit: int,
) -> Page:
    """As `sorted_page` for the rows of the query with this condition, but only `scan_limit` rows are looked at.

    So the page may be short or empty although others follow. Its time does not depend on how many rows fit.
    """
    table = order.table
    rows = first_rows(query, order, cursor, scan_limit)
    keys = [column for column in rows.c if column.key.startswith("key_")]
    by = [key.desc() for key in keys] if order._is_downwards else keys
    fitting = sa.select(*order._columns(rows), *keys, sa.true().label("fits")).where(of_rows(condition, table, rows))
    page = fitting.order_by(*by).limit(limit + 1).cte("fitting")
    is_short = sa.select(sa.func.count() <= limit).select_from(page).scalar_subquery()
    here = [_not_null(column).label(key.key) for column, key in zip(order._columns(table), keys, strict=True)]
    looked_at = query.with_only_columns(*order._columns(table), *here, sa.false().label("fits"))
    end = looked_at.where(*order.after(cursor), is_short).order_by(*order.by()).offset(scan_limit - 1).limit(1)
    # One statement: rows that are deleted between two would move one of the ends only.
    both = sa.union_all(sa.select(page), sa.select(end.subquery("last"))).subquery("both")
    sorted_by = [both.c[key.key].desc() if order._is_downwards else both.c[key.key] for key in keys]
    seen = connection.execute(sa.select(both).order_by(both.c.fits.desc(), *sorted_by)).mappings().all()
    fits = [row for row in seen if row["fits"]]
    ids = sa.literal([row["id"] for row in fits[:limit]], sa.ARRAY(table.c.id.type))
    found = connection.execute(query.where(table.c.id == sa.any_(ids)).order_by(*order.by())).mappings().all()
    if len(fits) > limit:
        return Page(found, order.cursor(fits[limit - 1]))
    return Page(found, order.cursor(seen[-1]) if len(seen) > len(fits) else None)


def page_of(rows: Sequence[sa.RowMapping], order: Order, limit: int) -> Page:
    """The page that begins with these rows. They are one more than fit, if there is a next page."""
    if len(rows) <= limit:
        return Page(rows, None)
    return Page(rows[:limit], order.cursor(rows[limit - 1]))


def _not_null(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    return sa.func.coalesce(column, _no_time(column)) if _is_nullable(column) else column


def _is_nullable(column: sa.ColumnElement[Any]) -> bool:
    return bool(getattr(column, "nullable", False))


def _no_time(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    # Exactly as in the indexes, so that these are used. The old application's times have no zone.
    zoned = getattr(column.type, "timezone", False)
    return sa.literal_column("'-infinity'::timestamptz" if zoned else "'-infinity'::timestamp", column.type)


def _literal(column: sa.ColumnElement[Any], value: object) -> sa.ColumnElement[Any]:
    """Raises:
    InvalidInput: no value of this column looks like this.
    """
    type_ = column.type
    kind = type_.impl_instance.python_type if isinstance(type_, sa.TypeDecorator) else type_.python_type
    if value is None and kind is dt.datetime and _is_nullable(column):
        return _no_time(column)
    if kind is int:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= LARGEST_ID:
            raise _bad_cursor()
        return sa.literal(value, type_)
    if not isinstance(value, str) or _UNSTORABLE.search(value):
        raise _bad_cursor()
    try:
        parsed = dt.datetime.fromisoformat(value) if kind is dt.datetime else UUID(value) if kind is UUID else value
    except ValueError:
        raise _bad_cursor() from None
    if isinstance(parsed, dt.datetime) and parsed.utcoffset() != dt.timedelta(0):
        raise _bad_cursor()
    return sa.literal(parsed, type_)


def _decode(cursor: str) -> Any:
    try:
        decoded = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        return json.loads(decoded)
    except (ValueError, binascii.Error, RecursionError):
        raise _bad_cursor() from None


def _bad_cursor() -> InvalidInput:
    message = "must be the next_cursor of an earlier page of this list in the same order, unchanged"
    return InvalidInput("The cursor is not valid.", [FieldError("cursor", message)])
