"""Tables of what comes back: SES events, suppressions, unsubscribes and replies."""

from __future__ import annotations

from sqlalchemy import (
    UUID,
    BigInteger,
    Boolean,
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
from sendledger.core.vocabulary import (
    AuthenticationResult,
    AutomaticKind,
    EventType,
    ReplyMatch,
    ReplyOutcome,
    ReplySource,
    SuppressionReason,
    UnsubscribeMethod,
    UnsubscribeScope,
)

suppressions = Table(
    "suppressions",
    metadata,
    Column("id", UUID, primary_key=True, server_default=RANDOM_UUID),
    # A lower-case address, or a bare lower-case domain (an address has an @, a domain has none).
    Column("value", Text, nullable=False),
    # NULL: from every campaign.
    Column("campaign_id", UUID, ForeignKey("campaigns.id", ondelete="CASCADE")),
    Column("reason", Text, nullable=False),
    Column("note", Text),
    Column("created_by", Text),
    required_timestamp("created_at"),
    Column("removed_at", TIMESTAMPTZ),
    Column("removed_by", Text),
    Column("removal_reason", Text),
    CheckConstraint("value = lower(value) AND value <> ''", name="value_lower_case"),
    CheckConstraint(one_of("reason", SuppressionReason), name="reason"),
    Index(
        "suppressions_active_key",
        "value",
        text("coalesce(campaign_id, '00000000-0000-0000-0000-000000000000')"),
        unique=True,
        postgresql_where=text("removed_at IS NULL"),
    ),
    Index("suppressions_newest_idx", "created_at", "id"),
    Index("suppressions_campaign_id_idx", "campaign_id", postgresql_where=text("campaign_id IS NOT NULL")),
)

email_events = Table(
    "email_events",
    metadata,
    # Each event of SES, once. Events outlive their emails, leads and campaigns, so there are no foreign keys.
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    # The same for the same event, however often and under whatever EventBridge id it arrives; see read_ses_events.py.
    Column("event_key", Text, nullable=False, unique=True),
    Column("scheduled_email_id", BigInteger),
    Column("email_id", UUID),
    Column("campaign_id", UUID),
    Column("lead_id", UUID),
    Column("ses_message_id", Text, nullable=False),
    Column("event_type", Text, nullable=False),
    Column("occurred_at", TIMESTAMPTZ, nullable=False),
    required_timestamp("received_at"),
    # An open or click by a privacy proxy or a scanner, not by a person.
    Column("is_machine", Boolean, nullable=False, server_default=text("false")),
    Column("detail", JSONB, nullable=False, server_default=text("'{}'")),
    CheckConstraint(one_of("event_type", EventType), name="event_type"),
    Index("email_events_scheduled_email_id_idx", "scheduled_email_id"),
    Index("email_events_lead_id_occurred_at_idx", "lead_id", "occurred_at"),
    Index(
        "email_events_complaints_idx",
        "campaign_id",
        "occurred_at",
        postgresql_where=text("event_type IN ('Bounce', 'Complaint')"),
    ),
    postgresql_with={"autovacuum_vacuum_scale_factor": 0.05, "autovacuum_vacuum_insert_scale_factor": 0.05},
)

unsubscribes = Table(
    "unsubscribes",
    metadata,
    # Who opted out by which email, once per lead and campaign. The proof outlives both, so there are no foreign keys.
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("lead_id", UUID, nullable=False),
    Column("campaign_id", UUID, nullable=False),
    Column("scheduled_email_id", BigInteger, nullable=False),
    Column("scope", Text, nullable=False),
    Column("method", Text, nullable=False),
    required_timestamp("created_at"),
    Column("undone_at", TIMESTAMPTZ),
    CheckConstraint(one_of("scope", UnsubscribeScope), name="scope"),
    CheckConstraint(one_of("method", UnsubscribeMethod), name="method"),
    Index("unsubscribes_scheduled_email_id_idx", "scheduled_email_id"),
    Index("unsubscribes_active_key", "lead_id", "campaign_id", unique=True, postgresql_where=text("undone_at IS NULL")),
)

replies = Table(
    "replies",
    metadata,
    Column("id", UUID, primary_key=True, server_default=RANDOM_UUID),
    # The message's own id, or a hash of its content: a message that comes twice is one reply.
    Column("message_id", Text, nullable=False, unique=True),
    Column("source", Text, nullable=False),
    Column("from_address", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("body_text", Text, nullable=False),
    # Why it is not a person's; NULL: a person wrote it.
    Column("automatic", Text),
    # Results of SPF, DKIM and DMARC from the receiving mail server.
    Column("spf", Text),
    Column("dkim", Text),
    Column("dmarc", Text),
    # How the lead was found; NULL: it was not.
    Column("matched_by", Text),
    Column("lead_id", UUID, ForeignKey("leads.id", ondelete="CASCADE")),
    Column("campaign_id", UUID, ForeignKey("campaigns.id", ondelete="SET NULL")),
    Column("email_id", UUID, ForeignKey("emails.id", ondelete="SET NULL")),
    # Scheduled emails that will not be sent because of it.
    Column("emails_skipped", Integer, nullable=False, server_default=text("0")),
    # All that a person's reply says is to stop; see stop_words.py.
    Column("asks_to_stop", Boolean, nullable=False, server_default=text("false")),
    # What the team made of it, until when a "later" waits, and who has dealt with it.
    Column("outcome", Text),
    Column("later_until", TIMESTAMPTZ),
    Column("handled_at", TIMESTAMPTZ),
    Column("handled_by", Text),
    required_timestamp("created_at"),
    CheckConstraint(one_of("automatic", AutomaticKind), name="automatic"),
    CheckConstraint(one_of("spf", AuthenticationResult), name="spf"),
    CheckConstraint(one_of("dkim", AuthenticationResult), name="dkim"),
    CheckConstraint(one_of("dmarc", AuthenticationResult), name="dmarc"),
    CheckConstraint(one_of("matched_by", ReplyMatch), name="matched_by"),
    CheckConstraint("matched_by IS NULL OR lead_id IS NOT NULL", name="matched_has_lead"),
    CheckConstraint(one_of("source", ReplySource), name="source"),
    CheckConstraint(one_of("outcome", ReplyOutcome), name="outcome"),
    CheckConstraint("later_until IS NULL OR outcome = 'later'", name="later_until"),
    CheckConstraint("(handled_at IS NULL) = (handled_by IS NULL)", name="handled"),
    Index("replies_lead_id_idx", "lead_id"),
    Index("replies_campaign_id_idx", "campaign_id"),
    Index("replies_email_id_idx", "email_id"),
    Index("replies_with_content_idx", "created_at", postgresql_where=text("body_text <> '' OR subject <> ''")),
    Index("replies_newest_idx", "created_at", "id"),
    Index("replies_open_idx", "created_at", "id", postgresql_where=text("handled_at IS NULL")),
)

answers = Table(
    "answers",
    metadata,
    # What a person has written in answer to a reply. The scheduled email that carries it is a row of the ledger.
    Column("scheduled_email_id", BigInteger, ForeignKey("scheduled_emails.id", ondelete="CASCADE"), primary_key=True),
    # One answer to each reply.
    Column("reply_id", UUID, ForeignKey("replies.id", ondelete="CASCADE"), nullable=False, unique=True),
    Column("subject", Text, nullable=False),
    Column("body_text", Text, nullable=False),
    # The Message-ID of the reply, and SES's id of the email that began the thread; NULL where there is none.
    Column("in_reply_to", Text),
    Column("root_id", Text),
    Column("created_by", Text, nullable=False),
    required_timestamp("created_at"),
)
