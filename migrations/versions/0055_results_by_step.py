"""What became of a campaign's emails is counted by step, for the emails that are reported on from now on.

Until now these counts had the step 0. The negative number of the step marks them: functions of the release before take
positive ones for counts of the ledger.
"""

from __future__ import annotations

from alembic import op

revision = "0055"
down_revision = "0054"

# The rest of the trigger's function is as it was.
BEFORE = ("0 AS step_number", "CROSS JOIN LATERAL (VALUES")
STEP = """
    LEFT JOIN LATERAL (SELECT workflow_step_number AS step FROM scheduled_emails s WHERE s.id = scheduled_email_id)
    ledger ON true CROSS JOIN LATERAL (VALUES"""
AFTER = ("-coalesce(ledger.step, 0) AS step_number", STEP)
REPLACE = """
DO $$ BEGIN
    EXECUTE replace(replace(pg_get_functiondef('count_emails'::regproc), '{}', '{}'), '{}', '{}');
END $$
"""


def _replace(old: tuple[str, str], new: tuple[str, str]) -> None:
    op.get_bind().exec_driver_sql(REPLACE.format(old[0], new[0], old[1], new[1]))


def upgrade() -> None:
    _replace(BEFORE, AFTER)


def downgrade() -> None:
    _replace(AFTER, BEFORE)
    # As before, the counts of an email are those of step 0.
    op.execute("""
        WITH moved AS (DELETE FROM campaign_counts WHERE step_number < 0 RETURNING campaign_id, what, hour, count)
        INSERT INTO campaign_counts (campaign_id, what, hour, count)
        SELECT campaign_id, what, hour, sum(count) FROM moved GROUP BY 1, 2, 3
    """)
