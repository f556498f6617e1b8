"""Tables of email templates and workflows."""

from __future__ import annotations

from sqlalchemy import (
    UUID,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    Interval,
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
from sendledger.core.vocabulary import StepCondition

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
    Column("category", existing_enum("template_category"), server_default=text("'general'")),
    Column("usage_count", Integer, server_default=text("0")),
)

email_template_attachments = Table(
    "email_template_attachments",
    metadata,
    # The file is in the bucket, under this id.
    Column("id", UUID, primary_key=True),
    Column("email_template_id", UUID, ForeignKey("email_templates.id", ondelete="CASCADE"), nullable=False),
    Column("file_name", Text, nullable=False),
    Column("content_type", Text, nullable=False),
    # Of a picture in the HTML, which names it as cid:<content_id>.
    Column("content_id", Text),
    Column("size", Integer, nullable=False),
    required_timestamp("created_at"),
    CheckConstraint("size BETWEEN 1 AND 10485760", name="size"),
    UniqueConstraint("email_template_id", "content_id"),
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
    # A delay in other units than days. Without it days_after_previous applies.
    Column("delay", Interval),
    # Whether days_after_previous counts days on which the campaign's sending schedule is open.
    Column("business_days", Boolean, nullable=False, server_default=text("false")),
    Column("in_thread", Boolean, nullable=False, server_default=text("false")),
    Column("quote", Boolean, nullable=False, server_default=text("false")),
    # It is only sent to those for whom this has become of the earlier step.
    Column("only_if_event", Text),
    Column("only_if_step", Integer),
    # Whether a lead gets the variant that it has in the other steps with the same variants.
    Column("keep_variant", Boolean, nullable=False, server_default=text("true")),
    # {"by": "clicked", "test_share": 20, "after_seconds": 14400}; see campaigns/winners.py.
    Column("winner", JSONB(none_as_null=True)),
    Column("updated_at", TIMESTAMPTZ, nullable=False, server_default=NOW),
    CheckConstraint("delay >= interval '0'", name="delay_not_negative"),
    CheckConstraint("delay IS NULL OR NOT business_days", name="delay_or_business_days"),
    CheckConstraint("in_thread OR NOT quote", name="quote_in_thread"),
    CheckConstraint(one_of("only_if_event", StepCondition), name="only_if_event"),
    CheckConstraint("(only_if_event IS NULL) = (only_if_step IS NULL)", name="only_if_whole"),
    CheckConstraint("email_template_id IS NOT NULL OR (subject IS NOT NULL AND body IS NOT NULL)", name="has_content"),
    Index("workflow_steps_workflow_id_idx", "workflow_id"),
)

workflow_step_variants = Table(
    "workflow_step_variants",
    metadata,
    # The variants of a step that has several. The step itself names the template of the first one.
    Column("workflow_step_id", UUID, ForeignKey("workflow_steps.id", ondelete="CASCADE"), primary_key=True),
    Column("variant", SmallInteger, primary_key=True, autoincrement=False),
    Column("email_template_id", UUID, ForeignKey("email_templates.id", ondelete="RESTRICT"), nullable=False),
    Column("weight", Integer, nullable=False),
    CheckConstraint("variant BETWEEN 1 AND 8", name="variant"),
    CheckConstraint("weight BETWEEN 1 AND 100", name="weight"),
)
