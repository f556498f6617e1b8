"""The ledger of scheduled emails, the emails that were handed to SES, and the state that all senders share."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    UUID,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from sendledger.core.ledger_rules import ended_as, is_open
from sendledger.core.tables.base import (
    NOW,
    RANDOM_UUID,
    TIMESTAMPTZ,
    UtcTimestamp,
    existing_enum,
    metadata,
    one_of,
    required_timestamp,
)
from sendledger.core.vocabulary import DeliveryStatus, Reason, ScheduledEmailStatus

emails = Table(
    "emails",
    metadata,
    Column("id", UUID, primary_key=True, server_default=RANDOM_UUID),
    Column(
        "lead_id", UUID, ForeignKey("leads.id", ondelete="CASCADE", name="emails_lead_id_leads_id_fk"), nullable=False
    ),
    Column(
        "campaign_id", UUID, ForeignKey("campaigns.id", ondelete="SET NULL", name="emails_campaign_id_campaigns_id_fk")
    ),
    Column("subject", String(500), nullable=False),
    Column("body_text", Text, nullable=False),
    Column("body_html", Text),
    Column("follow_up_stage", String(50), server_default=text("'initial'")),
    Column("status", existing_enum("email_status"), server_default=text("'queued'")),
    Column("sent_at", UtcTimestamp),
    Column("delivered_at", UtcTimestamp),
    Column("opened_at", UtcTimestamp),
    Column("clicked_at", UtcTimestamp),
    Column("bounced_at", UtcTimestamp),
    # A temporary bounce, with no delivery since.
    Column("soft_bounced_at", UtcTimestamp),
    Column("error_message", Text),
    Column("external_id", String(255)),
    Column("open_count", Integer, server_default=text("0")),
    Column("click_count", Integer, server_default=text("0")),
    Column("metadata", JSONB, key="metadata_"),
    Column("created_at", UtcTimestamp, server_default=NOW),
    Column("to_address", Text),
    Column("scheduled_email_id", BigInteger),
    # The delivery status from SES events; it only moves forward in the order of DeliveryStatus.
    Column("delivery_status", Text),
    CheckConstraint(one_of("delivery_status", DeliveryStatus), name="delivery_status"),
    Index("emails_external_id_idx", "external_id"),
    Index("emails_lead_id_idx", "lead_id"),
    Index("emails_campaign_id_sent_at_idx", "campaign_id", "sent_at"),
    postgresql_with={"fillfactor": 50, "autovacuum_vacuum_scale_factor": 0.05},
)

scheduled_emails = Table(
    "scheduled_emails",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("campaign_id", UUID, nullable=False),
    # NULL once the lead was deleted or erased: the row stays, anonymous.
    Column("lead_id", UUID, ForeignKey("leads.id", ondelete="SET NULL")),
    # The origin of the content, for the record. The content that is sent is in campaign_steps.
    Column("template_id", UUID),
    Column("workflow_id", UUID),
    Column("workflow_step_number", Integer, nullable=False),
    Column("scheduled_for", TIMESTAMPTZ, nullable=False),
    Column("status", Text, nullable=False, server_default=text("'pending'")),
    # Why a row is skipped or cancelled, as a code (paused, suppressed, previous_step_failed, …). On a failed row:
    # why it is not sent again.
    Column("reason", Text),
    # Why a row failed, as a code (message_rejected, outcome_unknown, …); failure_reason says it in words.
    Column("error_code", Text),
    Column("failure_reason", Text),
    Column("retry_count", SmallInteger, nullable=False, server_default=text("0")),
    # Not used any more: the sender's deaths are counted against the campaign.
    Column("lost_claims", SmallInteger, nullable=False, server_default=text("0")),
    Column("claim_token", UUID),
    Column("lease_until", TIMESTAMPTZ),
    Column("send_started_at", TIMESTAMPTZ),
    Column("sent_at", TIMESTAMPTZ),
    Column("failed_at", TIMESTAMPTZ),
    Column("ses_message_id", Text),
    # Of the email that has this row's id. A trigger clears it when the email is deleted with its lead.
    Column("email_id", UUID),
    required_timestamp("created_at"),
    required_timestamp("updated_at"),
    # Which of `campaign_lanes` it waits in; 0 in a campaign without a sending policy.
    Column("lane", SmallInteger, nullable=False, server_default=text("0")),
    # The sender that it was claimed for last, the day, and the company if its campaign has a cap for each company.
    Column("sender_id", UUID),
    Column("sending_day", Date),
    # Of its step, where that has several; set when it is scheduled.
    Column("variant", SmallInteger),
    Column("company", BigInteger),
    # What it gets if the winner that it waits for is not decided.
    Column("fallback_variant", SmallInteger),
    # How many seconds after its own time that winner is to be decided.
    Column("winner_wait", Integer),
    # The copy of the campaign's content that its lead came in with; see campaigns/revisions.py.
    Column("revision", SmallInteger, nullable=False, server_default=text("1")),
    # Of a first step that a cap may count, the lead's company when it was scheduled; see policy/companies.py.
    Column("lead_company", BigInteger),
    # Whether an earlier step of the lead, which may wait for a cap, is still open. A trigger clears it when that ends.
    Column("is_behind", Boolean),
    # Lead first: the same index answers "what else is planned for this lead" and backs the foreign key.
    UniqueConstraint("lead_id", "campaign_id", "workflow_step_number"),
    ForeignKeyConstraint(
        ["campaign_id", "revision", "workflow_step_number"],
        ["campaign_steps.campaign_id", "campaign_steps.revision", "campaign_steps.step_number"],
        ondelete="CASCADE",
    ),
    CheckConstraint(one_of("status", ScheduledEmailStatus), name="status"),
    CheckConstraint(one_of("reason", Reason), name="reason"),
    CheckConstraint("workflow_step_number > 0", name="workflow_step_number_positive"),
    CheckConstraint("variant BETWEEN 1 AND 8", name="variant"),
    CheckConstraint(
        "status <> 'sending' OR (claim_token IS NOT NULL AND lease_until IS NOT NULL)", name="sending_is_claimed"
    ),
    CheckConstraint("status <> 'pending' OR (claim_token IS NULL AND send_started_at IS NULL)", name="pending_is_free"),
    CheckConstraint("status <> 'sent' OR sent_at IS NOT NULL", name="sent_has_time"),
    CheckConstraint("status <> 'failed' OR error_code IS NOT NULL", name="failed_has_code"),
    CheckConstraint("status <> 'failed' OR failed_at IS NOT NULL", name="failed_has_time"),
    CheckConstraint("status NOT IN ('skipped', 'cancelled') OR reason IS NOT NULL", name="left_out_has_reason"),
    CheckConstraint(f"status NOT IN ('pending', 'sending') OR {is_open()}", name="open_has_no_end"),
    Index("scheduled_emails_campaign_id_id_idx", "campaign_id", "id"),
    # Claim and fence change no column of an index, nor of an index's condition. So they write no index entries.
    Index("scheduled_emails_open_idx", "campaign_id", "scheduled_for", "id", postgresql_where=text(is_open())),
    Index("scheduled_emails_failed_at_idx", "campaign_id", "failed_at", postgresql_where=text("failed_at IS NOT NULL")),
    Index(
        "scheduled_emails_in_lane_idx",
        "campaign_id",
        "lane",
        "scheduled_for",
        "id",
        postgresql_where=text(f"lane > 0 AND is_behind IS NOT TRUE AND {is_open()}"),
    ),
    # One company after the other: those whose cap is used up are passed over, whatever they have waiting.
    Index(
        "scheduled_emails_open_company_idx",
        "campaign_id",
        "lane",
        text("coalesce(lead_company, 0)"),
        "scheduled_for",
        "id",
        postgresql_where=text(f"workflow_step_number = 1 AND lane > 0 AND {is_open()}"),
    ),
    Index(
        "scheduled_emails_outcome_unknown_idx",
        "id",
        postgresql_where=text("failed_at IS NOT NULL AND error_code = 'outcome_unknown'"),
    ),
    # Lists by final status: a row gets into this one once.
    Index(
        "scheduled_emails_ended_idx",
        "campaign_id",
        text(f"({ended_as()})"),
        "id",
        postgresql_where=text(f"NOT ({is_open()})"),
    ),
    postgresql_with={
        # Free space in each page for the updates of fence and result, and frequent statistics after a start.
        "fillfactor": 35,
        "autovacuum_vacuum_scale_factor": 0.05,
        "autovacuum_analyze_scale_factor": 0.05,
    },
)

claims = Table(
    "claims",
    metadata,
    # Which rows were claimed together; written by a trigger of scheduled_emails, removed by the sweep.
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("claim_token", UUID, nullable=False),
    Column("row_ids", ARRAY(BigInteger), nullable=False),
    postgresql_with={"autovacuum_vacuum_scale_factor": 0},
)

senders = Table(
    "senders",
    metadata,
    # A running sender, by its claim token. It also holds a lock while it runs; see ledger/senders.py.
    Column("token", UUID, primary_key=True),
    required_timestamp("started_at"),
    # The campaigns whose emails it is preparing now, or the one row.
    Column("preparing", ARRAY(UUID), nullable=False, server_default=text("'{}'")),
    Column("preparing_row", BigInteger),
    Column("preparing_since", TIMESTAMPTZ),
)

sender_state = Table(
    "sender_state",
    metadata,
    # One row that all senders of this database share.
    Column("id", SmallInteger, primary_key=True, server_default=text("1")),
    # The deployment that may send from this database; a restored copy has another one in its settings.
    Column("deployment_id", Text),
    # The last time a sender was free to send (no outage, no stop).
    Column("last_tick_at", TIMESTAMPTZ),
    # SES rate reserved so far: the next reservation begins here.
    Column("rate_reserved_until", TIMESTAMPTZ, nullable=False, server_default=NOW),
    # With a stop_code no sender sends before this time; NULL waits for an operator.
    Column("stopped_until", TIMESTAMPTZ),
    Column("stop_code", Text),
    Column("stop_reason", Text),
    # Emails a second that SES allowed the last tick, and what kept that tick from sending.
    Column("last_rate", Double),
    Column("last_blocked", Text),
    # Where the day of the caps begins and ends; the setting of the sender that ticked last.
    Column("sending_day_time_zone", Text, nullable=False, server_default=text("'UTC'")),
    # The last time a tick ended, also one that was not free to send.
    Column("last_tick_ended_at", TIMESTAMPTZ),
    CheckConstraint("id = 1", name="single_row"),
    postgresql_with={"fillfactor": 10, "autovacuum_vacuum_scale_factor": 0},
)

sender_ticks = Table(
    "sender_ticks",
    metadata,
    # What the last ticks did; see ledger/sender_ticks.py.
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    required_timestamp("ended_at"),
    # A sender that another tick has started to help it.
    Column("is_further", Boolean, nullable=False),
    Column("claimed", Integer, nullable=False),
    Column("sent", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("skipped", Integer, nullable=False),
    Column("unknown", Integer, nullable=False),
    # Emails a second that SES allowed, and what kept it from sending.
    Column("rate", Double, nullable=False),
    Column("stopped", Text),
)
