"""What a claim takes of the caps is counted in one pass over its rows, by a plan that is kept.

Nothing of a pending row counts before. The rest of the statements compare what counted before and after, as they did.
"""

from __future__ import annotations

from alembic import op

revision = "0080"
down_revision = "0079"

NOBODY = "'00000000-0000-0000-0000-000000000000'::uuid"
KEY = f"""coalesce({{row}}.sender_id, {NOBODY}) AS sender_id, {{row}}.campaign_id, {{row}}.sending_day AS day,
               {{row}}.workflow_step_number = 1 AS is_first, coalesce({{row}}.company, 0) AS company"""
COUNTS = "({row}.status IN ('sending', 'sent') OR coalesce({row}.error_code = 'outcome_unknown', false))"
# As in 0057.
FUNCTION = f"""
CREATE OR REPLACE FUNCTION count_cap_uses() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM new_rows WHERE sending_day IS NOT NULL) THEN RETURN NULL; END IF;
    {{of_claim}}
    EXECUTE $sql$
    INSERT INTO cap_uses (sender_id, campaign_id, day, is_first, company, count, first_at, last_at)
    SELECT sender_id, campaign_id, day, is_first, company, sum(n), min(at), max(at) FROM (
        SELECT {KEY.format(row="n")}, 1 AS n, n.updated_at AS at
        FROM new_rows n JOIN old_rows o ON o.id = n.id
        WHERE n.sending_day IS NOT NULL AND {COUNTS.format(row="n")} AND NOT {COUNTS.format(row="o")}
        UNION ALL
        SELECT {KEY.format(row="o")}, -1, NULL
        FROM old_rows o JOIN new_rows n ON n.id = o.id
        WHERE o.sending_day IS NOT NULL AND o.status = 'sending' AND NOT {COUNTS.format(row="n")}
    ) changes GROUP BY sender_id, campaign_id, day, is_first, company HAVING sum(n) <> 0
    $sql$;
    RETURN NULL;
END $$;
DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION count_cap_uses() SET search_path = %I, pg_temp', current_schema());
END $$;
"""
OF_CLAIM = f"""
    IF NOT EXISTS (SELECT FROM old_rows WHERE status <> 'pending' OR error_code IS NOT NULL) THEN
        INSERT INTO cap_uses (sender_id, campaign_id, day, is_first, company, count, first_at, last_at)
        SELECT {KEY.format(row="n")}, count(*), min(n.updated_at), max(n.updated_at) FROM new_rows n
        WHERE n.sending_day IS NOT NULL AND {COUNTS.format(row="n")} GROUP BY 1, 2, 3, 4, 5;
        RETURN NULL;
    END IF;"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(FUNCTION.format(of_claim=OF_CLAIM))


def downgrade() -> None:
    op.get_bind().exec_driver_sql(FUNCTION.format(of_claim=""))
