"""Claim and fence write no index entries: no index names the status any more, and `claims` says which rows are claimed.

The indexes of open and of ended rows name the columns that change once, at the end of a row. Which rows are `sending`
is noted by a trigger, so that it is true whatever statement claims them, also one of the version before.

A sender of the version before works on, but finds due rows by reading the ledger of a campaign, until its new code is
there. The link from a row to its email is kept by a trigger in place of a foreign key and an index of its own.
"""

from __future__ import annotations

from alembic import op

from sendledger.core.online_ddl import creation, exchange_indexes, outside_of_a_transaction, removal

revision = "0033"
down_revision = "0032"

OPEN = "sent_at IS NULL AND failed_at IS NULL AND reason IS NULL"
ENDED_AS = "(CASE WHEN sent_at IS NOT NULL THEN 'sent' WHEN failed_at IS NOT NULL THEN 'failed' ELSE reason END)"
FINAL = "status IN ('sent', 'failed', 'skipped', 'cancelled')"
INDEXES = {
    "scheduled_emails_open_idx": f"scheduled_emails (campaign_id, scheduled_for, id) WHERE {OPEN}",
    "scheduled_emails_open_lane_idx": f"scheduled_emails (campaign_id, lane, scheduled_for, id) WHERE lane > 0 AND {OPEN}",
    "scheduled_emails_failed_at_idx": "scheduled_emails (campaign_id, failed_at) WHERE failed_at IS NOT NULL",
    "scheduled_emails_outcome_unknown_idx": "scheduled_emails (id)"
    " WHERE failed_at IS NOT NULL AND error_code = 'outcome_unknown'",
    "scheduled_emails_ended_idx": f"scheduled_emails (campaign_id, {ENDED_AS}, id) WHERE NOT ({OPEN})",
}
INDEXES_BEFORE = {
    "scheduled_emails_due_idx": "scheduled_emails (campaign_id, scheduled_for, id) WHERE status = 'pending'",
    "scheduled_emails_sending_idx": "scheduled_emails (campaign_id, lease_until) WHERE status = 'sending'",
    "scheduled_emails_failed_idx": "scheduled_emails (campaign_id, failed_at) WHERE status = 'failed'",
    "scheduled_emails_unknown_idx": "scheduled_emails (id) WHERE status = 'failed' AND error_code = 'outcome_unknown'",
    "scheduled_emails_email_id_idx": "scheduled_emails (email_id) WHERE email_id IS NOT NULL",
    "scheduled_emails_done_idx": f"scheduled_emails (campaign_id, status, id) WHERE {FINAL}",
}
CHECKS = {
    "scheduled_emails_failed_has_time_check": "status <> 'failed' OR failed_at IS NOT NULL",
    "scheduled_emails_open_has_no_end_check": f"status NOT IN ('pending', 'sending') OR {OPEN}",
}
# A row that becomes `sending` by the statement; not one that was it before, with the same token.
CLAIMED = """
    INSERT INTO claims (claim_token, row_ids)
    SELECT n.claim_token, array_agg(n.id ORDER BY n.id) FROM new_rows n {joined}
    WHERE n.status = 'sending' {new} GROUP BY n.claim_token;
"""
BEFORE = "LEFT JOIN old_rows o ON o.id = n.id AND o.status = 'sending' AND o.claim_token = n.claim_token"
# Each ends at once if the statement had no rows, as with each lead that was never mailed.
# They run as their owner, like the counting triggers: a role that may change the status may not write claims itself.
FUNCTIONS = f"""
CREATE OR REPLACE FUNCTION note_claims() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM new_rows) THEN RETURN NULL;
    ELSIF TG_OP = 'INSERT' THEN {CLAIMED.format(joined="", new="")}
    ELSE {CLAIMED.format(joined=BEFORE, new="AND o.id IS NULL")}
    END IF;
    RETURN NULL;
END $$;
CREATE OR REPLACE FUNCTION unlink_emails() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF EXISTS (SELECT FROM old_rows) THEN
        UPDATE scheduled_emails e SET email_id = NULL FROM old_rows o
        WHERE e.id = o.scheduled_email_id AND e.email_id = o.id;
    END IF;
    RETURN NULL;
END $$;
DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION note_claims() SET search_path = %I, pg_temp', current_schema());
    EXECUTE format('ALTER FUNCTION unlink_emails() SET search_path = %I, pg_temp', current_schema());
END $$;
"""
UPGRADE = f"""
CREATE TABLE IF NOT EXISTS claims (
    id bigint GENERATED ALWAYS AS IDENTITY,
    claim_token uuid NOT NULL,
    row_ids bigint[] NOT NULL,
    CONSTRAINT claims_pkey PRIMARY KEY (id)
) WITH (autovacuum_vacuum_scale_factor = 0);
{FUNCTIONS}
-- From here to the commit nobody else writes to the two tables. What follows is quick: an index has the claimed rows.
CREATE OR REPLACE TRIGGER scheduled_emails_claim_insert AFTER INSERT ON scheduled_emails REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION note_claims();
CREATE OR REPLACE TRIGGER scheduled_emails_claim_update AFTER UPDATE ON scheduled_emails
    REFERENCING NEW TABLE AS new_rows OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION note_claims();
CREATE OR REPLACE TRIGGER emails_unlink AFTER DELETE ON emails REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION unlink_emails();
INSERT INTO claims (claim_token, row_ids)
    SELECT claim_token, array_agg(id ORDER BY id) FROM scheduled_emails
    WHERE status = 'sending' AND id NOT IN (SELECT unnest(row_ids) FROM claims) GROUP BY claim_token;
"""
# They read the whole ledger, so each is a transaction of its own.
CLEAN_UP = (
    f"""UPDATE scheduled_emails SET sent_at = NULL, failed_at = NULL, reason = NULL
        WHERE status IN ('pending', 'sending') AND NOT ({OPEN})""",
    """UPDATE scheduled_emails SET failed_at = coalesce(send_started_at, updated_at)
        WHERE status = 'failed' AND failed_at IS NULL""",
)
DOWNGRADE = """
ALTER TABLE leads SET (fillfactor = 70);
DROP TRIGGER emails_unlink ON emails;
DROP TRIGGER scheduled_emails_claim_update ON scheduled_emails;
DROP TRIGGER scheduled_emails_claim_insert ON scheduled_emails;
DROP FUNCTION unlink_emails();
DROP FUNCTION note_claims();
DROP TABLE claims;
UPDATE scheduled_emails s SET email_id = NULL
    WHERE email_id IS NOT NULL AND NOT EXISTS (SELECT FROM emails e WHERE e.id = s.email_id);
"""


def upgrade() -> None:
    """Several transactions; each can be repeated, so that an upgrade that was interrupted can be started again.

    None reads the whole ledger while it holds a lock that writers wait for, and none makes its lock stronger.
    """
    op.get_bind().exec_driver_sql(UPGRADE)
    # Before the checks, so that they refuse no claim of an old row; and again for rows that have changed meanwhile.
    outside_of_a_transaction(*CLEAN_UP)
    for name, condition in CHECKS.items():
        op.execute(f"ALTER TABLE scheduled_emails DROP CONSTRAINT IF EXISTS {name}")
        op.execute(f"ALTER TABLE scheduled_emails ADD CONSTRAINT {name} CHECK ({condition}) NOT VALID")
    op.execute("ALTER TABLE scheduled_emails DROP CONSTRAINT IF EXISTS scheduled_emails_email_id_fkey")
    op.execute("ALTER TABLE leads SET (fillfactor = 50)")
    outside_of_a_transaction(
        *CLEAN_UP,
        *(f"ALTER TABLE scheduled_emails VALIDATE CONSTRAINT {name}" for name in CHECKS),
        *creation(INDEXES),
        *removal(INDEXES_BEFORE),
    )


def downgrade() -> None:
    op.get_bind().exec_driver_sql(DOWNGRADE)
    for name in CHECKS:
        op.execute(f"ALTER TABLE scheduled_emails DROP CONSTRAINT {name}")
    op.execute("""
        ALTER TABLE scheduled_emails ADD CONSTRAINT scheduled_emails_email_id_fkey
            FOREIGN KEY (email_id) REFERENCES emails (id) ON DELETE SET NULL
    """)
    exchange_indexes(INDEXES, INDEXES_BEFORE)
