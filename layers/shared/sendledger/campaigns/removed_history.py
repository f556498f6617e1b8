"""What retention has removed of a campaign, and what that forbids. Reads `removals` and `retention_state`."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Collection

import sqlalchemy as sa

from sendledger.core.errors import Conflict
from sendledger.core.tables import removals, retention_state
from sendledger.core.vocabulary import RemovalKind


def removed_since(connection: sa.Connection, campaign_id: uuid.UUID) -> dict[RemovalKind, dt.datetime]:
    """Since when something of each kind is missing."""
    rows = connection.execute(
        sa.select(removals.c.kind, removals.c.began_at).where(removals.c.campaign_id == campaign_id)
    )
    return {RemovalKind(kind): began_at for kind, began_at in rows}


def last_run(connection: sa.Connection) -> sa.RowMapping | None:
    """The last run of retention and what it did; None if there was none."""
    state = retention_state.c
    query = sa.select(state.last_run_at, state.rows_removed, state.campaigns_waiting)
    return connection.execute(query).mappings().first()


def check_not_removed(connection: sa.Connection, campaign_id: uuid.UUID, kinds: Collection[RemovalKind]) -> None:
    """Refuse what needs the history of a campaign. The caller has locked the campaign, so that none is being removed.

    Raises:
        Conflict: something of these kinds was removed.
    """
    removed = removed_since(connection, campaign_id)
    for kind in kinds:
        if kind in removed:
            since = removed[kind].isoformat(timespec="seconds")
            what = "ledger" if kind is RemovalKind.LEDGER else kind
            message = (
                f"The {what} of this campaign was removed by retention since {since}, so this is no longer possible."
            )
            raise Conflict(message, **{f"{kind}_removed_at": since})
