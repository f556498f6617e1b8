"""What counts against the caps of a day is counted by a trigger, so that a claim changes no indexed column.

`cap_uses` takes the place of two indexes of `scheduled_emails` and of `requeued_sends`. That table stays for senders of the
version before, which read it in each claim. The trigger counts what any statement changes, also one of such a sender.
The next revision adds up what there is already: the lock on the ledger that a trigger needs is held for a moment only.
"""

from __future__ import annotations

from alembic import op

revision = "0057"
down_revision = "0056"

NOBODY = "'00000000-0000-0000-0000-000000000000'::uuid"
KEY = f"""coalesce({{row}}.sender_id, {NOBODY}) AS sender_id, {{row}}.campaign_id, {{row}}.sending_day AS day,
               {{row}}.workflow_step_number = 1 AS is_first, coalesce({{row}}.company, 0) AS company"""
# An email that is queued again after an unknown outcome goes on counting: it is not `sending` before.
# EXECUTE plans anew each time: a session would keep the plan of its first call, and one for a single row takes a
# thousand times as long for a thousand.
FUNCTION = f"""
CREATE OR REPLACE FUNCTION count_cap_uses() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM new_rows WHERE sending_day IS NOT NULL) THEN RETURN NULL; END IF;
    EXECUTE $sql$
    INSERT INTO cap_uses (sender_id, campaign_id, day, is_first, company, count, first_at, last_at)
    SELECT sender_id, campaign_id, day, is_first, company, sum(n), min(at), max(at) FROM (
        SELECT {KEY.format(row="n")}, 1 AS n, n.updated_at AS at
        FROM new_rows n JOIN old_rows o ON o.id = n.id
        WHERE n.sending_day IS NOT NULL AND {{counts_n}} AND NOT {{counts_o}}
        UNION ALL
        SELECT {KEY.format(row="o")}, -1, NULL
        FROM old_rows o JOIN new_rows n ON n.id = o.id
        WHERE o.sending_day IS NOT NULL AND o.status = 'sending' AND NOT {{counts_n}}
    ) changes GROUP BY sender_id, campaign_id, day, is_first, company HAVING sum(n) <> 0
    $sql$;
    RETURN NULL;
END $$;
DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION count_cap_uses() SET search_path = %I, pg_temp', current_schema());
END $$;
"""
COUNTS = "({row}.status IN ('sending', 'sent') OR coalesce({row}.error_code = 'outcome_unknown', false))"
UPGRADE = f"""
ALTER TABLE scheduled_emails ADD lead_company BIGINT;
CREATE TABLE cap_uses (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    sender_id UUID NOT NULL,
    campaign_id UUID NOT NULL,
    day DATE NOT NULL,
    is_first BOOLEAN NOT NULL,
    company BIGINT NOT NULL,
    count BIGINT NOT NULL,
    first_at TIMESTAMPTZ,
    last_at TIMESTAMPTZ,
    is_total BOOLEAN DEFAULT false NOT NULL,
    CONSTRAINT cap_uses_pkey PRIMARY KEY (id)
) WITH (autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX cap_uses_sender_id_idx ON cap_uses (sender_id, day);
CREATE INDEX cap_uses_campaign_id_idx ON cap_uses (campaign_id, day, company);
CREATE INDEX cap_uses_change_idx ON cap_uses (id) WHERE NOT is_total;
{FUNCTION.format(counts_n=COUNTS.format(row="n"), counts_o=COUNTS.format(row="o"))}
CREATE TRIGGER scheduled_emails_cap_uses AFTER UPDATE ON scheduled_emails
    REFERENCING NEW TABLE AS new_rows OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION count_cap_uses();
"""
DOWNGRADE = """
DROP TRIGGER scheduled_emails_cap_uses ON scheduled_emails;
DROP FUNCTION count_cap_uses();
DROP TABLE cap_uses;
ALTER TABLE scheduled_emails DROP lead_company;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE)


def downgrade() -> None:
    op.get_bind().exec_driver_sql(DOWNGRADE)
