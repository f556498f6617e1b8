"""Moves aside what LeadNexConnect's campaign overhaul added, so that the database looks as it did before the overhaul.

Its `scheduled_emails` and `audit_log` move into a separate schema, with their indexes, constraints and triggers. Its
columns on the older tables are renamed to `leadnex_…`. Nothing is deleted. Each change is stored together with the
statement that undoes it. The first migration calls this in its transaction.

The overhaul exists in two forms: handwritten SQL of December 2025, and a later one in which every row has a user.
"""

from __future__ import annotations

import sqlalchemy as sa

from sendledger.core.vocabulary import CampaignStatus

SCHEMA = "leadnex_overhaul"
LEDGER = f"{SCHEMA}.scheduled_emails"
"""The old application's ledger, after it was moved aside."""
PREFIX = "leadnex_"
"""The prefix of renamed columns. Only this module and the adoption read them."""

MOVED = ("scheduled_emails", "audit_log")
REFERRING = ("scheduled_emails", "automated_campaign_runs")
"""Tables of the overhaul whose foreign keys would prevent Sendledger from deleting rows."""
LEGACY_STATUSES = (
    CampaignStatus.DRAFT,
    CampaignStatus.ACTIVE,
    CampaignStatus.PAUSED,
    CampaignStatus.COMPLETED,
    CampaignStatus.ARCHIVED,
)

LEDGER_COLUMNS = {
    "id": "uuid",
    "campaign_id": "uuid",
    "lead_id": "uuid",
    "workflow_step_number": "integer",
    "scheduled_for": "timestamp without time zone",
    "status": "character varying(20)",
    "sent_at": "timestamp without time zone",
    "email_id": "uuid",
    "updated_at": "timestamp without time zone",
}
"""The columns of the old ledger that the adoption reads."""

CHANGED_COLUMNS = {
    ("campaigns", "status"): "",
    ("campaigns", "campaign_type"): "character varying(50)",
    ("workflow_steps", "subject"): "character varying(500)",
    ("workflow_steps", "body"): "text",
}
"""Columns from before the overhaul that it changed, and their types; the status has had several."""

_TIME = "timestamp without time zone"
COLUMNS = {
    "campaigns": {
        "lead_sources": "jsonb",
        "max_results_per_run": "integer",
        "batch_ids": "jsonb",
        "use_workflow": "boolean",
        "is_recurring": "boolean",
        "recurring_interval": "character varying(50)",
        "next_run_at": _TIME,
        "outreach_delay_days": "integer",
        "start_type": "character varying(20)",
        "scheduled_start_at": _TIME,
        "actual_started_at": _TIME,
        "paused_at": _TIME,
        "resumed_at": _TIME,
        "completed_at": _TIME,
        "failed_at": _TIME,
        "failure_reason": "text",
        "total_leads_targeted": "integer",
        "emails_sent_count": "integer",
        "emails_scheduled_count": "integer",
        "emails_failed_count": "integer",
        "current_workflow_step": "integer",
    },
    "lead_batches": {
        "campaign_id": "uuid",
        "campaign_name": "character varying(255)",
        "active_campaign_id": "uuid",
        "campaign_history": "jsonb",
        "updated_at": _TIME,
    },
    "workflow_steps": {"email_template_id": "uuid", "updated_at": _TIME},
}
WITH_USER = (
    *("api_config", "api_performance", "api_usage", "campaign_leads", "campaigns", "custom_variables"),
    *("email_templates", "emails", "lead_batches", "lead_source_roi", "leads", "scraping_jobs", "settings"),
    *("smtp_config", "workflow_steps", "workflows"),
)
"""Tables whose rows have a `user_id` in the later form."""

_COLUMNS = sa.text("""
    SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relnamespace = CAST(current_schema() AS regnamespace) AND c.relkind = 'r'
""")
# A foreign key is restored without a check and then validated, so that rows deleted meanwhile do not prevent the undo.
_REFERENCES = sa.text("""
    SELECT DISTINCT c.relname, k.conname, pg_get_constraintdef(k.oid)
    FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY(k.conkey)
    WHERE k.contype = 'f' AND c.relnamespace = CAST(current_schema() AS regnamespace)
      AND (c.relname || '.' || a.attname = ANY(:columns)
           OR (c.relname = ANY(:referring) AND k.confdeltype IN ('a', 'r')))
    ORDER BY 1, 2
""")
_LABELS = sa.text("SELECT array_agg(enumlabel::text) FROM pg_enum WHERE enumtypid = to_regtype('campaign_status')")
_DEFAULT_TYPE = sa.text("""
    SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d
    JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
    WHERE a.attrelid = to_regclass('campaigns') AND a.attname = 'campaign_type'
""")


def _legacy_status(old: str) -> str:
    """SQL for the status before the overhaul. A campaign with an unknown status is paused."""
    known = ", ".join(f"'{status}'" for status in LEGACY_STATUSES)
    return f"""(CASE WHEN {old} IS NULL THEN NULL WHEN {old}::text IN ({known}) THEN {old}::text
        ELSE CASE {old}::text WHEN 'running' THEN 'active' WHEN 'scheduled' THEN 'draft'
                              WHEN 'cancelled' THEN 'archived' ELSE 'paused' END END)"""


class _Changes:
    """Makes changes, and stores the statement that undoes each."""

    def __init__(self, connection: sa.Connection) -> None:
        self.connection = connection
        self.count = 0
        connection.exec_driver_sql(f"CREATE SCHEMA {SCHEMA}")
        connection.exec_driver_sql(f"CREATE TABLE {SCHEMA}.undo (number integer PRIMARY KEY, statement text NOT NULL)")

    def make(self, statement: str, *undo: str) -> None:
        """`undo` in the order in which its statements are to run."""
        self.connection.exec_driver_sql(statement)
        for undoing in reversed(undo):
            self.count += 1
            row = {"number": self.count, "undo": undoing}
            self.connection.execute(sa.text(f"INSERT INTO {SCHEMA}.undo VALUES (:number, :undo)"), row)

    def rename(self, table: str, column: str, *, required: bool) -> None:
        """Rename a column and drop its NOT NULL, as Sendledger does not fill it."""
        aside = PREFIX + column
        back = [f"ALTER TABLE {table} RENAME {aside} TO {column}"]
        if required and column == "user_id":
            back.append(f"UPDATE {table} SET {column} = {_FIRST_USER} WHERE {column} IS NULL")
        if required:
            back.append(_unless_null(f"ALTER TABLE {table} ALTER {column} SET NOT NULL"))
        self.make(f"ALTER TABLE {table} RENAME {column} TO {aside}", *back)
        if required:
            self.connection.exec_driver_sql(f"ALTER TABLE {table} ALTER {aside} DROP NOT NULL")


_FIRST_USER = "(SELECT id FROM users ORDER BY role::text = 'admin' DESC, created_at, id LIMIT 1)"


def _unless_null(statement: str) -> str:
    return f"DO $$ BEGIN {statement}; EXCEPTION WHEN not_null_violation THEN NULL; END $$"


def put_aside(connection: sa.Connection) -> list[str]:
    """Move aside what is known of the overhaul. The unknown stays as it is. Returns the columns that are missing for
    that; then nothing is changed."""
    found = {(table, column): (type_, required) for table, column, type_, required in connection.execute(_COLUMNS)}
    needed = {("scheduled_emails", column): type_ for column, type_ in LEDGER_COLUMNS.items()} | CHANGED_COLUMNS
    missing = [
        f"missing: column {table}.{column} {type_}".rstrip()
        for (table, column), type_ in needed.items()
        if (table, column) not in found or type_ not in ("", found[table, column][0])
    ]
    if missing:
        return missing
    known = {(table, column): type_ for table, columns in COLUMNS.items() for column, type_ in columns.items()}
    known |= {(table, "user_id"): "uuid" for table in WITH_USER}
    aside = [key for key, type_ in known.items() if found.get(key, ("", False))[0] == type_]
    changes = _Changes(connection)
    _drop_references(changes, [*known])
    for table in MOVED:
        if (table, "id") in found:
            changes.make(
                f"ALTER TABLE {table} SET SCHEMA {SCHEMA}",
                f"""DO $$ BEGIN
                    EXECUTE format('ALTER TABLE {SCHEMA}.{table} SET SCHEMA %I', current_schema());
                END $$""",
            )
    for table, column in aside:
        changes.rename(table, column, required=found[table, column][1])
    _status(changes, required=found["campaigns", "status"][1])
    _campaign_type(changes, required=found["campaigns", "campaign_type"][1])
    if ("workflow_steps", "email_template_id") in aside:
        _inline_texts(changes, [name for name in ("subject", "body") if not found["workflow_steps", name][1]])
    return []


def _drop_references(changes: _Changes, columns: list[tuple[str, str]]) -> None:
    names = {"columns": [".".join(column) for column in columns], "referring": list(REFERRING)}
    for table, name, definition in changes.connection.execute(_REFERENCES, names).all():
        validate = f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}"
        changes.make(
            f"ALTER TABLE {table} DROP CONSTRAINT {name}",
            f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition} NOT VALID",
            f"DO $$ BEGIN {validate}; EXCEPTION WHEN foreign_key_violation THEN NULL; END $$",
        )


def _status(changes: _Changes, *, required: bool) -> None:
    """Give campaigns a status from before the overhaul. Their own status is kept in a renamed column."""
    labels = changes.connection.scalar(_LABELS)
    if labels is not None and set(labels) != set(LEGACY_STATUSES):
        changes.make(
            f"ALTER TYPE campaign_status RENAME TO {PREFIX}campaign_status",
            f"ALTER TYPE {PREFIX}campaign_status RENAME TO campaign_status",
        )
        labels = None
    if labels is None:
        words = ", ".join(f"'{status}'" for status in LEGACY_STATUSES)
        changes.make(f"CREATE TYPE campaign_status AS ENUM ({words})", "DROP TYPE campaign_status")
    changes.rename("campaigns", "status", required=required)
    old = PREFIX + "status"
    type_ = changes.connection.scalar(
        sa.text("""SELECT format_type(atttypid, NULL) FROM pg_attribute
                   WHERE attrelid = to_regclass('campaigns') AND attname = :name"""),
        {"name": old},
    )
    changes.make(
        "ALTER TABLE campaigns ADD status campaign_status DEFAULT 'draft'",
        f"""UPDATE campaigns SET {old} = CAST(CASE status::text WHEN 'active' THEN 'running' ELSE status::text END
                                              AS {type_})
            WHERE status::text IS DISTINCT FROM {_legacy_status(old)}""",
        "ALTER TABLE campaigns DROP status",
    )
    changes.connection.exec_driver_sql(f"UPDATE campaigns SET status = {_legacy_status(old)}::campaign_status")


def _campaign_type(changes: _Changes, *, required: bool) -> None:
    default = changes.connection.scalar(_DEFAULT_TYPE)
    undo = f"ALTER TABLE campaigns ALTER campaign_type SET DEFAULT {default or 'NULL'}"
    if required:
        changes.make(
            "ALTER TABLE campaigns ALTER campaign_type DROP NOT NULL",
            "UPDATE campaigns SET campaign_type = 'outreach' WHERE campaign_type IS NULL",
            "ALTER TABLE campaigns ALTER campaign_type SET NOT NULL",
        )
    changes.make("ALTER TABLE campaigns ALTER campaign_type SET DEFAULT 'automated'", undo)


def _inline_texts(changes: _Changes, optional: list[str]) -> None:
    """Fill the texts of steps that only refer to a template. Before the overhaul, texts were required."""
    for column, text in (("subject", "subject"), ("body", "body_text")):
        if column in optional:
            changes.connection.exec_driver_sql(f"""
                UPDATE workflow_steps s SET {column} = coalesce(
                    (SELECT t.{text} FROM email_templates t WHERE t.id = s.{PREFIX}email_template_id), '')
                WHERE {column} IS NULL
            """)
            changes.make(
                f"ALTER TABLE workflow_steps ALTER {column} SET NOT NULL",
                f"ALTER TABLE workflow_steps ALTER {column} DROP NOT NULL",
            )


def put_back(connection: sa.Connection) -> None:
    """Undo every change, the last one first. A database without the overhaul has nothing to undo."""
    if not is_put_aside(connection):
        return
    for statement in connection.scalars(sa.text(f"SELECT statement FROM {SCHEMA}.undo ORDER BY number DESC")).all():
        connection.exec_driver_sql(statement)
    connection.exec_driver_sql(f"DROP TABLE {SCHEMA}.undo; DROP SCHEMA {SCHEMA}")


def is_put_aside(connection: sa.Connection) -> bool:
    """Whether this database has been through the overhaul."""
    return bool(connection.scalar(sa.text("SELECT to_regclass(:name) IS NOT NULL"), {"name": LEDGER}))
