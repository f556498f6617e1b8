"""One row by its id, and the names of the things that use it, for errors that say so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from sendledger.core.errors import NotFound

MOST_NAMED = 20
"""How many things a refusal names."""


def row(
    connection: sa.Connection,
    table: sa.Table,
    id_: UUID,
    what: str,
    columns: Sequence[sa.ColumnElement[Any]] = (),
    *,
    lock: bool = False,
) -> sa.RowMapping:
    """The columns of a row, all of them if none are named. `lock` holds the row until the transaction ends.

    Look for what uses the row in the next statement: whoever was about to refer to it has committed or waits.

    Raises:
        NotFound: the table has no such row; `what` says what it would be.
    """
    query = sa.select(*columns or (table,)).where(table.c.id == id_)
    found = connection.execute(query.with_for_update() if lock else query).mappings().one_or_none()
    if found is None:
        raise NotFound(what, id_)
    return found


def named(connection: sa.Connection, query: sa.Select[Any]) -> list[dict[str, str]]:
    """The first things of a query for ids and names, by name."""
    some = query.order_by("name", "id").limit(MOST_NAMED)
    return [{"id": str(each.id), "name": each.name} for each in connection.execute(some)]
