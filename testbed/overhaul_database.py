"""A LeadNexConnect database after its campaign overhaul, in the two forms that it had, built on the older tables."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import sqlalchemy as sa

from testbed.legacy_database import DAY, SCHEMA, OldApplication

_LEDGER = """
    id uuid DEFAULT gen_random_uuid() PRIMARY KEY, campaign_id uuid NOT NULL, lead_id uuid NOT NULL, template_id uuid,
    workflow_id uuid, workflow_step_number integer DEFAULT 1, scheduled_for timestamp NOT NULL,
    status varchar(20) DEFAULT 'pending' NOT NULL, sent_at timestamp, failed_at timestamp, failure_reason text,
    retry_count integer DEFAULT 0, email_id uuid, created_at timestamp DEFAULT now() NOT NULL,
    updated_at timestamp DEFAULT now() NOT NULL
"""
_CAMPAIGN_COLUMNS = """
ALTER TABLE campaigns
    ADD lead_sources jsonb, ADD max_results_per_run integer, ADD batch_ids jsonb,
    ADD use_workflow boolean DEFAULT false, ADD is_recurring boolean DEFAULT false,
    ADD recurring_interval varchar(50), ADD next_run_at timestamp,
    ADD outreach_delay_days integer DEFAULT 0, ADD start_type varchar(20) DEFAULT 'manual',
    ADD scheduled_start_at timestamp, ADD actual_started_at timestamp, ADD paused_at timestamp,
    ADD resumed_at timestamp, ADD completed_at timestamp, ADD failed_at timestamp, ADD failure_reason text,
    ADD total_leads_targeted integer DEFAULT 0, ADD emails_sent_count integer DEFAULT 0,
    ADD emails_scheduled_count integer DEFAULT 0, ADD emails_failed_count integer DEFAULT 0,
    ADD current_workflow_step integer DEFAULT 1;
"""
_REFERENCES = (
    ("campaign_id", "campaigns", "ON DELETE CASCADE"),
    ("lead_id", "leads", "ON DELETE CASCADE"),
    ("template_id", "email_templates", ""),
    ("workflow_id", "workflows", ""),
    ("email_id", "emails", ""),
)
WITH_USER = sorted(SCHEMA["tables"].keys() - {"activity_log", "website_analysis_cache", "api_config", "smtp_config"})
OPTIONAL_USER = ("api_performance", "api_usage", "lead_source_roi", "settings")


def overhaul_by_hand(connection: sa.Connection) -> None:
    """What the handwritten SQL of December 2025 does, its later corrections included."""
    for label in ("scheduled", "running", "failed"):
        connection.exec_driver_sql(f"ALTER TYPE campaign_status ADD VALUE '{label}'")
    connection.exec_driver_sql(_CAMPAIGN_COLUMNS)
    connection.exec_driver_sql(f"""
        CREATE TABLE scheduled_emails ({_LEDGER});
        CREATE INDEX idx_scheduled_emails_campaign_status ON scheduled_emails (campaign_id, status);
        CREATE INDEX scheduled_emails_due_idx ON scheduled_emails (scheduled_for);
        ALTER TABLE scheduled_emails ADD CONSTRAINT scheduled_emails_template_or_workflow
            CHECK (template_id IS NOT NULL OR workflow_id IS NOT NULL);
        ALTER TABLE lead_batches ADD active_campaign_id uuid REFERENCES campaigns (id),
            ADD campaign_name varchar(255), ADD updated_at timestamp DEFAULT now(), ADD campaign_history jsonb;
        ALTER TABLE workflow_steps ADD email_template_id uuid REFERENCES email_templates (id),
            ADD updated_at timestamp DEFAULT now();
        CREATE FUNCTION update_updated_at_column() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN NEW.updated_at = now(); RETURN NEW; END $$;
        CREATE TRIGGER update_scheduled_emails_updated_at BEFORE UPDATE ON scheduled_emails
            FOR EACH ROW EXECUTE FUNCTION update_updated_at_column();
    """)
    for column, table, rule in _REFERENCES:
        connection.exec_driver_sql(f"ALTER TABLE scheduled_emails ADD FOREIGN KEY ({column}) REFERENCES {table} {rule}")


def overhaul_with_users(connection: sa.Connection) -> None:
    """The changes of the later migrations: every row has a user, texts of steps are templates, statuses are text."""
    connection.exec_driver_sql(_CAMPAIGN_COLUMNS)
    connection.exec_driver_sql(f"""
        CREATE TYPE user_role AS ENUM ('user', 'admin');
        CREATE TABLE users (id uuid DEFAULT gen_random_uuid() PRIMARY KEY, email varchar(255) NOT NULL UNIQUE,
            role user_role DEFAULT 'user' NOT NULL, created_at timestamp DEFAULT now());
        CREATE TABLE audit_log (id uuid DEFAULT gen_random_uuid() PRIMARY KEY,
            user_id uuid CONSTRAINT audit_log_user_id_users_id_fk REFERENCES users (id) ON DELETE SET NULL,
            action varchar(100) NOT NULL, entity varchar(100) NOT NULL, entity_id uuid, changes jsonb,
            created_at timestamp DEFAULT now());
        CREATE TABLE automated_campaign_runs (id uuid DEFAULT gen_random_uuid() PRIMARY KEY, user_id uuid NOT NULL,
            campaign_id uuid NOT NULL REFERENCES campaigns (id) ON DELETE CASCADE,
            batch_id uuid REFERENCES lead_batches (id), outreach_campaign_id uuid REFERENCES campaigns (id));
        CREATE TABLE scheduled_emails ({_LEDGER}, user_id uuid NOT NULL);
        ALTER TABLE campaigns ALTER campaign_type SET DEFAULT 'outreach', ALTER campaign_type SET NOT NULL,
            ALTER status TYPE varchar(50), ALTER status SET NOT NULL;
        ALTER TABLE workflow_steps ALTER subject DROP NOT NULL, ALTER body DROP NOT NULL,
            ADD email_template_id uuid NOT NULL, ADD updated_at timestamp DEFAULT now();
        ALTER TABLE lead_batches ADD active_campaign_id uuid, ADD campaign_history jsonb,
            ADD updated_at timestamp DEFAULT now();
    """)
    for column, table, rule in _REFERENCES:
        _refer(connection, "scheduled_emails", column, table, rule)
    _refer(connection, "workflow_steps", "email_template_id", "email_templates", "")
    _refer(connection, "lead_batches", "active_campaign_id", "campaigns", "")
    for table in WITH_USER:
        needed = "" if table in OPTIONAL_USER else " NOT NULL"
        connection.exec_driver_sql(f"ALTER TABLE {table} ADD user_id uuid{needed}")
    for table in (*WITH_USER, "scheduled_emails", "automated_campaign_runs"):
        _refer(connection, table, "user_id", "users", "ON DELETE CASCADE")


def _refer(connection: sa.Connection, table: str, column: str, to: str, rule: str) -> None:
    connection.exec_driver_sql(f"""
        ALTER TABLE {table} ADD CONSTRAINT {table}_{column}_{to}_id_fk
            FOREIGN KEY ({column}) REFERENCES {to} (id) {rule}
    """)


class OverhauledApplication(OldApplication):
    """Writes what the old application wrote after the overhaul."""

    def __init__(self, connection: sa.Connection) -> None:
        super().__init__(connection)
        found = connection.execute(
            sa.text("""SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod)
                       FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
                       WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'""")
        )
        self.types: dict[str, dict[str, str]] = {}
        for table, column, type_ in found:
            self.types.setdefault(table, {})[column] = type_
        self.user: uuid.UUID | None = None
        if "users" in self.types:
            self.user = connection.scalar(
                sa.text("INSERT INTO users (email, role) VALUES (:email, 'admin') RETURNING id"),
                {"email": f"{uuid.uuid4().hex}@example.com"},
            )

    def column_types(self, table: str) -> dict[str, str]:
        return self.types[table]

    def insert(self, table: str, **values: Any) -> uuid.UUID:
        if "user_id" in self.types[table]:
            values.setdefault("user_id", self.user)
        return super().insert(table, **values)

    def step(self, workflow_id: uuid.UUID, number: int, template_id: uuid.UUID, days: int = 0) -> uuid.UUID:
        """A step that refers to a template; where a text of its own is still required, it has an outdated one."""
        values: dict[str, Any] = {} if self.user else {"subject": "outdated", "body": "outdated"}
        return self.insert(
            "workflow_steps",
            **values,
            workflow_id=workflow_id,
            step_number=number,
            email_template_id=template_id,
            days_after_previous=days,
        )

    def scheduled(
        self, campaign_id: uuid.UUID, lead_id: uuid.UUID, step: int | None, status: str, **values: Any
    ) -> uuid.UUID:
        """A row of its ledger, due four days ago."""
        due = dt.datetime.now(dt.UTC).replace(tzinfo=None) - 4 * DAY
        return self.insert(
            "scheduled_emails",
            **{"scheduled_for": due, "template_id": self.template("of a row"), **values},
            campaign_id=campaign_id,
            lead_id=lead_id,
            workflow_step_number=step,
            status=status,
        )
