"""What the last ticks of the sender did. Reads and writes `sender_ticks`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from sendledger.core import pagination
from sendledger.core.pagination import Page
from sendledger.core.tables import sender_ticks

KEPT = 10_000
"""Ticks that are kept: a week of one every minute."""

_NOTE = sa.text("""
    WITH noted AS (
        INSERT INTO sender_ticks (is_further, claimed, sent, failed, skipped, unknown, rate, stopped)
        VALUES (:is_further, :claimed, :sent, :failed, :skipped, :unknown, :rate, :stopped) RETURNING id
    )
    DELETE FROM sender_ticks WHERE id <= (SELECT id FROM noted) - :kept
""")


def note(connection: sa.Connection, tick: Mapping[str, Any], *, is_further: bool) -> None:
    """Store what a tick did, by the names of its summary, and forget the oldest one."""
    names = ("claimed", "sent", "failed", "skipped", "unknown", "rate", "stopped")
    connection.execute(_NOTE, {**{name: tick[name] for name in names}, "is_further": is_further, "kept": KEPT})


def list_page(connection: sa.Connection, limit: int, cursor: str | None) -> Page:
    """A page of ticks, the last one first."""
    return pagination.sorted_page(connection, sa.select(sender_ticks), sender_ticks, limit, cursor, "-id")
