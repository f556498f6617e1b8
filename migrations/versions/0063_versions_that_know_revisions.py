"""A version that does not tell revisions apart claims nothing of a campaign that has several.

It would join each claimed email with the step of every revision, and send it once for each.
"""

from __future__ import annotations

from alembic import op

revision = "0063"
down_revision = "0062"

# EXECUTE plans anew each time: a session would keep the plan of its first call, and one for a single row takes a
# thousand times as long for a thousand.
FUNCTION = """
CREATE OR REPLACE FUNCTION note_claims() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    claimed BIGINT;
BEGIN
    IF NOT EXISTS (SELECT FROM new_rows) THEN RETURN NULL;
    ELSIF TG_OP = 'INSERT' THEN
        INSERT INTO claims (claim_token, row_ids)
        SELECT n.claim_token, array_agg(n.id ORDER BY n.id) FROM new_rows n
        WHERE n.status = 'sending' GROUP BY n.claim_token;
    ELSE
        EXECUTE $sql$
        INSERT INTO claims (claim_token, row_ids)
        SELECT n.claim_token, array_agg(n.id ORDER BY n.id) FROM new_rows n
        LEFT JOIN old_rows o ON o.id = n.id AND o.status = 'sending' AND o.claim_token = n.claim_token
        WHERE n.status = 'sending' AND o.id IS NULL GROUP BY n.claim_token
        $sql$;
    END IF;
    GET DIAGNOSTICS claimed = ROW_COUNT;{check}
    RETURN NULL;
END $$;
DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION note_claims() SET search_path = %I, pg_temp', current_schema());
END $$;
"""
# The setting is asked first: where it is on, nothing else is looked at.
CHECK = """
    IF claimed > 0 AND coalesce(current_setting('sendledger.knows_revisions', true), '') <> 'on' AND EXISTS (
        SELECT FROM campaigns c
        WHERE c.revision > 1 AND c.id IN (SELECT n.campaign_id FROM new_rows n WHERE n.status = 'sending')
    ) THEN
        RAISE EXCEPTION 'a campaign has several revisions of its workflow, which this version of Sendledger does not know'
            USING HINT = 'Pause the campaigns whose revision is above 1, or go back to the newer version.';
    END IF;"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(FUNCTION.format(check=CHECK))


def downgrade() -> None:
    op.get_bind().exec_driver_sql(FUNCTION.format(check=""))
