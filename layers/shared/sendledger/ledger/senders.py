"""Senders at work: each has a row and holds a lock that the database releases when the sender's connection ends.

Before a sender prepares emails, it notes which campaigns they belong to, or which row it is. If it dies, the sweep sees
at once that it is dead and what it was preparing. Reads and writes `senders`.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable

import sqlalchemy as sa
from aws_lambda_powertools import Logger

from sendledger.core.kept_statements import KEPT

logger = Logger(child=True)

LOCK_KEY = "hashtextextended(CAST(:token AS text), 0)"
_LOCK = sa.text(f"SELECT pg_try_advisory_lock({LOCK_KEY})").bindparams(sa.bindparam("token", type_=sa.UUID))
_UNLOCK = sa.text(f"SELECT pg_advisory_unlock({LOCK_KEY})").bindparams(sa.bindparam("token", type_=sa.UUID))
_ENTER = sa.text("INSERT INTO senders (token) VALUES (:token) ON CONFLICT DO NOTHING").bindparams(
    sa.bindparam("token", type_=sa.UUID)
)
_LEAVE = sa.text("DELETE FROM senders WHERE token = :token").bindparams(sa.bindparam("token", type_=sa.UUID))
# Not flushed to disk: a crash of the server says nothing about a campaign. The setting is local to this statement.
_MARK = sa.text(f"""{KEPT}
    UPDATE senders
    SET preparing = :campaign_ids, preparing_row = :row_id,
        preparing_since = CASE WHEN CAST(:campaign_ids AS uuid[]) <> '{{}}' THEN clock_timestamp() END
    WHERE token = :token AND set_config('synchronous_commit', 'off', true) IS NOT NULL
""").bindparams(
    sa.bindparam("token", type_=sa.UUID),
    sa.bindparam("campaign_ids", type_=sa.ARRAY(sa.UUID)),
    sa.bindparam("row_id", type_=sa.BigInteger),
)


class LivingSender:
    """One sender's row and lock, on a separate connection. For its main thread only."""

    def __init__(self, engine: sa.Engine, token: uuid.UUID) -> None:
        self._engine = engine
        self._token = token
        self._marked: tuple[frozenset[uuid.UUID], int | None] = (frozenset(), None)
        self._connection: sa.Connection | None = self._enter()

    def _enter(self) -> sa.Connection:
        connection = self._engine.connect()
        try:
            connection = connection.execution_options(isolation_level="AUTOCOMMIT")
            # The lock first: a row without a lock belongs to a dead sender.
            connection.execute(_LOCK, {"token": self._token})
            connection.execute(_ENTER, {"token": self._token})
        except BaseException:
            connection.invalidate()
            connection.close()
            raise
        return connection

    def prepares(self, campaign_ids: Iterable[uuid.UUID], row_id: int | None = None) -> None:
        """Note that emails of these campaigns, or this one row, are prepared from now on. No campaign means nothing."""
        mark = (frozenset(campaign_ids), row_id)
        if mark == self._marked:
            return
        parameters = {"token": self._token, "campaign_ids": sorted(mark[0]), "row_id": row_id}
        if self._connection is not None:
            try:
                self._connection.execute(_MARK, parameters)
            except sa.exc.DBAPIError:
                logger.warning("The connection of this sender's lock was lost", exc_info=True)
                self._drop(self._connection)
            else:
                self._marked = mark
                return
        self._connection = self._enter()
        self._connection.execute(_MARK, parameters)
        self._marked = mark

    def leave(self) -> None:
        """The sender has ended in good order. Where its connection is lost, the sweep removes its row."""
        connection = self._connection
        if connection is None:
            return
        try:
            connection.execute(_LEAVE, {"token": self._token})
            connection.execute(_UNLOCK, {"token": self._token})
        except sa.exc.DBAPIError:
            self._drop(connection)
        else:
            self._connection = None
            connection.close()

    def _drop(self, connection: sa.Connection) -> None:
        # Closed, not returned to the pool: its next user must not hold this sender's lock.
        self._connection = None
        connection.invalidate()
        connection.close()
