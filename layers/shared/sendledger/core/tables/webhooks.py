"""Tables of outgoing webhooks: which endpoint wants which events, and each event that is to be delivered.

Triggers write the deliveries in the transaction of the change, whoever makes it; see the migration.
"""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    UUID,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Identity,
    Index,
    Integer,
    SmallInteger,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from sendledger.core.tables.base import NOW, RANDOM_UUID, TIMESTAMPTZ, metadata, one_of, required_timestamp
from sendledger.core.vocabulary import WebhookDeliveryStatus

webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    Column("id", UUID, primary_key=True, server_default=RANDOM_UUID),
    Column("url", Text, nullable=False),
    Column("description", Text),
    Column("event_types", ARRAY(Text), nullable=False),
    # NULL: of all campaigns.
    Column("campaign_ids", ARRAY(UUID)),
    Column("include_addresses", Boolean, nullable=False, server_default=text("false")),
    # What signs. After a rotation the one before signs too, for a while.
    Column("secret", Text, nullable=False),
    Column("previous_secret", Text),
    Column("previous_secret_until", TIMESTAMPTZ),
    Column("is_enabled", Boolean, nullable=False, server_default=text("true")),
    Column("disabled_reason", Text),
    # Attempts that failed since the last success, when the first of them was, and when the next may be.
    Column("failures", Integer, nullable=False, server_default=text("0")),
    Column("failing_since", TIMESTAMPTZ),
    Column("next_attempt_at", TIMESTAMPTZ, nullable=False, server_default=NOW),
    Column("last_delivered_at", TIMESTAMPTZ),
    Column("created_by", Text, nullable=False),
    required_timestamp("created_at"),
    required_timestamp("updated_at"),
    CheckConstraint("cardinality(event_types) > 0", name="wants_something"),
    CheckConstraint("is_enabled = (disabled_reason IS NULL)", name="disabled_has_reason"),
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    # One event for one endpoint. No address is in it: those are looked up when it is delivered.
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    # No foreign key: with one, every change that tells an endpoint would wait while that endpoint is deleted, and fail.
    Column("endpoint_id", UUID, nullable=False),
    Column("event_type", Text, nullable=False),
    Column("data", JSONB, nullable=False),
    required_timestamp("occurred_at"),
    Column("status", Text, nullable=False, server_default=text("'pending'")),
    Column("attempts", SmallInteger, nullable=False, server_default=text("0")),
    # Of a delivery that is under way: when it counts as lost.
    Column("next_attempt_at", TIMESTAMPTZ, nullable=False, server_default=NOW),
    Column("first_attempt_at", TIMESTAMPTZ),
    Column("last_attempt_at", TIMESTAMPTZ),
    Column("response_status", Integer),
    # The first KB of the last answer, or why there was none.
    Column("response_text", Text),
    CheckConstraint(one_of("status", WebhookDeliveryStatus), name="status"),
    Index(
        "webhook_deliveries_pending_idx",
        "endpoint_id",
        "next_attempt_at",
        "id",
        postgresql_where=text("status = 'pending'"),
    ),
    Index("webhook_deliveries_endpoint_id_id_idx", "endpoint_id", "id"),
    Index("webhook_deliveries_occurred_at_idx", "occurred_at"),
    postgresql_with={"fillfactor": 70, "autovacuum_vacuum_scale_factor": 0.05},
)
