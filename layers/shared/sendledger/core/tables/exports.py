"""The table of exports."""

from __future__ import annotations

from sqlalchemy import UUID, CheckConstraint, Column, ForeignKey, Index, Integer, SmallInteger, Table, Text, text
from sqlalchemy.dialects.postgresql import JSONB

from sendledger.core.tables.base import RANDOM_UUID, TIMESTAMPTZ, metadata, one_of, required_timestamp
from sendledger.core.vocabulary import ExportKind, ExportReader, ExportStatus

exports = Table(
    "exports",
    metadata,
    Column("id", UUID, primary_key=True, server_default=RANDOM_UUID),
    Column("kind", Text, nullable=False),
    Column("campaign_id", UUID, ForeignKey("campaigns.id", ondelete="CASCADE")),
    Column("filters", JSONB, nullable=False, server_default=text("'{}'")),
    Column("status", Text, nullable=False, server_default=text("'pending'")),
    Column("rows_written", Integer, nullable=False, server_default=text("0")),
    Column("failure_reason", Text),
    # Key in the bucket of files.
    Column("object_key", Text),
    Column("attempts", SmallInteger, nullable=False, server_default=text("0")),
    Column("requested_by", Text, nullable=False),
    required_timestamp("created_at"),
    required_timestamp("updated_at"),
    Column("completed_at", TIMESTAMPTZ),
    Column("made_for", Text),
    CheckConstraint(one_of("kind", ExportKind), name="kind"),
    CheckConstraint(one_of("status", ExportStatus), name="status"),
    CheckConstraint(one_of("made_for", ExportReader), name="made_for"),
    CheckConstraint("(kind = 'campaign_ledger') = (campaign_id IS NOT NULL)", name="ledger_has_campaign"),
    CheckConstraint("status <> 'completed' OR object_key IS NOT NULL", name="completed_has_object"),
    CheckConstraint("status <> 'failed' OR failure_reason IS NOT NULL", name="failed_has_reason"),
    Index("exports_campaign_id_idx", "campaign_id"),
    Index("exports_unfinished_idx", "updated_at", postgresql_where=text("status IN ('pending', 'running')")),
)
