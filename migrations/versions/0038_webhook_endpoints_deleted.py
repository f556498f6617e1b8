"""Deleting a webhook endpoint blocks nobody, and an opt-out that widens is told.

With the foreign key each change that told an endpoint waited for its deletion, and then failed.
"""

from __future__ import annotations

from alembic import op

revision = "0038"
down_revision = "0037"


def upgrade() -> None:
    op.execute("""
        ALTER TABLE webhook_deliveries DROP CONSTRAINT webhook_deliveries_endpoint_id_fkey;
        CREATE TRIGGER unsubscribes_widened_webhooks AFTER UPDATE OF scope ON unsubscribes
            FOR EACH ROW WHEN (OLD.scope IS DISTINCT FROM NEW.scope AND NEW.undone_at IS NULL)
            EXECUTE FUNCTION webhooks_of_unsubscribes();
    """)


def downgrade() -> None:
    op.execute("""
        DROP TRIGGER unsubscribes_widened_webhooks ON unsubscribes;
        DELETE FROM webhook_deliveries d
            WHERE NOT EXISTS (SELECT FROM webhook_endpoints w WHERE w.id = d.endpoint_id);
        ALTER TABLE webhook_deliveries ADD CONSTRAINT webhook_deliveries_endpoint_id_fkey
            FOREIGN KEY (endpoint_id) REFERENCES webhook_endpoints (id) ON DELETE CASCADE;
    """)
