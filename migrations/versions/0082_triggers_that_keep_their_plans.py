"""The triggers that count results and caps keep their plans, so that a record of few emails costs less.

A statement whose rows all count before and after changes nothing of the caps: a fence, and a record of sent emails. A claim,
and a record of others, are counted in one pass over their rows. The rest of the statements compare each row with itself, as
they did.
"""

from __future__ import annotations

from alembic import op

revision = "0082"
down_revision = "0081"

NOBODY = "'00000000-0000-0000-0000-000000000000'::uuid"
KEY = f"""coalesce({{row}}.sender_id, {NOBODY}) AS sender_id, {{row}}.campaign_id, {{row}}.sending_day AS day,
               {{row}}.workflow_step_number = 1 AS is_first, coalesce({{row}}.company, 0) AS company"""
COUNTS = "({row}.status IN ('sending', 'sent') OR coalesce({row}.error_code = 'outcome_unknown', false))"
# As in 0057.
CAP_USES = f"""
CREATE OR REPLACE FUNCTION count_cap_uses() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM new_rows WHERE sending_day IS NOT NULL) THEN RETURN NULL; END IF;
    {{of_most}}
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
# Not where rows are being sent before and after: such a row may have got another company, which changes no count. Only a
# claim adds to what counts, and its statement does nothing else: so the times are those of its rows.
IN_ONE_PASS = f"""
    IF NOT EXISTS (SELECT FROM new_rows n WHERE NOT {COUNTS.format(row="n")})
        AND NOT EXISTS (SELECT FROM old_rows o WHERE NOT {COUNTS.format(row="o")}) THEN
        RETURN NULL;
    END IF;
    IF NOT EXISTS (SELECT FROM old_rows WHERE status = 'sent' OR error_code = 'outcome_unknown')
        AND NOT (EXISTS (SELECT FROM old_rows WHERE status = 'sending')
                 AND EXISTS (SELECT FROM new_rows WHERE status = 'sending')) THEN
        INSERT INTO cap_uses (sender_id, campaign_id, day, is_first, company, count, first_at, last_at)
        SELECT sender_id, campaign_id, day, is_first, company, sum(n),
               CASE WHEN sum(n) > 0 THEN min(at) END, CASE WHEN sum(n) > 0 THEN max(at) END
        FROM (
            SELECT {KEY.format(row="n")}, 1 AS n, n.updated_at AS at FROM new_rows n
            WHERE n.sending_day IS NOT NULL AND {COUNTS.format(row="n")}
            UNION ALL
            SELECT {KEY.format(row="o")}, -1, NULL FROM old_rows o
            WHERE o.sending_day IS NOT NULL AND o.status = 'sending'
        ) changes GROUP BY sender_id, campaign_id, day, is_first, company HAVING sum(n) <> 0;
        RETURN NULL;
    END IF;"""
# As in 0080.
OF_CLAIM = f"""
    IF NOT EXISTS (SELECT FROM old_rows WHERE status <> 'pending' OR error_code IS NOT NULL) THEN
        INSERT INTO cap_uses (sender_id, campaign_id, day, is_first, company, count, first_at, last_at)
        SELECT {KEY.format(row="n")}, count(*), min(n.updated_at), max(n.updated_at) FROM new_rows n
        WHERE n.sending_day IS NOT NULL AND {COUNTS.format(row="n")} GROUP BY 1, 2, 3, 4, 5;
        RETURN NULL;
    END IF;"""

# count_results() of 0068. As in 0073: a plan that finds each campaign and lane by its key is right for many.
SETTINGS = ("enable_seqscan", "enable_hashjoin", "enable_mergejoin")
REPLACE = """
DO $do$ BEGIN
    EXECUTE replace(replace(pg_get_functiondef('count_results'::regproc), '{}', '{}'), '{}', '{}');
END $do$
"""
PLANNED_ANEW = ("EXECUTE $sql$", "$sql$;")
KEPT = ("/* kept from here */", "/* to here */;")


def _replace(old: tuple[str, str], new: tuple[str, str]) -> None:
    op.get_bind().exec_driver_sql(REPLACE.format(old[0], new[0], old[1], new[1]))


def upgrade() -> None:
    op.get_bind().exec_driver_sql(CAP_USES.format(of_most=IN_ONE_PASS))
    _replace(PLANNED_ANEW, KEPT)
    for setting in SETTINGS:
        op.execute(f"ALTER FUNCTION count_results() SET {setting} = off")


def downgrade() -> None:
    for setting in SETTINGS:
        op.execute(f"ALTER FUNCTION count_results() RESET {setting}")
    _replace(KEPT, PLANNED_ANEW)
    op.get_bind().exec_driver_sql(CAP_USES.format(of_most=OF_CLAIM))
