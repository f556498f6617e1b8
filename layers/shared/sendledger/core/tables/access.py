"""Tables of API keys, the audit log, idempotency keys and the console's sessions."""

from __future__ import annotations

from sqlalchemy import (
    UUID,
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from sendledger.core.tables.base import RANDOM_UUID, TIMESTAMPTZ, metadata, one_of, required_timestamp
from sendledger.core.vocabulary import Role

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", UUID, primary_key=True, server_default=RANDOM_UUID),
    Column("name", Text, nullable=False),
    # SHA-256 of the key, hex. A key carries 256 random bits, so a slow hash would add nothing.
    Column("key_hash", Text, nullable=False, unique=True),
    Column("role", Text, nullable=False),
    required_timestamp("created_at"),
    Column("expires_at", TIMESTAMPTZ),
    Column("last_used_at", TIMESTAMPTZ),
    Column("revoked_at", TIMESTAMPTZ),
    CheckConstraint(one_of("role", Role), name="role"),
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    required_timestamp("occurred_at"),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("entity_type", Text, nullable=False),
    Column("entity_id", Text, nullable=False),
    Column("detail", JSONB, nullable=False, server_default=text("'{}'")),
    Index("audit_log_entity_type_entity_id_id_idx", "entity_type", "entity_id", "id"),
    Index("audit_log_entity_id_id_idx", "entity_id", "id"),
    Index("audit_log_actor_id_idx", "actor", "id"),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    # From when API keys were the only callers: the release before this one knows it by no other name.
    Column("api_key_id", UUID, key="caller_id", primary_key=True),
    Column("key", Text, primary_key=True),
    # SHA-256 of method, path, query and body, hex.
    Column("request_hash", Text, nullable=False),
    required_timestamp("started_at"),
    # NULL while the request is being worked on.
    Column("status", Integer),
    Column("answer", JSONB(none_as_null=True)),
    CheckConstraint("(status IS NULL) = (answer IS NULL)", name="answered"),
    Index("idempotency_keys_started_at_idx", "started_at"),
)

console_sessions = Table(
    "console_sessions",
    metadata,
    # SHA-256 of the cookie's value, hex. The value carries 256 random bits.
    Column("token_hash", Text, primary_key=True),
    Column("api_key_id", UUID, ForeignKey("api_keys.id", ondelete="CASCADE"), nullable=False),
    required_timestamp("created_at"),
    Column("expires_at", TIMESTAMPTZ, nullable=False),
    Index("console_sessions_api_key_id_idx", "api_key_id"),
    Index("console_sessions_expires_at_idx", "expires_at"),
)

console_sign_in_attempts = Table(
    "console_sign_in_attempts",
    metadata,
    # Of the network, as API Gateway says it.
    Column("address", Text, primary_key=True),
    Column("attempts", Integer, nullable=False),
    required_timestamp("last_at"),
    # No key of this address is looked at before.
    required_timestamp("retry_at"),
    Index("console_sign_in_attempts_last_at_idx", "last_at"),
)
