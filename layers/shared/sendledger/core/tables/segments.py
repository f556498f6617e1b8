"""The table of segments."""

from __future__ import annotations

from sqlalchemy import UUID, Column, String, Table
from sqlalchemy.dialects.postgresql import JSONB

from sendledger.core.tables.base import RANDOM_UUID, metadata, required_timestamp

segments = Table(
    "segments",
    metadata,
    # Saved filters over leads. They are evaluated whenever they are looked at.
    Column("id", UUID, primary_key=True, server_default=RANDOM_UUID),
    Column("name", String(255), nullable=False),
    # A tree of conditions; see segments/conditions.py.
    Column("filter", JSONB, nullable=False),
    required_timestamp("created_at"),
    required_timestamp("updated_at"),
)
