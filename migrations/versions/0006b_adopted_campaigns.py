"""Campaigns taken over from an existing installation are known by name, and its application cannot stop or rush them.

The old application goes on writing `campaigns.status` in its own words. Where the campaign is Sendledger's by then, a
trigger translates what a person may have meant (pause, go on, archive) and drops the rest, above all the premature
`completed`. What still leaves its queue after the campaign was taken over counts as sent, so that it is not sent again.
Sendledger's own sessions are told by their application_name.
"""

from alembic import op

revision = "0006b"
down_revision = "0006"

UPGRADE = """
CREATE TABLE adopted_campaigns (
    campaign_id UUID NOT NULL,
    adopted_at TIMESTAMPTZ DEFAULT now() NOT NULL,
    before JSONB NOT NULL,
    CONSTRAINT adopted_campaigns_pkey PRIMARY KEY (campaign_id),
    CONSTRAINT adopted_campaigns_campaign_id_fkey FOREIGN KEY (campaign_id) REFERENCES campaigns (id) ON DELETE CASCADE
);
-- As its owner: the old application's role need not know the ledger.
CREATE FUNCTION guard_campaign_status() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    wanted text := NEW.status;
BEGIN
    IF OLD.status NOT IN ('scheduled', 'running', 'cancelled', 'failed')
       AND NOT EXISTS (SELECT FROM campaign_steps s WHERE s.campaign_id = OLD.id) THEN
        RETURN NEW;
    END IF;
    IF OLD.status = 'running' AND wanted = 'paused' THEN
        NEW.paused_at := now();
        NEW.row_work := OLD.row_work || '[{"kind": "pause"}]';
    ELSIF OLD.status = 'paused' AND wanted = 'active' THEN
        NEW.status := 'running';
        NEW.resumed_at := now();
        NEW.failure_reason := NULL;
        NEW.row_work := OLD.row_work || jsonb_build_array(jsonb_build_object(
            'kind', 'resume', 'after_id', 0,
            'shift_seconds', extract(epoch FROM now() - coalesce(OLD.paused_at, now()))));
    ELSIF OLD.status IN ('running', 'paused') AND wanted = 'archived' THEN
        NEW.cancelled_at := now();
        NEW.row_work := '[{"kind": "cancel"}]';
        UPDATE lead_batches SET active_campaign_id = NULL, updated_at = now() WHERE active_campaign_id = OLD.id;
    ELSIF OLD.status = 'scheduled' AND wanted IN ('draft', 'paused') THEN
        NEW.status := 'draft';
    ELSIF wanted IS DISTINCT FROM 'archived' THEN
        NEW.status := OLD.status;
    END IF;
    IF NOT (OLD.status = 'running' AND wanted = 'active') THEN
        INSERT INTO audit_log (actor, action, entity_type, entity_id, detail)
        VALUES ('other_application', 'campaign.status', 'campaign', OLD.id::text,
                jsonb_build_object('from', OLD.status, 'wanted', wanted, 'became', NEW.status));
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard_campaign_status BEFORE UPDATE OF status ON campaigns FOR EACH ROW
    WHEN (OLD.status IS DISTINCT FROM NEW.status AND current_setting('application_name') <> 'sendledger')
    EXECUTE FUNCTION guard_campaign_status();

CREATE FUNCTION settle_email_of_others() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    stage integer := CASE WHEN NEW.follow_up_stage ~ '^follow_up_[0-9]{1,3}$'
                          THEN substr(NEW.follow_up_stage, 11)::integer + 1 END;
    settled scheduled_emails;
BEGIN
    PERFORM FROM campaigns WHERE id = NEW.campaign_id FOR NO KEY UPDATE;
    UPDATE scheduled_emails
    SET status = 'sent', reason = NULL, sent_at = coalesce(NEW.sent_at AT TIME ZONE 'UTC', now()),
        ses_message_id = NEW.external_id, email_id = NEW.id, updated_at = now()
    WHERE (status = 'pending' OR (status = 'cancelled' AND reason = 'paused'))
      -- Without a stage it is the step that the lead would have had next.
      AND id = (SELECT e.id FROM scheduled_emails e
                WHERE e.lead_id = NEW.lead_id AND e.campaign_id = NEW.campaign_id
                  AND (e.workflow_step_number = stage
                       OR (stage IS NULL AND (e.status IN ('pending', 'sending')
                                              OR (e.status = 'cancelled' AND e.reason = 'paused'))))
                ORDER BY e.workflow_step_number LIMIT 1)
    RETURNING * INTO settled;
    IF FOUND THEN
        UPDATE emails SET scheduled_email_id = settled.id WHERE id = NEW.id;
        UPDATE campaigns SET emails_sent_count = emails_sent_count + 1 WHERE id = NEW.campaign_id;
        UPDATE scheduled_emails n SET scheduled_for = settled.sent_at + s.delay, updated_at = now()
        FROM campaign_steps s
        WHERE s.campaign_id = n.campaign_id AND s.step_number = n.workflow_step_number
          AND n.lead_id = settled.lead_id AND n.campaign_id = settled.campaign_id
          AND n.workflow_step_number = settled.workflow_step_number + 1
          AND (n.status = 'pending' OR (n.status = 'cancelled' AND n.reason = 'paused'))
          AND n.scheduled_for < settled.sent_at + s.delay;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER settle_email_of_others_new AFTER INSERT ON emails FOR EACH ROW
    WHEN (NEW.campaign_id IS NOT NULL AND NEW.scheduled_email_id IS NULL
          AND NEW.status IN ('sent', 'delivered', 'opened', 'clicked', 'bounced', 'spam')
          AND current_setting('application_name') <> 'sendledger')
    EXECUTE FUNCTION settle_email_of_others();
CREATE TRIGGER settle_email_of_others_queued AFTER UPDATE OF status ON emails FOR EACH ROW
    WHEN (NEW.campaign_id IS NOT NULL AND NEW.scheduled_email_id IS NULL
          AND (OLD.status IS NULL OR OLD.status IN ('queued', 'failed')) AND OLD.sent_at IS NULL
          AND NEW.status IN ('sent', 'delivered', 'opened', 'clicked', 'bounced', 'spam')
          AND current_setting('application_name') <> 'sendledger')
    EXECUTE FUNCTION settle_email_of_others();
DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION guard_campaign_status() SET search_path = %I, pg_temp', current_schema());
    EXECUTE format('ALTER FUNCTION settle_email_of_others() SET search_path = %I, pg_temp', current_schema());
END $$;
"""
# What the adoption changed in the old columns goes back to what it was; what has happened since stays. The copies that
# it made are deleted, known by what they say and by the version of their ids, unless somebody has edited or used them.
DOWNGRADE = """
DROP TRIGGER settle_email_of_others_queued ON emails;
DROP TRIGGER settle_email_of_others_new ON emails;
DROP FUNCTION settle_email_of_others();
DROP TRIGGER guard_campaign_status ON campaigns;
DROP FUNCTION guard_campaign_status();
UPDATE campaigns c
SET campaign_type = a.before ->> 'campaign_type',
    -- NULL if it was deleted meanwhile.
    workflow_id = (SELECT w.id FROM workflows w WHERE w.id = (a.before ->> 'workflow_id')::uuid)
FROM adopted_campaigns a WHERE a.campaign_id = c.id;
DELETE FROM workflows w
WHERE description LIKE 'Made for Sendledger from the follow-ups of campaign %' AND substr(id::text, 15, 1) = '5'
  AND updated_at = created_at AND NOT EXISTS (SELECT FROM campaigns c WHERE c.workflow_id = w.id);
UPDATE workflow_steps s SET email_template_id = NULL
FROM email_templates t
WHERE t.id = s.email_template_id AND s.subject IS NOT NULL AND s.body IS NOT NULL
  AND t.description LIKE 'Copy for Sendledger of %' AND substr(t.id::text, 15, 1) = '5';
DELETE FROM email_templates t
WHERE description LIKE 'Copy for Sendledger of %' AND substr(id::text, 15, 1) = '5' AND updated_at = created_at
  AND NOT EXISTS (SELECT FROM campaigns c WHERE c.email_template_id = t.id)
  AND NOT EXISTS (SELECT FROM workflow_steps s WHERE s.email_template_id = t.id);
DROP TABLE adopted_campaigns;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE)


def downgrade() -> None:
    op.get_bind().exec_driver_sql(DOWNGRADE)
