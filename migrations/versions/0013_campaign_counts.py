"""Counts of each campaign's scheduled emails and of what became of its emails, kept by triggers as rows change."""

from alembic import op

revision = "0013"
down_revision = "0012"

TABLE = """
CREATE TABLE campaign_counts (
    id bigint GENERATED ALWAYS AS IDENTITY,
    campaign_id uuid NOT NULL,
    what text NOT NULL,
    step_number integer NOT NULL DEFAULT 0,
    hour timestamptz NOT NULL DEFAULT '-infinity',
    count bigint NOT NULL,
    is_total boolean NOT NULL DEFAULT false,
    CONSTRAINT campaign_counts_pkey PRIMARY KEY (id),
    CONSTRAINT campaign_counts_campaign_id_fkey FOREIGN KEY (campaign_id) REFERENCES campaigns (id) ON DELETE CASCADE,
    CONSTRAINT campaign_counts_what_check CHECK (what IN ('pending', 'sending', 'sent', 'failed', 'skipped',
        'cancelled', 'delivered', 'opened', 'clicked', 'bounced'))
);
CREATE UNIQUE INDEX campaign_counts_total_key ON campaign_counts (campaign_id, what, step_number, hour) WHERE is_total;
CREATE INDEX campaign_counts_campaign_id_idx ON campaign_counts (campaign_id);
CREATE INDEX campaign_counts_change_idx ON campaign_counts (id) WHERE NOT is_total;
CREATE INDEX campaign_counts_hour_idx ON campaign_counts (hour) WHERE hour > '-infinity';
"""

LEDGER = """
    SELECT campaign_id, status AS what, workflow_step_number AS step_number, coalesce(date_trunc('hour',
           CASE status WHEN 'sent' THEN sent_at WHEN 'failed' THEN failed_at END, 'UTC'), '-infinity') AS hour,
           {sign} AS n
    FROM {rows}
"""
# The old columns hold UTC without saying so.
EMAILS = """
    SELECT campaign_id, happened.what, 0 AS step_number, date_trunc('hour', happened.at) AT TIME ZONE 'UTC' AS hour,
           {sign} AS n
    FROM {rows} CROSS JOIN LATERAL (VALUES ('delivered', delivered_at), ('opened', opened_at), ('clicked', clicked_at),
                                           ('bounced', bounced_at)) happened (what, at)
    WHERE campaign_id IS NOT NULL AND happened.at IS NOT NULL
"""


def _insert(*changes: str) -> str:
    # A campaign that is being deleted takes its rows with it, and by then nothing can refer to it.
    return f"""
        INSERT INTO campaign_counts (campaign_id, what, step_number, hour, count)
        SELECT * FROM (
            SELECT campaign_id, what, step_number, hour, sum(n) FROM ({" UNION ALL ".join(changes)}) changes
            GROUP BY campaign_id, what, step_number, hour HAVING sum(n) <> 0
        ) changed WHERE EXISTS (SELECT FROM campaigns c WHERE c.id = changed.campaign_id);
    """


def _function(name: str, rows: str) -> str:
    new, old = rows.format(sign=1, rows="new_rows"), rows.format(sign=-1, rows="old_rows")
    # It runs as its owner: the public function's database role may not write counts itself. Hence the fixed path.
    return f"""
        CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
        BEGIN
            IF TG_OP = 'INSERT' THEN {_insert(new)}
            ELSIF TG_OP = 'UPDATE' THEN {_insert(new, old)}
            ELSE {_insert(old)}
            END IF;
            RETURN NULL;
        END $$;
        DO $$ BEGIN
            EXECUTE format('ALTER FUNCTION {name}() SET search_path = %I, pg_temp', current_schema());
        END $$;
    """


def _trigger(table: str, event: str, function: str) -> str:
    named = {"INSERT": "NEW TABLE AS new_rows", "DELETE": "OLD TABLE AS old_rows"}
    tables = named.get(event) or " ".join(named.values())
    return f"""
        CREATE TRIGGER {table}_count_{event.lower()} AFTER {event} ON {table} REFERENCING {tables}
            FOR EACH STATEMENT EXECUTE FUNCTION {function}();
    """


TRIGGERS = (
    ("scheduled_emails", "INSERT", "count_scheduled_emails"),
    ("scheduled_emails", "UPDATE", "count_scheduled_emails"),
    ("scheduled_emails", "DELETE", "count_scheduled_emails"),
    # What was reported of an email stays counted when the email is deleted with its lead.
    ("emails", "UPDATE", "count_emails"),
)


def upgrade() -> None:
    run = op.get_bind().exec_driver_sql
    run(TABLE)
    run(_function("count_scheduled_emails", LEDGER))
    run(_function("count_emails", EMAILS))
    # From here to the commit nobody else writes to the two tables, so that what is there is counted exactly once.
    for trigger in TRIGGERS:
        run(_trigger(*trigger))
    run(_insert(LEDGER.format(sign=1, rows="scheduled_emails")))
    run(_insert(EMAILS.format(sign=1, rows="emails")))


def downgrade() -> None:
    for table, event, _ in TRIGGERS:
        op.execute(f"DROP TRIGGER {table}_count_{event.lower()} ON {table}")
    op.execute("DROP FUNCTION count_scheduled_emails()")
    op.execute("DROP FUNCTION count_emails()")
    op.execute("DROP TABLE campaign_counts")
