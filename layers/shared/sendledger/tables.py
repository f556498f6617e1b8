"""The tables of the ledger and its surroundings, as SQLAlchemy Core; Alembic compares the database with these.

Names and types of columns that existed before this system (LeadNexConnect) are kept, unused ones included, so that
the old application can go on beside this one. Its ``timestamp`` columns hold UTC without saying so: `UtcTimestamp`
reads and writes them as aware UTC. Columns that this system added are ``timestamptz``.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import (
    ARRAY,
    UUID,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    Interval,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ENUM, JSONB, TIMESTAMP
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

SCHEMA_REVISION = "0016"
"""The Alembic revision that has these tables; a test compares."""

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    }
)


class UtcTimestamp(TypeDecorator[dt.datetime]):
    """A ``timestamp without time zone`` that holds UTC; aware UTC on the Python side."""

    impl = TIMESTAMP(timezone=False)
    cache_ok = True

    def process_bind_param(self, value: dt.datetime | None, dialect: Dialect) -> dt.datetime | None:
        return value.astimezone(dt.UTC).replace(tzinfo=None) if value is not None else None

    def process_result_value(self, value: Any, dialect: Dialect) -> dt.datetime | None:
        return value.replace(tzinfo=dt.UTC) if value is not None else None


RANDOM_UUID = text("gen_random_uuid()")
NOW = text("now()")
TIMESTAMPTZ = TIMESTAMP(timezone=True)

CAMPAIGN_STATUSES = (
    "draft",
    "scheduled",
    "running",
    "paused",
    "completed",
    "cancelled",
    "failed",
    "archived",
    "active",
)
"""`active` is only ever written by the old application; `migrate-existing-campaigns` turns it into `running`."""
CAMPAIGN_TYPES = ("outreach", "lead_generation", "fully_automated", "automated", "manual")
"""`automated` and `manual` are only ever written by the old application; both mean `outreach`."""
SCHEDULED_EMAIL_STATUSES = ("pending", "sending", "sent", "failed", "skipped", "cancelled")
TERMINAL_STATUSES = ("sent", "failed", "skipped", "cancelled")
COUNTED = (*SCHEDULED_EMAIL_STATUSES, "delivered", "opened", "clicked", "bounced")
LEAD_STATUSES = (
    "new",
    "contacted",
    "follow_up_1",
    "follow_up_2",
    "responded",
    "interested",
    "not_interested",
    "invalid",
    "converted",
)
EMAIL_STATUSES = ("queued", "sent", "delivered", "opened", "clicked", "bounced", "failed", "spam")
DELIVERY_STATUSES = ("sent", "delayed", "delivered", "bounced", "complained")
EMAIL_EVENT_TYPES = (
    "Send",
    "Delivery",
    "Bounce",
    "Complaint",
    "Reject",
    "Open",
    "Click",
    "Rendering Failure",
    "DeliveryDelay",
    "Subscription",
)
"""As SES spells them."""
LEFT_OUT_REASONS = (
    "no_address",
    "invalid_address",
    "lead_responded",
    "lead_not_interested",
    "lead_converted",
    "lead_invalid",
    "suppressed",
    "duplicate_address",
)
"""Why a start leaves a lead out; see schedule_emails.py."""
LEAD_BATCH_STATUSES = ("pending", "importing", "completed", "failed", "deleting")
EXPORT_KINDS = ("leads", "campaign_ledger")
EXPORT_STATUSES = ("pending", "running", "completed", "failed")
API_KEY_ROLES = ("viewer", "editor", "sender", "admin")
TEMPLATE_CATEGORIES = (
    "initial_outreach",
    "follow_up",
    "meeting_request",
    "introduction",
    "product_demo",
    "partnership",
    "general",
    "other",
)
_ENUMS = {
    "lead_status": LEAD_STATUSES,
    "email_status": EMAIL_STATUSES,
    "template_category": TEMPLATE_CATEGORIES,
    "schedule_type": ("manual", "daily", "weekly", "custom", "immediate", "scheduled"),
    "verification_status": ("unverified", "email_verified", "phone_verified", "fully_verified"),
}


def _enum(name: str) -> ENUM:
    """One of the enum types of an existing installation; the migrations create it."""
    return ENUM(*_ENUMS[name], name=name, create_type=False)


def _one_of(column: str, values: tuple[str, ...]) -> str:
    return f"{column} IN ({', '.join(repr(value) for value in values)})"


def _required_timestamp(name: str) -> Column[dt.datetime]:
    return Column(name, TIMESTAMPTZ, nullable=False, server_default=NOW)


_NEWEST = text("coalesce(created_at, '-infinity'::timestamp)")

leads = Table(
    "leads",
    metadata,
    Column("id", UUID, primary_key=True, server_default=RANDOM_UUID),
    Column("company_name", String(255), nullable=False),
    Column("website", String(255)),
    Column("email", String(255)),
    Column("phone", String(50)),
    Column("contact_name", String(255)),
    Column("job_title", String(255)),
    Column("country", String(100)),
    Column("city", String(100)),
    Column("address", Text),
    Column("industry", String(100), nullable=False),
    Column("business_type", String(100)),
    Column("company_size", String(50)),
    Column("source", String(50), nullable=False),
    Column("quality_score", Integer, server_default=text("0")),
    Column("verification_status", _enum("verification_status"), server_default=text("'unverified'")),
    Column("status", _enum("lead_status"), server_default=text("'new'")),
    Column("follow_up_stage", String(50), server_default=text("'initial'")),
    Column("last_contacted_at", UtcTimestamp),
    Column("last_responded_at", UtcTimestamp),
    Column("emails_sent", Integer, server_default=text("0")),
    Column("emails_opened", Integer, server_default=text("0")),
    Column("emails_clicked", Integer, server_default=text("0")),
    Column("notes", Text),
    Column("tags", ARRAY(String(100))),
    Column("custom_fields", JSONB),
    Column("linkedin_url", String(500)),
    Column("linkedin_sales_nav_data", JSONB),
    Column("created_at", UtcTimestamp, server_default=NOW),
    Column("updated_at", UtcTimestamp, server_default=NOW),
    Column("has_google_maps_listing", Boolean, server_default=text("false")),
    Column("google_rating", Numeric(3, 2)),
    Column("google_review_count", Integer, server_default=text("0")),
    Column("has_booking_keywords", Boolean, server_default=text("false")),
    Column("booking_keyword_score", Integer, server_default=text("0")),
    Column("current_booking_tool", String(100)),
    Column("has_appointment_form", Boolean, server_default=text("false")),
    Column("has_online_booking", Boolean, server_default=text("false")),
    Column("has_multi_location", Boolean, server_default=text("false")),
    Column("services_count", Integer, server_default=text("0")),
    Column("booking_potential", String(20), server_default=text("'medium'")),
    Column("digital_maturity_score", Integer, server_default=text("0")),
    Column("is_decision_maker", Boolean, server_default=text("false")),
    Column("has_weekend_hours", Boolean),
    Column("response_time", String(50)),
    Column("price_level", Integer),
    Column("source_type", String(50), server_default=text("'automated'")),
    Column("batch_id", UUID),
    Column("erased_at", TIMESTAMPTZ),
    Index("leads_lower_email_idx", text("lower(email)")),
    # The order of lists, see pagination.py: of all leads, and of those of a batch.
    Index("leads_newest_idx", _NEWEST, "id"),
    Index("leads_batch_id_newest_idx", "batch_id", _NEWEST, "id"),
)

lead_batches = Table(
    "lead_batches",
    metadata,
    Column("id", UUID, primary_key=True, server_default=RANDOM_UUID),
    Column("name", String(255), nullable=False),
    Column("source_file", String(255)),
    Column("uploaded_by", String(255)),
    Column("total_leads", Integer, server_default=text("0")),
    Column("successful_imports", Integer, server_default=text("0")),
    Column("failed_imports", Integer, server_default=text("0")),
    Column("duplicates_skipped", Integer, server_default=text("0")),
    Column("import_settings", JSONB),
    Column("notes", Text),
    Column("created_at", UtcTimestamp, server_default=NOW),
    Column("completed_at", UtcTimestamp),
    Column("active_campaign_id", UUID, ForeignKey("campaigns.id", ondelete="SET NULL")),
    Column("campaign_history", JSONB, nullable=False, server_default=text("'[]'")),
    Column("updated_at", TIMESTAMPTZ, nullable=False, server_default=NOW),
    # What is imported within a call, or by the old application, is completed from the start.
    Column("status", Text, nullable=False, server_default=text("'completed'")),
    Column("failure_reason", Text),
    # Keys in the bucket of files: the uploaded file, and the rows of it that were not taken.
    Column("source_object", Text),
    Column("rejects_object", Text),
    # Of the file that the import began with: it must not be another one when the import goes on.
    Column("source_etag", Text),
    Column("runs_without_progress", SmallInteger, nullable=False, server_default=text("0")),
    CheckConstraint(_one_of("status", LEAD_BATCH_STATUSES), name="status"),
    CheckConstraint("status <> 'failed' OR failure_reason IS NOT NULL", name="failed_has_reason"),
    Index(
        "lead_batches_unfinished_idx",
        "updated_at",
        postgresql_where=text("status IN ('pending', 'importing', 'deleting')"),
    ),
)

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
    _required_timestamp("created_at"),
    _required_timestamp("updated_at"),
    Column("completed_at", TIMESTAMPTZ),
    CheckConstraint(_one_of("kind", EXPORT_KINDS), name="kind"),
    CheckConstraint(_one_of("status", EXPORT_STATUSES), name="status"),
    CheckConstraint("(kind = 'campaign_ledger') = (campaign_id IS NOT NULL)", name="ledger_has_campaign"),
    CheckConstraint("status <> 'completed' OR object_key IS NOT NULL", name="completed_has_object"),
    CheckConstraint("status <> 'failed' OR failure_reason IS NOT NULL", name="failed_has_reason"),
    Index("exports_campaign_id_idx", "campaign_id"),
    Index("exports_unfinished_idx", "updated_at", postgresql_where=text("status IN ('pending', 'running')")),
)

email_templates = Table(
    "email_templates",
    metadata,
    Column("id", UUID, primary_key=True, server_default=RANDOM_UUID),
    Column("name", String(255), nullable=False),
    Column("description", Text),
    Column("industry", String(100)),
    Column("follow_up_stage", String(50), server_default=text("'initial'")),
    Column("subject", String(500), nullable=False),
    Column("body_text", Text, nullable=False),
    Column("body_html", Text),
    Column("variables", JSONB),
    Column("is_active", Boolean, server_default=text("true")),
    Column("is_default", Boolean, server_default=text("false")),
    Column("created_at", UtcTimestamp, server_default=NOW),
    Column("updated_at", UtcTimestamp, server_default=NOW),
    Column("category", _enum("template_category"), server_default=text("'general'")),
    Column("usage_count", Integer, server_default=text("0")),
)

workflows = Table(
    "workflows",
    metadata,
    Column("id", UUID, primary_key=True, server_default=RANDOM_UUID),
    Column("name", String(255), nullable=False),
    Column("description", Text),
    Column("steps_count", Integer, server_default=text("1")),
    Column("industry", String(100)),
    Column("country", String(100)),
    Column("ai_instructions", Text),
    Column("is_active", Boolean, server_default=text("true")),
    Column("usage_count", Integer, server_default=text("0")),
    Column("created_at", UtcTimestamp, server_default=NOW),
    Column("updated_at", UtcTimestamp, server_default=NOW),
)

workflow_steps = Table(
    "workflow_steps",
    metadata,
    Column("id", UUID, primary_key=True, server_default=RANDOM_UUID),
    Column(
        "workflow_id",
        UUID,
        ForeignKey("workflows.id", ondelete="CASCADE", name="workflow_steps_workflow_id_workflows_id_fk"),
        nullable=False,
    ),
    Column("step_number", Integer, nullable=False),
    Column("days_after_previous", Integer, server_default=text("0")),
    Column("subject", String(500)),
    Column("body", Text),
    Column("created_at", UtcTimestamp, server_default=NOW),
    Column("email_template_id", UUID, ForeignKey("email_templates.id", ondelete="RESTRICT")),
    # A delay in other units than days. Without it days_after_previous counts.
    Column("delay", Interval),
    Column("updated_at", TIMESTAMPTZ, nullable=False, server_default=NOW),
    CheckConstraint("delay >= interval '0'", name="delay_not_negative"),
    CheckConstraint("email_template_id IS NOT NULL OR (subject IS NOT NULL AND body IS NOT NULL)", name="has_content"),
    Index("workflow_steps_workflow_id_idx", "workflow_id"),
)

campaigns = Table(
    "campaigns",
    metadata,
    Column("id", UUID, primary_key=True, server_default=RANDOM_UUID),
    Column("name", String(255), nullable=False),
    Column("description", Text),
    Column("industry", String(100)),
    Column("target_countries", ARRAY(String(100))),
    Column("target_cities", ARRAY(String(100))),
    Column("company_size", String(50)),
    Column("leads_per_day", Integer, server_default=text("50")),
    Column("email_template_id", UUID),
    Column("follow_up_enabled", Boolean, server_default=text("true")),
    Column("follow_up_1_delay_days", Integer, server_default=text("3")),
    Column("follow_up_2_delay_days", Integer, server_default=text("5")),
    Column("status", Text, server_default=text("'draft'")),
    Column("schedule_type", _enum("schedule_type"), server_default=text("'manual'")),
    Column("schedule_time", String(10)),
    Column("start_date", UtcTimestamp),
    Column("end_date", UtcTimestamp),
    Column("uses_linkedin", Boolean, server_default=text("false")),
    Column("uses_apollo", Boolean, server_default=text("false")),
    Column("uses_people_dl", Boolean, server_default=text("false")),
    Column("uses_google_places", Boolean, server_default=text("false")),
    Column("uses_web_scraping", Boolean, server_default=text("false")),
    Column("leads_generated", Integer, server_default=text("0")),
    Column("emails_sent", Integer, server_default=text("0")),
    Column("emails_opened", Integer, server_default=text("0")),
    Column("emails_clicked", Integer, server_default=text("0")),
    Column("responses_received", Integer, server_default=text("0")),
    Column("last_run_at", UtcTimestamp),
    Column("created_at", UtcTimestamp, server_default=NOW),
    Column("updated_at", UtcTimestamp, server_default=NOW),
    Column("campaign_type", String(50), server_default=text("'outreach'")),
    Column("batch_id", UUID),
    Column(
        "workflow_id",
        UUID,
        ForeignKey("workflows.id", ondelete="SET NULL", name="campaigns_workflow_id_workflows_id_fk"),
    ),
    Column("lead_sources", ARRAY(Text)),
    Column("max_results_per_run", Integer),
    Column("batch_ids", ARRAY(UUID), nullable=False, server_default=text("'{}'")),
    Column("use_workflow", Boolean, nullable=False, server_default=text("false")),
    Column("is_recurring", Boolean, nullable=False, server_default=text("false")),
    Column("recurring_interval", Text),
    Column("next_run_at", TIMESTAMPTZ),
    Column("outreach_delay_days", Integer, nullable=False, server_default=text("0")),
    Column("from_address", Text),
    Column("reply_to_address", Text),
    Column("start_type", Text, nullable=False, server_default=text("'manual'")),
    Column("scheduled_start_at", TIMESTAMPTZ),
    Column("actual_started_at", TIMESTAMPTZ),
    Column("paused_at", TIMESTAMPTZ),
    Column("resumed_at", TIMESTAMPTZ),
    Column("completed_at", TIMESTAMPTZ),
    Column("cancelled_at", TIMESTAMPTZ),
    Column("failed_at", TIMESTAMPTZ),
    Column("failure_reason", Text),
    Column("total_leads_targeted", Integer, nullable=False, server_default=text("0")),
    Column("emails_scheduled_count", Integer, nullable=False, server_default=text("0")),
    Column("emails_sent_count", Integer, nullable=False, server_default=text("0")),
    Column("emails_failed_count", Integer, nullable=False, server_default=text("0")),
    Column("current_workflow_step", Integer, nullable=False, server_default=text("0")),
    # Leads that start left out, by reason: {"suppressed": 3, …}.
    Column("leads_excluded", JSONB, nullable=False, server_default=text("'{}'")),
    # Emails with at least one event of the kind, so that a rate is never above 1; opens and clicks by people only.
    Column("emails_delivered_count", Integer, nullable=False, server_default=text("0")),
    Column("emails_bounced_count", Integer, nullable=False, server_default=text("0")),
    Column("emails_complained_count", Integer, nullable=False, server_default=text("0")),
    Column("emails_opened_count", Integer, nullable=False, server_default=text("0")),
    Column("emails_clicked_count", Integer, nullable=False, server_default=text("0")),
    Column("emails_unsubscribed_count", Integer, nullable=False, server_default=text("0")),
    Column("emails_replied_count", Integer, nullable=False, server_default=text("0")),
    # It may start although no postal address is set for the footer.
    Column("postal_address_waived", Boolean, nullable=False, server_default=text("false")),
    # Where this campaign's limits differ from the settings; see guardrails.py.
    Column("guardrails", JSONB, nullable=False, server_default=text("'{}'")),
    # Row work that the status change has not caught up with yet, oldest first; see row_work.py.
    Column("row_work", JSONB, nullable=False, server_default=text("'[]'")),
    # Rows that were due at or before this time wait for an operator; see late_emails.py.
    Column("late_hold_until", TIMESTAMPTZ),
    CheckConstraint(_one_of("status", CAMPAIGN_STATUSES), name="status"),
    CheckConstraint(_one_of("campaign_type", CAMPAIGN_TYPES), name="campaign_type"),
    CheckConstraint("start_type IN ('manual', 'scheduled')", name="start_type"),
    CheckConstraint(
        "status <> 'scheduled' OR (start_type = 'scheduled' AND scheduled_start_at IS NOT NULL)", name="scheduled_start"
    ),
    CheckConstraint("status <> 'completed' OR row_work = '[]'", name="completed_without_row_work"),
    Index("campaigns_open_idx", "id", postgresql_where=text("status IN ('scheduled', 'running', 'paused')")),
)

adopted_campaigns = Table(
    "adopted_campaigns",
    metadata,
    # Campaigns of an existing installation that were taken over; see adopt_campaigns.py.
    Column("campaign_id", UUID, ForeignKey("campaigns.id", ondelete="CASCADE"), primary_key=True),
    _required_timestamp("adopted_at"),
    # The old columns that were changed, as they were: {"status": "active", "campaign_type": null, "workflow_id": null}.
    Column("before", JSONB, nullable=False),
)

campaign_leads = Table(
    "campaign_leads",
    metadata,
    Column("id", UUID, primary_key=True, server_default=RANDOM_UUID),
    Column(
        "campaign_id",
        UUID,
        ForeignKey("campaigns.id", ondelete="CASCADE", name="campaign_leads_campaign_id_campaigns_id_fk"),
        nullable=False,
    ),
    Column(
        "lead_id",
        UUID,
        ForeignKey("leads.id", ondelete="CASCADE", name="campaign_leads_lead_id_leads_id_fk"),
        nullable=False,
    ),
    Column("added_at", UtcTimestamp, server_default=NOW),
    Column("processed", Boolean, server_default=text("false")),
    Column("processed_at", UtcTimestamp),
    Index("campaign_leads_campaign_id_lead_id_idx", "campaign_id", "lead_id"),
    Index("campaign_leads_lead_id_idx", "lead_id"),
)

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
    Column("status", _enum("email_status"), server_default=text("'queued'")),
    Column("sent_at", UtcTimestamp),
    Column("delivered_at", UtcTimestamp),
    Column("opened_at", UtcTimestamp),
    Column("clicked_at", UtcTimestamp),
    Column("bounced_at", UtcTimestamp),
    Column("error_message", Text),
    Column("external_id", String(255)),
    Column("open_count", Integer, server_default=text("0")),
    Column("click_count", Integer, server_default=text("0")),
    Column("metadata", JSONB, key="metadata_"),
    Column("created_at", UtcTimestamp, server_default=NOW),
    Column("to_address", Text),
    Column("scheduled_email_id", BigInteger),
    # Where SES says the message is; only moves forward through DELIVERY_STATUSES.
    Column("delivery_status", Text),
    CheckConstraint(_one_of("delivery_status", DELIVERY_STATUSES), name="delivery_status"),
    Index("emails_external_id_idx", "external_id"),
    Index("emails_lead_id_idx", "lead_id"),
    Index("emails_campaign_id_sent_at_idx", "campaign_id", "sent_at"),
)

campaign_steps = Table(
    "campaign_steps",
    metadata,
    # What a started campaign sends: the content of each step as it was at the start. Templates may change afterwards.
    Column("campaign_id", UUID, ForeignKey("campaigns.id", ondelete="CASCADE"), primary_key=True),
    Column("step_number", Integer, primary_key=True),
    Column("email_template_id", UUID, ForeignKey("email_templates.id", ondelete="SET NULL")),
    Column("delay", Interval, nullable=False),
    Column("subject", Text, nullable=False),
    Column("body_text", Text, nullable=False),
    Column("body_html", Text),
    _required_timestamp("created_at"),
    CheckConstraint("step_number > 0", name="step_number_positive"),
    CheckConstraint("delay >= interval '0'", name="delay_not_negative"),
)

scheduled_emails = Table(
    "scheduled_emails",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("campaign_id", UUID, nullable=False),
    # NULL once the lead was deleted or erased: the row stays, anonymous.
    Column("lead_id", UUID, ForeignKey("leads.id", ondelete="SET NULL")),
    # Where the content came from, for the record; what is sent is in campaign_steps.
    Column("template_id", UUID),
    Column("workflow_id", UUID),
    Column("workflow_step_number", Integer, nullable=False),
    Column("scheduled_for", TIMESTAMPTZ, nullable=False),
    Column("status", Text, nullable=False, server_default=text("'pending'")),
    # Why a row is skipped or cancelled, as a code (paused, suppressed, previous_step_failed, …).
    Column("reason", Text),
    # Why a row failed, as a code (message_rejected, outcome_unknown, …); failure_reason says it in words.
    Column("error_code", Text),
    Column("failure_reason", Text),
    Column("retry_count", SmallInteger, nullable=False, server_default=text("0")),
    # How often a sender died between claim and fence with this row in hand.
    Column("lost_claims", SmallInteger, nullable=False, server_default=text("0")),
    Column("claim_token", UUID),
    Column("lease_until", TIMESTAMPTZ),
    Column("send_started_at", TIMESTAMPTZ),
    Column("sent_at", TIMESTAMPTZ),
    Column("failed_at", TIMESTAMPTZ),
    Column("ses_message_id", Text),
    Column("email_id", UUID, ForeignKey("emails.id", ondelete="SET NULL")),
    _required_timestamp("created_at"),
    _required_timestamp("updated_at"),
    # Lead first: the same index answers "what else is planned for this lead" and backs the foreign key.
    UniqueConstraint("lead_id", "campaign_id", "workflow_step_number"),
    ForeignKeyConstraint(
        ["campaign_id", "workflow_step_number"],
        ["campaign_steps.campaign_id", "campaign_steps.step_number"],
        ondelete="CASCADE",
    ),
    CheckConstraint(_one_of("status", SCHEDULED_EMAIL_STATUSES), name="status"),
    CheckConstraint("workflow_step_number > 0", name="workflow_step_number_positive"),
    CheckConstraint(
        "status <> 'sending' OR (claim_token IS NOT NULL AND lease_until IS NOT NULL)", name="sending_is_claimed"
    ),
    CheckConstraint("status <> 'pending' OR (claim_token IS NULL AND send_started_at IS NULL)", name="pending_is_free"),
    CheckConstraint("status <> 'sent' OR sent_at IS NOT NULL", name="sent_has_time"),
    CheckConstraint("status <> 'failed' OR error_code IS NOT NULL", name="failed_has_code"),
    CheckConstraint("status NOT IN ('skipped', 'cancelled') OR reason IS NOT NULL", name="left_out_has_reason"),
    Index("scheduled_emails_campaign_id_id_idx", "campaign_id", "id"),
    Index(
        "scheduled_emails_due_idx", "campaign_id", "scheduled_for", "id", postgresql_where=text("status = 'pending'")
    ),
    Index("scheduled_emails_sending_idx", "campaign_id", "lease_until", postgresql_where=text("status = 'sending'")),
    Index("scheduled_emails_failed_idx", "campaign_id", "failed_at", postgresql_where=text("status = 'failed'")),
    Index(
        "scheduled_emails_unknown_idx",
        "id",
        postgresql_where=text("status = 'failed' AND error_code = 'outcome_unknown'"),
    ),
    # email_id is set once per row and read when an email is deleted with its lead.
    Index("scheduled_emails_email_id_idx", "email_id", postgresql_where=text("email_id IS NOT NULL")),
    # Lists by status. Those that are open have indexes of their own, above: a row gets into this one once.
    Index(
        "scheduled_emails_done_idx",
        "campaign_id",
        "status",
        "id",
        postgresql_where=text(_one_of("status", TERMINAL_STATUSES)),
    ),
)

left_out_leads = Table(
    "left_out_leads",
    metadata,
    # The leads of its audience that the start of a campaign left out, and why; see schedule_emails.py.
    Column("id", BigInteger, Identity(always=True), nullable=False),
    Column("campaign_id", UUID, ForeignKey("campaigns.id", ondelete="CASCADE"), nullable=False),
    # NULL once the lead was deleted or erased: the row stays, anonymous.
    Column("lead_id", UUID, ForeignKey("leads.id", ondelete="SET NULL")),
    Column("reason", Text, nullable=False),
    PrimaryKeyConstraint("campaign_id", "reason", "id"),
    # Lead first, as in the ledger: it backs the foreign key.
    UniqueConstraint("lead_id", "campaign_id"),
    CheckConstraint(_one_of("reason", LEFT_OUT_REASONS), name="reason"),
)

campaign_counts = Table(
    "campaign_counts",
    metadata,
    # How many scheduled emails have which status, and emails which fate: the sum of the rows; see campaign_counts.py.
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("campaign_id", UUID, ForeignKey("campaigns.id", ondelete="CASCADE"), nullable=False),
    Column("what", Text, nullable=False),
    # 0: of no step.
    Column("step_number", Integer, nullable=False, server_default=text("0")),
    # The hour in which it happened, for what has a time.
    Column("hour", TIMESTAMPTZ, nullable=False, server_default=text("'-infinity'")),
    Column("count", BigInteger, nullable=False),
    # False: a change that is still to be added to its total.
    Column("is_total", Boolean, nullable=False, server_default=text("false")),
    CheckConstraint(_one_of("what", COUNTED), name="what"),
    Index(
        "campaign_counts_total_key",
        "campaign_id",
        "what",
        "step_number",
        "hour",
        unique=True,
        postgresql_where=text("is_total"),
    ),
    Index("campaign_counts_campaign_id_idx", "campaign_id"),
    Index("campaign_counts_change_idx", "id", postgresql_where=text("NOT is_total")),
    Index("campaign_counts_hour_idx", "hour", postgresql_where=text("hour > '-infinity'")),
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
    _required_timestamp("created_at"),
    Column("removed_at", TIMESTAMPTZ),
    Column("removed_by", Text),
    Column("removal_reason", Text),
    CheckConstraint("value = lower(value) AND value <> ''", name="value_lower_case"),
    CheckConstraint(
        "reason IN ('bounce', 'transient_bounces', 'complaint', 'unsubscribe', 'manual', 'import')", name="reason"
    ),
    Index(
        "suppressions_active_key",
        "value",
        text("coalesce(campaign_id, '00000000-0000-0000-0000-000000000000')"),
        unique=True,
        postgresql_where=text("removed_at IS NULL"),
    ),
    Index("suppressions_newest_idx", "created_at", "id"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", UUID, primary_key=True, server_default=RANDOM_UUID),
    Column("name", Text, nullable=False),
    # SHA-256 of the key, hex. A key carries 256 random bits, so a slow hash would add nothing.
    Column("key_hash", Text, nullable=False, unique=True),
    Column("role", Text, nullable=False),
    _required_timestamp("created_at"),
    Column("expires_at", TIMESTAMPTZ),
    Column("last_used_at", TIMESTAMPTZ),
    Column("revoked_at", TIMESTAMPTZ),
    CheckConstraint(_one_of("role", API_KEY_ROLES), name="role"),
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    _required_timestamp("occurred_at"),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("entity_type", Text, nullable=False),
    Column("entity_id", Text, nullable=False),
    Column("detail", JSONB, nullable=False, server_default=text("'{}'")),
    Index("audit_log_entity_type_entity_id_id_idx", "entity_type", "entity_id", "id"),
    Index("audit_log_entity_id_id_idx", "entity_id", "id"),
    Index("audit_log_actor_id_idx", "actor", "id"),
)

sender_state = Table(
    "sender_state",
    metadata,
    # One row: what all senders of this database share.
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
    # The last time a tick ended, also one that was not free to send.
    Column("last_tick_ended_at", TIMESTAMPTZ),
    CheckConstraint("id = 1", name="single_row"),
)

email_events = Table(
    "email_events",
    metadata,
    # What SES has reported, once each. It outlives the emails, leads and campaigns that it speaks of: no foreign keys.
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
    _required_timestamp("received_at"),
    # An open or click by a privacy proxy or a scanner, not by a person.
    Column("is_machine", Boolean, nullable=False, server_default=text("false")),
    Column("detail", JSONB, nullable=False, server_default=text("'{}'")),
    CheckConstraint(_one_of("event_type", EMAIL_EVENT_TYPES), name="event_type"),
    Index("email_events_scheduled_email_id_idx", "scheduled_email_id"),
    Index("email_events_lead_id_occurred_at_idx", "lead_id", "occurred_at"),
    Index(
        "email_events_complaints_idx",
        "campaign_id",
        "occurred_at",
        postgresql_where=text("event_type IN ('Bounce', 'Complaint')"),
    ),
)

unsubscribes = Table(
    "unsubscribes",
    metadata,
    # Who opted out by the link in which email, once per lead and campaign. The proof outlives both: no foreign keys.
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("lead_id", UUID, nullable=False),
    Column("campaign_id", UUID, nullable=False),
    Column("scheduled_email_id", BigInteger, nullable=False),
    Column("scope", Text, nullable=False),
    Column("method", Text, nullable=False),
    _required_timestamp("created_at"),
    Column("undone_at", TIMESTAMPTZ),
    CheckConstraint("scope IN ('campaign', 'everything')", name="scope"),
    CheckConstraint("method IN ('one_click', 'page')", name="method"),
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
    # Why it is no person's mail (auto_submitted, subject, …); NULL: a person wrote it.
    Column("automatic", Text),
    # How the lead was found; NULL: it was not.
    Column("matched_by", Text),
    Column("lead_id", UUID, ForeignKey("leads.id", ondelete="CASCADE")),
    Column("campaign_id", UUID, ForeignKey("campaigns.id", ondelete="SET NULL")),
    Column("email_id", UUID, ForeignKey("emails.id", ondelete="SET NULL")),
    # Scheduled emails that will not be sent because of it.
    Column("emails_skipped", Integer, nullable=False, server_default=text("0")),
    _required_timestamp("created_at"),
    CheckConstraint("matched_by IN ('token', 'message_id', 'address')", name="matched_by"),
    CheckConstraint("matched_by IS NULL OR lead_id IS NOT NULL", name="matched_has_lead"),
    CheckConstraint("source IN ('ses', 'api')", name="source"),
    Index("replies_lead_id_idx", "lead_id"),
    Index("replies_campaign_id_idx", "campaign_id"),
    Index("replies_email_id_idx", "email_id"),
    Index("replies_newest_idx", "created_at", "id"),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    # From when API keys were the only callers: the release before this one knows it by no other name.
    Column("api_key_id", UUID, key="caller_id", primary_key=True),
    Column("key", Text, primary_key=True),
    # SHA-256 of method, path, query and body, hex.
    Column("request_hash", Text, nullable=False),
    _required_timestamp("started_at"),
    # NULL while the request is being worked on.
    Column("status", Integer),
    Column("answer", JSONB(none_as_null=True)),
    CheckConstraint("(status IS NULL) = (answer IS NULL)", name="answered"),
    Index("idempotency_keys_started_at_idx", "started_at"),
)
