"""Tables of retention: what was removed of each campaign, and what must be known of it for ever."""

from __future__ import annotations

from sqlalchemy import (
    UUID,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    ForeignKey,
    Integer,
    SmallInteger,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from sendledger.core.tables.base import TIMESTAMPTZ, UtcTimestamp, metadata, one_of, required_timestamp
from sendledger.core.vocabulary import TERMINAL_STATUSES, RemovalKind

removals = Table(
    "removals",
    metadata,
    # What was, or is being, removed of a campaign that has ended; see the room `retention`.
    Column("campaign_id", UUID, ForeignKey("campaigns.id", ondelete="CASCADE"), primary_key=True),
    Column("kind", Text, primary_key=True),
    required_timestamp("began_at"),
    Column("completed_at", TIMESTAMPTZ),
    # How far it has got: in the rows of the ledger, and in the emails.
    Column("after_id", BigInteger, nullable=False, server_default=text("0")),
    Column("after_sent_at", UtcTimestamp),
    Column("rows_removed", BigInteger, nullable=False, server_default=text("0")),
    # How far the archive has got, and when it was complete; see retention/archive.py.
    Column("archived_after_id", BigInteger, nullable=False, server_default=text("0")),
    Column("archived_after_email", UUID),
    Column("archive_parts", Integer, nullable=False, server_default=text("0")),
    Column("archive_rows", BigInteger, nullable=False, server_default=text("0")),
    Column("archived_at", TIMESTAMPTZ),
    CheckConstraint(one_of("kind", RemovalKind), name="kind"),
)

removed_emails = Table(
    "removed_emails",
    metadata,
    # Totals of removed rows of the ledger. No column of the key is NULL: variant 0, the sender 00000000-… and the day
    # '-infinity' stand for none.
    Column("campaign_id", UUID, ForeignKey("campaigns.id", ondelete="CASCADE"), primary_key=True),
    Column("revision", SmallInteger, primary_key=True, autoincrement=False),
    Column("step_number", Integer, primary_key=True, autoincrement=False),
    Column("variant", SmallInteger, primary_key=True, autoincrement=False),
    Column("sender_id", UUID, primary_key=True),
    Column("sending_day", Date, primary_key=True),
    Column("status", Text, primary_key=True),
    Column("emails", BigInteger, nullable=False),
    Column("delivered", BigInteger, nullable=False),
    Column("opened", BigInteger, nullable=False),
    Column("clicked", BigInteger, nullable=False),
    Column("replied", BigInteger, nullable=False),
    Column("bounced", BigInteger, nullable=False),
    Column("soft_bounced", BigInteger, nullable=False),
    Column("complained", BigInteger, nullable=False),
    Column("unsubscribed", BigInteger, nullable=False),
    CheckConstraint(one_of("status", TERMINAL_STATUSES), name="status"),
)

past_contacts = Table(
    "past_contacts",
    metadata,
    # Which campaign has written to which lead, of removed rows. Nobody gets mail again because history was removed.
    # The campaign may be deleted afterwards, so there is no foreign key to it.
    Column("lead_id", UUID, ForeignKey("leads.id", ondelete="CASCADE"), primary_key=True),
    Column("campaign_id", UUID, primary_key=True),
    Column("last_sent_at", TIMESTAMPTZ),
    Column("received", Boolean, nullable=False),
    Column("opened", Boolean, nullable=False),
    Column("clicked", Boolean, nullable=False),
    # Permanently, or reported as spam.
    Column("bounced", Boolean, nullable=False),
)

retention_state = Table(
    "retention_state",
    metadata,
    # One row: the last run, the rows that it removed by kind, and the campaigns that wait for a person.
    Column("id", SmallInteger, primary_key=True, server_default=text("1")),
    Column("last_run_at", TIMESTAMPTZ, nullable=False),
    Column("rows_removed", JSONB, nullable=False),
    Column("campaigns_waiting", Integer, nullable=False),
    CheckConstraint("id = 1", name="single_row"),
)
