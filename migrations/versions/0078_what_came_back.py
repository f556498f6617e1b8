"""Replies, complaints and opt-outs are counted by step, revision, variant and sender as they come, by triggers.

The statistics of a campaign read all of its replies and opt-outs. The next revision counts what there is already. Until the
new version of the API is there, the one before counts again, in campaigns with senders, variants or several revisions, what
comes back meanwhile.
"""

from __future__ import annotations

from alembic import op

from sendledger.core.online_ddl import one_lock_at_a_time, outside_of_a_transaction

revision = "0078"
down_revision = "0077"

NOBODY = "'00000000-0000-0000-0000-000000000000'::uuid"
BEFORE = """'emails', 'sent', 'failed', 'skipped', 'cancelled', 'delivered', 'opened', 'clicked', 'bounced', 'soft_bounced',
            'complained'"""
CHECK = """
ALTER TABLE result_counts DROP CONSTRAINT IF EXISTS result_counts_what_check;
ALTER TABLE result_counts ADD CONSTRAINT result_counts_what_check CHECK (what IN ({words})) {validity};
"""
VALIDATE = "ALTER TABLE result_counts VALIDATE CONSTRAINT result_counts_what_check"

# Complaints about other emails are counted by the trigger of 0068.
OF_COMPLAINTS = """
    SELECT scheduled_email_id, 'complained' AS what, 1 AS n FROM new_rows WHERE delivery_status = 'complained'
    UNION ALL
    SELECT scheduled_email_id, 'complained', -1 FROM old_rows WHERE delivery_status = 'complained'
"""
# The first reply of a person to an email.
OF_REPLIES = """
    SELECT m.scheduled_email_id, 'replied' AS what, 1 AS n
    FROM (SELECT DISTINCT email_id FROM new_rows WHERE automatic IS NULL) answered
    JOIN emails m ON m.id = answered.email_id
    WHERE NOT EXISTS (SELECT FROM replies p WHERE p.email_id = answered.email_id AND p.automatic IS NULL
                      AND p.id NOT IN (SELECT id FROM new_rows))
"""
OF_OPT_OUTS = "SELECT scheduled_email_id, 'unsubscribed' AS what, {sign} AS n FROM {rows} WHERE undone_at IS NULL"
NEW_OPT_OUTS, FORMER_OPT_OUTS = (
    OF_OPT_OUTS.format(sign=sign, rows=rows) for sign, rows in ((1, "new_rows"), (-1, "old_rows"))
)


def counted(changes: str, condition: str) -> str:
    """The statement that appends the sums of these changes, with the lock of campaigns in the order of their ids."""
    return f"""
    INSERT INTO result_counts (campaign_id, revision, step_number, variant, sender_id, what, count)
    SELECT e.campaign_id, e.revision, e.workflow_step_number, coalesce(e.variant, 0), coalesce(l.sender_id, {NOBODY}),
           c.what, sum(c.n)
    FROM (SELECT scheduled_email_id, what, sum(n) AS n FROM ({changes}) changes GROUP BY 1, 2 HAVING sum(n) <> 0) c
    JOIN scheduled_emails e ON e.id = c.scheduled_email_id
    LEFT JOIN campaign_lanes l ON l.campaign_id = e.campaign_id AND l.lane = e.lane
    WHERE {condition} AND EXISTS (SELECT FROM campaigns x WHERE x.id = e.campaign_id)
    GROUP BY 1, 2, 3, 4, 5, 6 HAVING sum(c.n) <> 0 ORDER BY 1
    """


IS_PLAIN = "e.revision = 1 AND e.variant IS NULL AND l.sender_id IS NULL"
FUNCTION = """
CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    {body}
    RETURN NULL;
END $$;
DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION {name}() SET search_path = %I, pg_temp', current_schema());
END $$;
"""
# As in 0073: a session keeps the plan of its first call, and one that finds each row by its id is right for many.
SETTINGS = ("enable_seqscan", "enable_hashjoin", "enable_mergejoin")
COUNT_COMPLAINTS = f"""
    IF NOT EXISTS (SELECT FROM new_rows WHERE delivery_status = 'complained') THEN RETURN NULL; END IF;
    {counted(OF_COMPLAINTS, IS_PLAIN)};
"""
# Of two replies to one email at the same time, the second waits, and then finds the first.
COUNT_REPLIES = f"""
    IF NOT EXISTS (SELECT FROM new_rows WHERE automatic IS NULL AND email_id IS NOT NULL) THEN RETURN NULL; END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('reply to ' || answered.email_id::text, 0)) FROM (
        SELECT DISTINCT email_id FROM new_rows WHERE automatic IS NULL AND email_id IS NOT NULL ORDER BY email_id) answered;
    {counted(OF_REPLIES, "true")};
"""
COUNT_OPT_OUTS = f"""
    IF TG_OP = 'INSERT' THEN {counted(NEW_OPT_OUTS, "true")};
    ELSE {counted(f"{NEW_OPT_OUTS} UNION ALL {FORMER_OPT_OUTS}", "true")};
    END IF;
"""
FUNCTIONS = {
    "count_results_of_replies": COUNT_REPLIES,
    "count_results_of_opt_outs": COUNT_OPT_OUTS,
    "count_results_of_complaints": COUNT_COMPLAINTS,
}
BOTH = "NEW TABLE AS new_rows OLD TABLE AS old_rows"
# Of each trigger the table, the event, its rows, and its function.
TRIGGERS = {
    "replies_results_insert": ("replies", "INSERT", "NEW TABLE AS new_rows", "count_results_of_replies"),
    "unsubscribes_results_insert": ("unsubscribes", "INSERT", "NEW TABLE AS new_rows", "count_results_of_opt_outs"),
    "unsubscribes_results_update": ("unsubscribes", "UPDATE", BOTH, "count_results_of_opt_outs"),
    "emails_results_complaints": ("emails", "UPDATE", BOTH, "count_results_of_complaints"),
}


def upgrade() -> None:
    """Several transactions, each of which can be repeated."""
    run = op.get_bind().exec_driver_sql
    run(CHECK.format(words=f"{BEFORE}, 'replied', 'unsubscribed'", validity="NOT VALID"))
    for name, body in FUNCTIONS.items():
        run(FUNCTION.format(name=name, body=body))
        for setting in SETTINGS:
            run(f"ALTER FUNCTION {name}() SET {setting} = off")
    outside_of_a_transaction(VALIDATE)
    one_lock_at_a_time(
        *(
            f"""CREATE OR REPLACE TRIGGER {name} AFTER {event} ON {table} REFERENCING {rows}
                FOR EACH STATEMENT EXECUTE FUNCTION {function}()"""
            for name, (table, event, rows, function) in TRIGGERS.items()
        ),
    )


def downgrade() -> None:
    for name, (table, *_) in TRIGGERS.items():
        op.execute(f"DROP TRIGGER IF EXISTS {name} ON {table}")
    for name in FUNCTIONS:
        op.execute(f"DROP FUNCTION IF EXISTS {name}()")
    op.execute(f"""
        DELETE FROM result_counts WHERE what IN ('replied', 'unsubscribed')
            OR revision = 1 AND variant = 0 AND sender_id = {NOBODY}
    """)
    op.execute(CHECK.format(words=BEFORE, validity=""))
