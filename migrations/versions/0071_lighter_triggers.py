"""Triggers that write claims and counts do less.

Which rows a statement has claimed is found by counting, not by a join, so that its plan can be kept. A join was planned
anew for each claim and each fence: a session would have kept the plan of its first call, and one for a single row takes
a thousand times as long for a thousand. The step of an email is looked up for what has changed only.
"""

from __future__ import annotations

from alembic import op

revision = "0071"
down_revision = "0070"

FUNCTION = """
CREATE OR REPLACE FUNCTION note_claims() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    claimed BIGINT;
BEGIN
    IF NOT EXISTS (SELECT FROM new_rows WHERE status = 'sending') THEN RETURN NULL;
    ELSIF TG_OP = 'INSERT' THEN
        INSERT INTO claims (claim_token, row_ids)
        SELECT n.claim_token, array_agg(n.id ORDER BY n.id) FROM new_rows n
        WHERE n.status = 'sending' GROUP BY n.claim_token;
    ELSE
        {of_update}
    END IF;
    GET DIAGNOSTICS claimed = ROW_COUNT;
    -- The setting is asked first: where it is on, nothing else is looked at.
    IF claimed > 0 AND coalesce(current_setting('sendledger.knows_revisions', true), '') <> 'on' AND EXISTS (
        SELECT FROM campaigns c
        WHERE c.revision > 1 AND c.id IN (SELECT n.campaign_id FROM new_rows n WHERE n.status = 'sending')
    ) THEN
        RAISE EXCEPTION 'a campaign has several revisions of its workflow, which this version of Sendledger does not know'
            USING HINT = 'Pause the campaigns whose revision is above 1, or go back to the newer version.';
    END IF;
    RETURN NULL;
END $$;
DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION note_claims() SET search_path = %I, pg_temp', current_schema());
END $$;
"""
# A row that the statement has claimed is `sending` with a token with which it was not before.
COUNTED = """
        INSERT INTO claims (claim_token, row_ids)
        SELECT claim_token, array_agg(id ORDER BY id) FROM (
            SELECT id, claim_token FROM (
                SELECT id, claim_token, 1 AS n FROM new_rows WHERE status = 'sending'
                UNION ALL
                SELECT id, claim_token, -1 FROM old_rows WHERE status = 'sending'
            ) changed GROUP BY id, claim_token HAVING sum(n) > 0
        ) newly_claimed GROUP BY claim_token;"""
JOINED = """
        EXECUTE $sql$
        INSERT INTO claims (claim_token, row_ids)
        SELECT n.claim_token, array_agg(n.id ORDER BY n.id) FROM new_rows n
        LEFT JOIN old_rows o ON o.id = n.id AND o.status = 'sending' AND o.claim_token = n.claim_token
        WHERE n.status = 'sending' AND o.id IS NULL GROUP BY n.claim_token
        $sql$;"""

COUNT_EMAILS = """
CREATE OR REPLACE FUNCTION count_emails() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO campaign_counts (campaign_id, what, step_number, hour, count)
    SELECT * FROM (
        SELECT campaign_id, what, step_number, hour, sum(n) FROM ({changes}) changes
        GROUP BY campaign_id, what, step_number, hour HAVING sum(n) <> 0
    ) changed WHERE EXISTS (SELECT FROM campaigns c WHERE c.id = changed.campaign_id);
    RETURN NULL;
END $$;
DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION count_emails() SET search_path = %I, pg_temp', current_schema());
END $$;
"""
HAPPENED = """('delivered', delivered_at), ('opened', opened_at), ('clicked', clicked_at),
                                                   ('bounced', bounced_at)) happened (what, at)
    WHERE campaign_id IS NOT NULL AND happened.at IS NOT NULL"""
OF_EACH_ROW = f"""
    SELECT campaign_id, happened.what, -coalesce(ledger.step, 0) AS step_number,
           date_trunc('hour', happened.at) AT TIME ZONE 'UTC' AS hour, {{sign}} AS n
    FROM {{rows}}{" "}
    LEFT JOIN LATERAL (SELECT workflow_step_number AS step FROM scheduled_emails s WHERE s.id = scheduled_email_id)
    ledger ON true CROSS JOIN LATERAL (VALUES {HAPPENED}
"""
ALL = f"""
            SELECT campaign_id, scheduled_email_id, happened.what, happened.at, {{sign}} AS n
            FROM {{rows}} CROSS JOIN LATERAL (VALUES {HAPPENED}"""
OF_CHANGES = f"""
    SELECT what_changed.campaign_id, what, -coalesce(s.workflow_step_number, 0) AS step_number,
           date_trunc('hour', at) AT TIME ZONE 'UTC' AS hour, n
    FROM (
        SELECT campaign_id, scheduled_email_id, what, at, sum(n) AS n FROM (
            {ALL.format(rows="new_rows", sign=1)} UNION ALL {ALL.format(rows="old_rows", sign=-1)}
        ) all_of_them GROUP BY campaign_id, scheduled_email_id, what, at HAVING sum(n) <> 0
    ) what_changed LEFT JOIN scheduled_emails s ON s.id = what_changed.scheduled_email_id
"""
# As in 0013 and 0055, whose downgrade looks for parts of it.
AS_BEFORE = f"{OF_EACH_ROW.format(rows='new_rows', sign=1)} UNION ALL {OF_EACH_ROW.format(rows='old_rows', sign=-1)}"


def upgrade() -> None:
    op.get_bind().exec_driver_sql(FUNCTION.format(of_update=COUNTED))
    op.get_bind().exec_driver_sql(COUNT_EMAILS.format(changes=OF_CHANGES))


def downgrade() -> None:
    op.get_bind().exec_driver_sql(FUNCTION.format(of_update=JOINED))
    op.get_bind().exec_driver_sql(COUNT_EMAILS.format(changes=AS_BEFORE))
