"""What became of a campaign's emails is counted by revision, step, variant and sender, by triggers.

The statistics of a campaign with several of these read its whole ledger. The next revision counts what there is already:
the locks that the triggers need are held for a moment only.
"""

from __future__ import annotations

from alembic import op

from sendledger.core.online_ddl import one_lock_at_a_time

revision = "0068"
down_revision = "0067"

NOBODY = "'00000000-0000-0000-0000-000000000000'::uuid"
TABLE = """
CREATE TABLE IF NOT EXISTS result_counts (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    campaign_id UUID NOT NULL,
    revision SMALLINT NOT NULL,
    step_number INTEGER NOT NULL,
    variant SMALLINT NOT NULL,
    sender_id UUID NOT NULL,
    what TEXT NOT NULL,
    count BIGINT NOT NULL,
    is_total BOOLEAN DEFAULT false NOT NULL,
    CONSTRAINT result_counts_pkey PRIMARY KEY (id),
    CONSTRAINT result_counts_campaign_id_fkey FOREIGN KEY (campaign_id) REFERENCES campaigns (id) ON DELETE CASCADE,
    CONSTRAINT result_counts_what_check CHECK (what IN ('emails', 'sent', 'failed', 'skipped', 'cancelled', 'delivered',
        'opened', 'clicked', 'bounced', 'soft_bounced', 'complained'))
) WITH (autovacuum_vacuum_scale_factor = 0.05);
CREATE UNIQUE INDEX IF NOT EXISTS result_counts_total_key
    ON result_counts (campaign_id, revision, step_number, variant, sender_id, what) WHERE is_total;
CREATE INDEX IF NOT EXISTS result_counts_campaign_id_idx ON result_counts (campaign_id);
CREATE INDEX IF NOT EXISTS result_counts_change_idx ON result_counts (id) WHERE NOT is_total;
"""
# Which rows may be counted here. Of the others a campaign has one kind, which campaign_counts has by step.
MAY_COUNT = "(lane > 0 OR variant IS NOT NULL OR revision > 1)"
ENDED = "IN ('sent', 'failed', 'skipped', 'cancelled')"
LEDGER = f"""
    SELECT campaign_id, revision, step_number, variant, lane, counted.what, {{sign}} * r.n AS n
    FROM (
        SELECT campaign_id, revision, workflow_step_number AS step_number, coalesce(variant, 0) AS variant, lane, status,
               count(*) AS n
        FROM {{rows}} WHERE {MAY_COUNT} GROUP BY 1, 2, 3, 4, 5, 6) r
    CROSS JOIN LATERAL (VALUES ('emails'), (CASE WHEN status {ENDED} THEN status END)) counted (what)
    WHERE counted.what IS NOT NULL
"""
EMAILS = """
    SELECT scheduled_email_id, happened.what, {sign} AS n
    FROM {rows} CROSS JOIN LATERAL (VALUES
        ('delivered', delivered_at IS NOT NULL), ('opened', opened_at IS NOT NULL), ('clicked', clicked_at IS NOT NULL),
        ('bounced', bounced_at IS NOT NULL), ('soft_bounced', soft_bounced_at IS NOT NULL),
        ('complained', coalesce(delivery_status = 'complained', false))) happened (what, has)
    WHERE scheduled_email_id IS NOT NULL AND happened.has
"""
OF_EMAILS = """
    SELECT e.campaign_id, e.revision, e.workflow_step_number AS step_number, coalesce(e.variant, 0) AS variant, e.lane,
           changed.what, changed.n
    FROM (SELECT scheduled_email_id, what, sum(n) AS n FROM ({changes}) changes GROUP BY 1, 2 HAVING sum(n) <> 0) changed
    JOIN scheduled_emails e ON e.id = changed.scheduled_email_id
"""


def counted(changes: str) -> str:
    """The statement that appends the sums of these changes. A sender is that of its lane, also before it has sent."""
    # A campaign that is being deleted takes its rows with it, and by then nothing can refer to it.
    return f"""
    INSERT INTO result_counts (campaign_id, revision, step_number, variant, sender_id, what, count)
    SELECT c.campaign_id, c.revision, c.step_number, c.variant, coalesce(l.sender_id, {NOBODY}), c.what, sum(c.n)
    FROM (
        SELECT campaign_id, revision, step_number, variant, lane, what, sum(n) AS n FROM ({changes}) changes
        GROUP BY 1, 2, 3, 4, 5, 6 HAVING sum(n) <> 0
    ) c LEFT JOIN campaign_lanes l ON l.campaign_id = c.campaign_id AND l.lane = c.lane
    WHERE (c.revision > 1 OR c.variant > 0 OR l.sender_id IS NOT NULL)
      AND EXISTS (SELECT FROM campaigns x WHERE x.id = c.campaign_id)
    GROUP BY 1, 2, 3, 4, 5, 6 HAVING sum(c.n) <> 0
    """


NEW, OLD = (LEDGER.format(sign=sign, rows=rows) for sign, rows in ((1, "new_rows"), (-1, "old_rows")))
BOTH_EMAILS = " UNION ALL ".join(
    EMAILS.format(sign=sign, rows=rows) for sign, rows in ((1, "new_rows"), (-1, "old_rows"))
)
# EXECUTE plans anew each time: a session would keep the plan of its first call. A claim and a fence change nothing that
# counts, and are let go first.
FUNCTIONS = f"""
CREATE OR REPLACE FUNCTION count_results() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF EXISTS (SELECT FROM new_rows WHERE {MAY_COUNT}) THEN EXECUTE $sql${counted(NEW)}$sql$; END IF;
    ELSIF TG_OP = 'DELETE' THEN
        IF EXISTS (SELECT FROM old_rows WHERE {MAY_COUNT}) THEN EXECUTE $sql${counted(OLD)}$sql$; END IF;
    ELSIF EXISTS (SELECT FROM new_rows WHERE {MAY_COUNT}) THEN
        -- No join: looking for the first pair of many, it would compare each row with each.
        IF EXISTS (SELECT FROM new_rows WHERE status {ENDED}) OR EXISTS (SELECT FROM old_rows WHERE status {ENDED})
            OR EXISTS (SELECT id, variant, lane, revision FROM new_rows
                       EXCEPT SELECT id, variant, lane, revision FROM old_rows)
        THEN EXECUTE $sql${counted(f"{NEW} UNION ALL {OLD}")}$sql$; END IF;
    END IF;
    RETURN NULL;
END $$;
CREATE OR REPLACE FUNCTION count_results_of_emails() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    EXECUTE $sql${counted(OF_EMAILS.format(changes=BOTH_EMAILS))}$sql$;
    RETURN NULL;
END $$;
DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION count_results() SET search_path = %I, pg_temp', current_schema());
    EXECUTE format('ALTER FUNCTION count_results_of_emails() SET search_path = %I, pg_temp', current_schema());
END $$;
"""
TRIGGER = """
CREATE OR REPLACE TRIGGER {table}_results_{name} AFTER {event} ON {table} REFERENCING {rows}
    FOR EACH STATEMENT EXECUTE FUNCTION {function}();
"""
ROWS = {
    "INSERT": "NEW TABLE AS new_rows",
    "UPDATE": "NEW TABLE AS new_rows OLD TABLE AS old_rows",
    "DELETE": "OLD TABLE AS old_rows",
}
# What was reported of an email stays counted when the email is deleted with its lead.
TRIGGERS = (
    *(("scheduled_emails", event, "count_results") for event in ROWS),
    ("emails", "UPDATE", "count_results_of_emails"),
)


def upgrade() -> None:
    """Several transactions, each of which can be repeated. What a trigger counts before the others are there is right,
    because the next revision adds what is missing."""
    run = op.get_bind().exec_driver_sql
    run(TABLE)
    run(FUNCTIONS)
    one_lock_at_a_time(
        *(
            TRIGGER.format(table=table, name=event.lower(), event=event, rows=ROWS[event], function=function)
            for table, event, function in TRIGGERS
        )
    )


def downgrade() -> None:
    for table, event, _ in TRIGGERS:
        op.execute(f"DROP TRIGGER IF EXISTS {table}_results_{event.lower()} ON {table}")
    op.execute("DROP FUNCTION count_results()")
    op.execute("DROP FUNCTION count_results_of_emails()")
    op.execute("DROP TABLE result_counts")
