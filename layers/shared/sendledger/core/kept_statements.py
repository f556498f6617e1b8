"""Statements that the server parses and plans once for each connection: those that run for each chunk of emails.

To plan one takes the server longer than to write a hundred rows by it. By itself PostgreSQL would first plan them five
times for their values, and a tick sends few chunks.
https://www.postgresql.org/docs/current/runtime-config-query.html#GUC-PLAN-CACHE-MODE
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Sequence
from typing import Any

import pg8000
from pg8000.dbapi import convert_paramstyle

KEPT = "/* kept */"
"""At the beginning of a statement whose plan does not depend on its values."""

KEPT_SECONDS = 10.0
"""How long a plan is kept. Tables grow, and until they are analyzed the server keeps a plan for small ones."""

PLAN_ONCE = "set local plan_cache_mode = force_generic_plan"
PLAN_FOR_VALUES = "set local plan_cache_mode to default"
"""Said in a transaction before the first of these statements, and before another one that comes after it: the setting
counts for statements without a name too, and what is right for all values may read a whole table for these."""


class KeptStatements:
    """Under which names the server of one connection has them."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, tuple[int, ...]], tuple[bytes, float]] = {}
        self._unused: list[bytes] = []
        self._numbers = itertools.count()

    def find(self, statement: str, oids: Sequence[int]) -> tuple[bytes, bool]:
        """The name of a statement, and whether the server knows it already."""
        key = (statement, tuple(oids))
        if key in self._known:
            name, until = self._known[key]
            if time.monotonic() < until:
                return name, True
            self._unused.append(name)
        name = f"kept_{next(self._numbers)}".encode() + b"\x00"
        self._known[key] = name, time.monotonic() + KEPT_SECONDS
        return name, False

    def forget(self, name: bytes) -> None:
        """It has failed, and may not have been parsed."""
        self._known = {key: known for key, known in self._known.items() if known[0] != name}
        self._unused.append(name)

    def take_unused(self) -> list[bytes]:
        """The names that the server may drop."""
        unused, self._unused = self._unused, []
        return unused


class Cursor(pg8000.Cursor):  # type: ignore[misc]
    """Its statements have `%s` for each parameter, as SQLAlchemy writes them for pg8000."""

    _input_oids: Sequence[int]

    def execute(self, operation: str, args: Sequence[Any] = (), stream: Any = None) -> Cursor:
        is_simple = not args and not operation.startswith(KEPT)
        if is_simple or stream is not None or self._c is None:
            super().execute(operation, args, stream)
            return self
        try:
            if not self._c._in_transaction and not self._c.autocommit:
                self._c.execute_simple("begin transaction")
            self._context = self._c.execute_unnamed(_numbered(operation), args, self._input_oids)
        except pg8000.DatabaseError as error:
            raise _as_pg8000_raises(error) from error
        finally:
            self._input_oids = ()
        self._row_iter = iter(self._context.rows or ())
        return self


@functools.lru_cache(maxsize=512)
def _numbered(operation: str) -> str:
    """A statement with `$1`, `$2`, … pg8000 looks at each character for it, which takes milliseconds for a long one."""
    numbered: str = convert_paramstyle("format", operation, ())[0]
    return numbered


def _as_pg8000_raises(error: pg8000.DatabaseError) -> pg8000.Error:
    said = error.args[0]
    match said.get("C") if isinstance(said, dict) else None:
        case "28000":
            return pg8000.InterfaceError(said)
        case "23505":
            return pg8000.IntegrityError(said)
        case _:
            return pg8000.ProgrammingError(said)
