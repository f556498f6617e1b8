"""The application that used this database before can delete the workflow of a scheduled campaign, which then fails.

The foreign key empties `workflow_id`, and the CHECK of 0081 would refuse that with an error in the middle of its work.
The campaign could not start at its time. It fails now, with the reason, and can be corrected and started again. For
Sendledger's own sessions the CHECK holds: they refuse the deletion and name the campaigns.
"""

from __future__ import annotations

from alembic import op

revision = "0083"
down_revision = "0082"

# Its name comes after guard_campaign_status, which may give back the status `scheduled`: triggers run in this order.
TRIGGER = "scheduled_content_of_others"
# As its owner: the old application's role need not know the audit log.
CREATE = f"""
CREATE OR REPLACE FUNCTION {TRIGGER}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    NEW.status := 'failed';
    NEW.failed_at := now();
    NEW.failure_reason := 'It could not start: another application has removed its email template or workflow.';
    INSERT INTO audit_log (actor, action, entity_type, entity_id, detail)
    VALUES ('other_application', 'campaign.fail', 'campaign', NEW.id::text,
            jsonb_build_object('reason', NEW.failure_reason));
    RETURN NEW;
END $$;
DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION {TRIGGER}() SET search_path = %I, pg_temp', current_schema());
END $$;
CREATE TRIGGER {TRIGGER} BEFORE UPDATE OF email_template_id, workflow_id ON campaigns FOR EACH ROW
    WHEN (NEW.status = 'scheduled' AND NEW.email_template_id IS NULL AND NEW.workflow_id IS NULL
          AND current_setting('application_name') <> 'sendledger')
    EXECUTE FUNCTION {TRIGGER}();
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(CREATE)


def downgrade() -> None:
    op.execute(f"DROP TRIGGER {TRIGGER} ON campaigns")
    op.execute(f"DROP FUNCTION {TRIGGER}()")
