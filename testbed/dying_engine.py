"""A process that dies at a named point, as a part of this one: what it had begun reaches nobody any more."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from sendledger.core import database
from sendledger.core.settings import DatabaseSettings
from sendledger.ses.connection import SesConnection
from testbed.databases import url_as
from testbed.sender_process import install

FAILPOINTS = [
    f"{step}.{when}{nth}"
    for nth in ("", ":2")
    for step, when in (
        ("claim", "before_commit"),
        ("claim", "after_commit"),
        ("reserve", "after_commit"),
        ("fence", "before_commit"),
        ("fence", "after_commit"),
        ("send", "before"),
        ("send", "after"),
        ("answer", "after"),
        ("record", "before_commit"),
        ("record", "after_commit"),
        ("complete", "before"),
        ("sweep", "before_commit"),
    )
]
"""Where a sender dies; see sender_process.py."""


class Crash(BaseException):
    """The process is dead from here on."""


@contextlib.contextmanager
def dying_engine(database_url: str, failpoint: str) -> Iterator[sa.Engine]:
    """An engine of a process that dies at the failpoint: after it no statement, no commit and no SES call gets out."""
    engine = database.engine(DatabaseSettings.read({"DATABASE_URL": url_as("sender", database_url)}))
    dead = False
    real_begin = SesConnection.begin

    def die() -> None:
        nonlocal dead
        dead = True
        raise Crash

    def refuse(*args: Any) -> None:
        if dead:
            raise Crash

    def begin(self: SesConnection, request: Sequence[bytes]) -> None:
        refuse()
        real_begin(self, request)

    SesConnection.begin = begin  # type: ignore[method-assign]
    # The kernel closes a dead process's connections; here nobody would, and the garbage collector stumbles over them.
    checked_out: list[sa.PoolProxiedConnection] = []
    sa.event.listen(engine, "checkout", lambda _connection, _record, proxy: checked_out.append(proxy))
    uninstall = install(engine, failpoint, die)
    sa.event.listen(engine, "before_cursor_execute", refuse)
    sa.event.listen(engine, "commit", refuse)
    try:
        yield engine
    finally:
        uninstall()
        SesConnection.begin = real_begin  # type: ignore[method-assign]
        for proxy in checked_out:
            if proxy.is_valid:
                proxy.invalidate()
        engine.dispose()
