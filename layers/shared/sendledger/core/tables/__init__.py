"""The schema as SQLAlchemy Core, one file for each noun; Alembic compares the database with these tables."""

from sendledger.core.tables.access import (
    api_keys,
    audit_log,
    console_sessions,
    console_sign_in_attempts,
    idempotency_keys,
)
from sendledger.core.tables.base import (
    SCHEMA_REVISION,
    UtcTimestamp,
    has_these_tables,
    metadata,
    revision_order,
)
from sendledger.core.tables.campaigns import (
    adopted_campaigns,
    campaign_counts,
    campaign_leads,
    campaign_step_variants,
    campaign_steps,
    campaigns,
    daily_counts,
    left_out_leads,
    result_counts,
)
from sendledger.core.tables.content import (
    email_template_attachments,
    email_templates,
    workflow_step_variants,
    workflow_steps,
    workflows,
)
from sendledger.core.tables.exports import exports
from sendledger.core.tables.feedback import answers, email_events, replies, suppressions, unsubscribes
from sendledger.core.tables.leads import lead_batches, lead_changes, leads
from sendledger.core.tables.ledger import claims, emails, scheduled_emails, sender_state, sender_ticks, senders
from sendledger.core.tables.policy import campaign_lanes, cap_uses, requeued_sends, sender_addresses, sending_schedules
from sendledger.core.tables.retention import past_contacts, removals, removed_emails, retention_state
from sendledger.core.tables.segments import segments
from sendledger.core.tables.webhooks import webhook_deliveries, webhook_endpoints

__all__ = [
    "SCHEMA_REVISION",
    "UtcTimestamp",
    "adopted_campaigns",
    "answers",
    "api_keys",
    "audit_log",
    "campaign_counts",
    "campaign_lanes",
    "campaign_leads",
    "campaign_step_variants",
    "campaign_steps",
    "campaigns",
    "cap_uses",
    "claims",
    "console_sessions",
    "console_sign_in_attempts",
    "daily_counts",
    "email_events",
    "email_template_attachments",
    "email_templates",
    "emails",
    "exports",
    "has_these_tables",
    "idempotency_keys",
    "lead_batches",
    "lead_changes",
    "leads",
    "left_out_leads",
    "metadata",
    "past_contacts",
    "removals",
    "removed_emails",
    "replies",
    "requeued_sends",
    "result_counts",
    "retention_state",
    "revision_order",
    "scheduled_emails",
    "segments",
    "sender_addresses",
    "sender_state",
    "sender_ticks",
    "senders",
    "sending_schedules",
    "suppressions",
    "unsubscribes",
    "webhook_deliveries",
    "webhook_endpoints",
    "workflow_step_variants",
    "workflow_steps",
    "workflows",
]
