"""Later steps whose earlier one is still open are in no lane, so that no claim looks at them while that waits for a cap.

A trigger lets the next step go when one has ended, whatever statement ends it. What was scheduled before is not behind:
the fence makes such a step wait, as it did.
"""

from __future__ import annotations

from alembic import op

revision = "0061"
down_revision = "0060"

# A step after one of unknown outcome, which may have arrived, keeps its gap. EXECUTE plans anew each time: a session would
# keep the plan of its first call, and one for a single row takes hours for ten thousand.
UPGRADE = """
ALTER TABLE scheduled_emails ADD is_behind BOOLEAN;
CREATE FUNCTION let_next_steps_go() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF EXISTS (SELECT FROM new_rows WHERE lane > 0 AND status IN ('sent', 'failed', 'skipped', 'cancelled')) THEN
        EXECUTE $sql$
        UPDATE scheduled_emails e
        SET is_behind = NULL, scheduled_for = greatest(e.scheduled_for, ended.unknown_since + (
                SELECT s.delay FROM campaign_steps s
                WHERE s.campaign_id = e.campaign_id AND s.revision = e.revision
                  AND s.step_number = e.workflow_step_number))
        FROM (
            SELECT n.lead_id, n.campaign_id, n.workflow_step_number,
                   CASE WHEN n.error_code = 'outcome_unknown' THEN coalesce(n.send_started_at, n.failed_at) END
                       AS unknown_since
            FROM new_rows n JOIN old_rows o ON o.id = n.id
            WHERE n.lane > 0 AND n.lead_id IS NOT NULL AND n.status IN ('sent', 'failed', 'skipped', 'cancelled')
              AND coalesce(n.reason, '') NOT IN ('paused', 'campaign_cancelled')
              AND (o.status <> n.status OR o.reason IS DISTINCT FROM n.reason)
        ) ended
        WHERE e.lead_id = ended.lead_id AND e.campaign_id = ended.campaign_id AND e.is_behind
          AND e.workflow_step_number > ended.workflow_step_number
          AND NOT EXISTS (
              SELECT FROM scheduled_emails p
              WHERE p.lead_id = e.lead_id AND p.campaign_id = e.campaign_id
                AND p.workflow_step_number < e.workflow_step_number
                AND CASE p.status WHEN 'pending' THEN true WHEN 'sending' THEN true
                                  WHEN 'cancelled' THEN p.reason = 'paused' END)
        $sql$;
    END IF;
    -- The steps of a deleted lead cannot be found by it any more. The fence skips them.
    IF EXISTS (SELECT FROM new_rows WHERE is_behind AND lead_id IS NULL) THEN
        UPDATE scheduled_emails e SET is_behind = NULL FROM new_rows n
        WHERE n.is_behind AND n.lead_id IS NULL AND e.id = n.id;
    END IF;
    RETURN NULL;
END $$;
DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION let_next_steps_go() SET search_path = %I, pg_temp', current_schema());
END $$;
CREATE TRIGGER scheduled_emails_next_steps AFTER UPDATE ON scheduled_emails
    REFERENCING NEW TABLE AS new_rows OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION let_next_steps_go();
"""
DOWNGRADE = """
DROP TRIGGER scheduled_emails_next_steps ON scheduled_emails;
DROP FUNCTION let_next_steps_go();
ALTER TABLE scheduled_emails DROP is_behind;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE)


def downgrade() -> None:
    op.get_bind().exec_driver_sql(DOWNGRADE)
