"""`sender.stopped` is told, too, when SES says before any email that the account may not send, or no more for 24 hours.

A tick ends with what has blocked it. A stop of our own is told when it begins, and not once more here.
"""

from __future__ import annotations

from alembic import op

revision = "0052"
down_revision = "0051"


def upgrade() -> None:
    op.execute("""
        CREATE FUNCTION webhooks_of_blocked_sender() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
        BEGIN
            INSERT INTO webhook_deliveries (endpoint_id, event_type, data)
            SELECT w.id, 'sender.stopped', jsonb_build_object(
                'stop_code', split_part(NEW.last_blocked, ': ', 1),
                'reason', substr(NEW.last_blocked, strpos(NEW.last_blocked, ': ') + 2))
            FROM webhook_endpoints w WHERE 'sender.stopped' = ANY (w.event_types) AND w.campaign_ids IS NULL;
            RETURN NULL;
        END $$;
        DO $do$ BEGIN
            EXECUTE format('ALTER FUNCTION webhooks_of_blocked_sender() SET search_path = %I, pg_temp', current_schema());
        END $do$;
        CREATE TRIGGER sender_state_blocked_webhooks AFTER UPDATE OF last_blocked ON sender_state
            FOR EACH ROW WHEN (
                split_part(NEW.last_blocked, ': ', 1) IN ('account', 'daily_quota')
                AND split_part(NEW.last_blocked, ': ', 1) IS DISTINCT FROM split_part(OLD.last_blocked, ': ', 1)
                AND (NEW.stop_code IS NULL OR NEW.stopped_until <= now()))
            EXECUTE FUNCTION webhooks_of_blocked_sender();
    """)


def downgrade() -> None:
    op.execute("DROP TRIGGER sender_state_blocked_webhooks ON sender_state")
    op.execute("DROP FUNCTION webhooks_of_blocked_sender()")
