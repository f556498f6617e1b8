"""Campaigns taken over from an existing installation are known by name, and its application cannot stop or rush them.

The old application goes on writing `campaigns.status` in its own words. Where the campaign is Sendledger's by then, a
trigger translates what a person may have meant (pause, go on, archive) and drops the rest, above all the premature
`completed`. Sendledger's own sessions are told by their application_name.
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
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
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
"""
# What the adoption changed in the old columns goes back to what it was; what has happened since stays.
DOWNGRADE = """
DROP TRIGGER guard_campaign_status ON campaigns;
DROP FUNCTION guard_campaign_status();
UPDATE campaigns c
SET campaign_type = a.before ->> 'campaign_type', workflow_id = (a.before ->> 'workflow_id')::uuid
FROM adopted_campaigns a WHERE a.campaign_id = c.id;
DROP TABLE adopted_campaigns;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE)


def downgrade() -> None:
    op.get_bind().exec_driver_sql(DOWNGRADE)
