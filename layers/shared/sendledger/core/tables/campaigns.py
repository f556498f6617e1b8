"""Tables of campaigns, what they send and to whom, and their counts."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    UUID,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    Interval,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

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
from sendledger.core.vocabulary import (
    LEFT_OUT_REASONS,
    CampaignStatus,
    CampaignType,
    Counted,
    CountedResult,
    StartType,
    StepCondition,
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
    Column("schedule_type", existing_enum("schedule_type"), server_default=text("'manual'")),
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
    Column("leads_left_out", JSONB, nullable=False, server_default=text("'{}'")),
    # Emails with at least one event of the kind, so that a rate is never above 1; opens and clicks by people only.
    Column("emails_delivered_count", Integer, nullable=False, server_default=text("0")),
    Column("emails_bounced_count", Integer, nullable=False, server_default=text("0")),
    # This one may go down: an email that is delivered later is no longer counted.
    Column("emails_soft_bounced_count", Integer, nullable=False, server_default=text("0")),
    Column("emails_complained_count", Integer, nullable=False, server_default=text("0")),
    Column("emails_opened_count", Integer, nullable=False, server_default=text("0")),
    Column("emails_clicked_count", Integer, nullable=False, server_default=text("0")),
    Column("emails_unsubscribed_count", Integer, nullable=False, server_default=text("0")),
    Column("emails_replied_count", Integer, nullable=False, server_default=text("0")),
    # Whether it may start without a postal address in the footer.
    Column("postal_address_waived", Boolean, nullable=False, server_default=text("false")),
    # Whether SES adds a picture that reports opens, and replaces links by links of a domain that reports clicks.
    Column("track_opens", Boolean, nullable=False, server_default=text("false")),
    Column("track_clicks", Boolean, nullable=False, server_default=text("false")),
    # This campaign's own limits, which override the settings; see guardrails.py.
    Column("guardrails", JSONB, nullable=False, server_default=text("'{}'")),
    # Background work that the status change has not caught up with yet, oldest first; see background_work.py.
    Column("background_work", JSONB, nullable=False, server_default=text("'[]'")),
    # How often a sender died while it prepared emails of this campaign, and whether they are prepared after all others
    # and one campaign at a time; see ledger/sweep.py.
    Column("sender_deaths", Integer, nullable=False, server_default=text("0")),
    Column("prepared_alone", Boolean, nullable=False, server_default=text("false")),
    # Rows that were due at or before this time wait for an operator; see late_emails.py.
    Column("late_hold_until", TIMESTAMPTZ),
    # When it may send; without one at any time. See policy/.
    Column("sending_schedule_id", UUID, ForeignKey("sending_schedules.id")),
    # The sender addresses that its leads are split over; without one `from_address` is used.
    Column("sender_ids", ARRAY(UUID), nullable=False, server_default=text("'{}'")),
    # Those of them that have handed their leads over: they write on to the leads that they keep, and get no new ones.
    Column("former_sender_ids", ARRAY(UUID), nullable=False, server_default=text("'{}'")),
    # Whom it writes to besides its lead batches and its list; see audience.py.
    Column("segment_ids", ARRAY(UUID), nullable=False, server_default=text("'{}'")),
    # Whether it takes in leads after its start, until `end_at` or until a person ends that; see intake.py.
    Column("evergreen", Boolean, nullable=False, server_default=text("false")),
    Column("end_at", TIMESTAMPTZ),
    # {"every": "1 day"}: how often it takes in the new leads of its batches and segments.
    Column("intake", JSONB(none_as_null=True)),
    Column("next_intake_at", TIMESTAMPTZ),
    Column("intake_ended_at", TIMESTAMPTZ),
    # Since when every one of its emails is terminal while it still takes in leads.
    Column("idle_since", TIMESTAMPTZ),
    # When the first winner of its steps is to be decided; see winners.py.
    Column("winner_at", TIMESTAMPTZ),
    # When what it sends was changed last, other than by a resume; see campaigns/variants.py.
    Column("content_changed_at", TIMESTAMPTZ),
    # The digest of what a person has confirmed for a start at a later time; see campaigns/content_digest.py.
    Column("confirmed_content", Text),
    # The revision for leads that come in now, and a digest of its content; see campaigns/revisions.py.
    Column("revision", SmallInteger, nullable=False, server_default=text("1")),
    Column("revision_digest", Text),
    # How many leads it had when that revision was made: the variants are split over the leads from there on.
    Column("leads_before_revision", Integer, nullable=False, server_default=text("0")),
    # Why its workflow as it is now cannot be sent: leads that come in get the revision before.
    Column("workflow_errors", JSONB, nullable=False, server_default=text("'[]'")),
    # The most leads that get their first email on one day, of all and of one company; see policy/caps.py.
    Column("new_leads_per_day", Integer),
    Column("new_leads_per_company_per_day", Integer),
    CheckConstraint(one_of("status", CampaignStatus), name="status"),
    # Other types are allowed only for campaigns of another application, which this system has not started.
    CheckConstraint(
        f"{one_of('campaign_type', CampaignType)} OR status NOT IN ('scheduled', 'running', 'cancelled', 'failed')",
        name="campaign_type",
    ),
    CheckConstraint(one_of("start_type", StartType), name="start_type"),
    CheckConstraint("new_leads_per_day > 0 AND new_leads_per_company_per_day > 0", name="new_leads_positive"),
    CheckConstraint(
        "status <> 'scheduled' OR (start_type = 'scheduled' AND scheduled_start_at IS NOT NULL)", name="scheduled_start"
    ),
    # It starts by itself, so it has something to send. A draft may not have it yet.
    CheckConstraint(
        "status <> 'scheduled' OR email_template_id IS NOT NULL OR workflow_id IS NOT NULL", name="scheduled_content"
    ),
    CheckConstraint("status <> 'completed' OR background_work = '[]'", name="completed_without_background_work"),
    Index(
        "campaigns_sending_schedule_id_idx",
        "sending_schedule_id",
        postgresql_where=text("sending_schedule_id IS NOT NULL"),
    ),
    Index("campaigns_open_idx", "id", postgresql_where=text("status IN ('scheduled', 'running', 'paused')")),
    Index("campaigns_failure_reason_idx", "id", postgresql_where=text("failure_reason IS NOT NULL")),
    postgresql_with={"fillfactor": 50, "autovacuum_vacuum_scale_factor": 0},
)

adopted_campaigns = Table(
    "adopted_campaigns",
    metadata,
    # Campaigns of an existing installation that were taken over; see run.py.
    Column("campaign_id", UUID, ForeignKey("campaigns.id", ondelete="CASCADE"), primary_key=True),
    required_timestamp("adopted_at"),
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

campaign_steps = Table(
    "campaign_steps",
    metadata,
    # What a started campaign sends: the content of each step as it was at the start. Templates may change afterwards.
    # Leads that come in after the workflow was edited get another revision.
    Column("campaign_id", UUID, ForeignKey("campaigns.id", ondelete="CASCADE"), primary_key=True),
    Column("revision", SmallInteger, primary_key=True, autoincrement=False, server_default=text("1")),
    Column("step_number", Integer, primary_key=True),
    Column("email_template_id", UUID, ForeignKey("email_templates.id", ondelete="SET NULL")),
    Column("delay", Interval, nullable=False),
    # How many business days the step waits for; `delay` has as many days of the calendar. See policy/business_days.py.
    Column("business_days", Integer),
    Column("subject", Text, nullable=False),
    Column("body_text", Text, nullable=False),
    Column("body_html", Text),
    # Whether it is an answer to the lead's email before it, and shows that email's text; see ledger/email_threads.py.
    Column("in_thread", Boolean, nullable=False, server_default=text("false")),
    Column("quote", Boolean, nullable=False, server_default=text("false")),
    # It is only sent to those for whom this has become of the earlier step.
    Column("only_if_event", Text),
    Column("only_if_step", Integer),
    # The attachments as they were at the start; their files stay in the bucket. See content/attachments.py.
    Column("attachments", JSONB, nullable=False, server_default=text("'[]'")),
    # Whether a lead gets the variant that it has in the other steps with the same variants.
    Column("keep_variant", Boolean, nullable=False, server_default=text("true")),
    # How its winner is found, when it is to be decided, when it was, and as what: NULL then means an equal split.
    Column("winner", JSONB(none_as_null=True)),
    Column("winner_at", TIMESTAMPTZ),
    Column("winner_decided_at", TIMESTAMPTZ),
    Column("winner_variant", SmallInteger),
    required_timestamp("created_at"),
    CheckConstraint("step_number > 0", name="step_number_positive"),
    CheckConstraint("NOT in_thread OR step_number > 1", name="first_step_in_no_thread"),
    CheckConstraint("in_thread OR NOT quote", name="quote_in_thread"),
    CheckConstraint(one_of("only_if_event", StepCondition), name="only_if_event"),
    CheckConstraint("(only_if_event IS NULL) = (only_if_step IS NULL)", name="only_if_whole"),
    CheckConstraint("only_if_step > 0 AND only_if_step < step_number", name="only_if_earlier"),
    CheckConstraint("delay >= interval '0'", name="delay_not_negative"),
    CheckConstraint("business_days > 0", name="business_days_positive"),
)

campaign_step_variants = Table(
    "campaign_step_variants",
    metadata,
    # The variants of a step that has several, as they were at the start. The step has the content of the first one.
    Column("campaign_id", UUID, primary_key=True),
    Column("revision", SmallInteger, primary_key=True, autoincrement=False, server_default=text("1")),
    Column("step_number", Integer, primary_key=True),
    Column("variant", SmallInteger, primary_key=True, autoincrement=False),
    Column("weight", Integer, nullable=False),
    Column("email_template_id", UUID, ForeignKey("email_templates.id", ondelete="SET NULL")),
    Column("subject", Text, nullable=False),
    Column("body_text", Text, nullable=False),
    Column("body_html", Text),
    Column("attachments", JSONB, nullable=False, server_default=text("'[]'")),
    # A variant that is sent no more, and the one that goes out where a row still names it.
    Column("retired_at", TIMESTAMPTZ),
    Column("replaced_by", SmallInteger),
    ForeignKeyConstraint(
        ["campaign_id", "revision", "step_number"],
        ["campaign_steps.campaign_id", "campaign_steps.revision", "campaign_steps.step_number"],
        ondelete="CASCADE",
    ),
    CheckConstraint("variant BETWEEN 1 AND 8", name="variant"),
    CheckConstraint("weight BETWEEN 1 AND 100", name="weight"),
    CheckConstraint("(retired_at IS NULL) = (replaced_by IS NULL)", name="retired_whole"),
    CheckConstraint("replaced_by <> variant", name="replaced_by"),
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
    CheckConstraint(one_of("reason", LEFT_OUT_REASONS), name="reason"),
)

result_counts = Table(
    "result_counts",
    metadata,
    # What became of emails of a later revision, of a variant (0: of none) or with a sender (00000000-…: with none), and
    # what came back of all: the sum of the rows, as in campaign_counts; see detailed_results.py and step_results.py.
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("campaign_id", UUID, ForeignKey("campaigns.id", ondelete="CASCADE"), nullable=False),
    Column("revision", SmallInteger, nullable=False),
    Column("step_number", Integer, nullable=False),
    Column("variant", SmallInteger, nullable=False),
    Column("sender_id", UUID, nullable=False),
    # `emails` are all of them, whatever their status.
    Column("what", Text, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("is_total", Boolean, nullable=False, server_default=text("false")),
    CheckConstraint(one_of("what", CountedResult), name="what"),
    Index(
        "result_counts_total_key",
        "campaign_id",
        "revision",
        "step_number",
        "variant",
        "sender_id",
        "what",
        unique=True,
        postgresql_where=text("is_total"),
    ),
    Index("result_counts_campaign_id_idx", "campaign_id"),
    Index("result_counts_change_idx", "id", postgresql_where=text("NOT is_total")),
    postgresql_with={"autovacuum_vacuum_scale_factor": 0.05},
)

campaign_counts = Table(
    "campaign_counts",
    metadata,
    # How many scheduled emails have each status, and what became of the emails: the sum of the rows; see
    # campaign_counts.py.
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("campaign_id", UUID, ForeignKey("campaigns.id", ondelete="CASCADE"), nullable=False),
    Column("what", Text, nullable=False),
    # Negative: of what became of the emails of that step. 0: of no step.
    Column("step_number", Integer, nullable=False, server_default=text("0")),
    # The hour in which it happened, for what has a time.
    Column("hour", TIMESTAMPTZ, nullable=False, server_default=text("'-infinity'")),
    Column("count", BigInteger, nullable=False),
    # False: a change that is still to be added to its total.
    Column("is_total", Boolean, nullable=False, server_default=text("false")),
    CheckConstraint(one_of("what", Counted), name="what"),
    Index(
        "campaign_counts_total_key",
        "campaign_id",
        "what",
        "step_number",
        "hour",
        unique=True,
        postgresql_include=["count"],
        postgresql_where=text("is_total"),
    ),
    Index("campaign_counts_campaign_id_idx", "campaign_id"),
    Index("campaign_counts_change_idx", "id", postgresql_where=text("NOT is_total")),
    postgresql_with={"autovacuum_vacuum_scale_factor": 0.05},
)

daily_counts = Table(
    "daily_counts",
    metadata,
    # What happened on each day (UTC) in all campaigns: the sum of the rows. Triggers on campaign_counts write them.
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("day", Date, nullable=False),
    Column("what", Text, nullable=False),
    Column("count", BigInteger, nullable=False),
    # False: a change that is still to be added to its total.
    Column("is_total", Boolean, nullable=False, server_default=text("false")),
    Index("daily_counts_total_key", "day", "what", unique=True, postgresql_where=text("is_total")),
    Index("daily_counts_day_idx", "day"),
    postgresql_with={"autovacuum_vacuum_scale_factor": 0.05},
)
