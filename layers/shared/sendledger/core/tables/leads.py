"""Tables of leads and of the batches that they were imported in."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    UUID,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    Numeric,
    SmallInteger,
    String,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from sendledger.core.ordered_ids import ordered_id
from sendledger.core.tables.base import (
    NEWEST,
    NOW,
    RANDOM_UUID,
    TIMESTAMPTZ,
    UtcTimestamp,
    existing_enum,
    metadata,
    one_of,
    required_timestamp,
)
from sendledger.core.vocabulary import LeadBatchStatus

leads = Table(
    "leads",
    metadata,
    # In the order in which they came in, but for those of the old application.
    Column("id", UUID, primary_key=True, default=ordered_id, server_default=RANDOM_UUID),
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
    Column("verification_status", existing_enum("verification_status"), server_default=text("'unverified'")),
    Column("status", existing_enum("lead_status"), server_default=text("'new'")),
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
    # An IANA name; NULL where only the country may tell it, see core/time_zones.py.
    Column("time_zone", String(64)),
    Index("leads_lower_email_idx", text("lower(email)")),
    # The order of lists, see pagination.py: of all leads, and of those of a batch.
    Index("leads_newest_idx", NEWEST, "id"),
    Index("leads_batch_id_newest_idx", "batch_id", NEWEST, "id"),
    postgresql_with={"fillfactor": 50, "autovacuum_vacuum_scale_factor": 0.05},
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
    # A batch that is imported within a request, or by the old application, is completed from the start.
    Column("status", Text, nullable=False, server_default=text("'completed'")),
    Column("failure_reason", Text),
    # Keys in the bucket of files: the uploaded file, and the rows of it that were not taken.
    Column("source_object", Text),
    Column("rejects_object", Text),
    # Of the file that the import began with: it must not be another one when the import goes on.
    Column("source_etag", Text),
    Column("runs_without_progress", SmallInteger, nullable=False, server_default=text("0")),
    CheckConstraint(one_of("status", LeadBatchStatus), name="status"),
    CheckConstraint("status <> 'failed' OR failure_reason IS NOT NULL", name="failed_has_reason"),
    Index(
        "lead_batches_unfinished_idx",
        "updated_at",
        postgresql_where=text("status IN ('pending', 'checking', 'importing', 'deleting')"),
    ),
)

lead_changes = Table(
    "lead_changes",
    metadata,
    # Changes of the tags and custom fields of many leads; see change_leads.py.
    Column("id", UUID, primary_key=True, server_default=RANDOM_UUID),
    # A condition as in `segments`. Empty once it is done, as it may hold an address.
    Column("filter", JSONB, nullable=False),
    Column("add_tags", ARRAY(Text), nullable=False),
    Column("remove_tags", ARRAY(Text), nullable=False),
    Column("custom_fields", JSONB, nullable=False),
    Column("requested_by", Text, nullable=False),
    Column("leads_total", Integer, nullable=False),
    Column("leads_done", Integer, nullable=False, server_default=text("0")),
    Column("leads_changed", Integer, nullable=False, server_default=text("0")),
    # The last lead that it has looked at.
    Column("after_id", UUID, nullable=False, server_default=text("'00000000-0000-0000-0000-000000000000'")),
    required_timestamp("created_at"),
    required_timestamp("updated_at"),
    Column("completed_at", TIMESTAMPTZ),
    Index("lead_changes_unfinished_idx", "updated_at", postgresql_where=text("completed_at IS NULL")),
)
