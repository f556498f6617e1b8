"""Lead batches know the campaign that holds them and the campaigns that have used them."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute("""
        ALTER TABLE lead_batches
            ADD active_campaign_id uuid,
            ADD campaign_history jsonb NOT NULL DEFAULT '[]',
            ADD updated_at timestamptz NOT NULL DEFAULT now(),
            ADD CONSTRAINT lead_batches_active_campaign_id_fkey
                FOREIGN KEY (active_campaign_id) REFERENCES campaigns (id) ON DELETE SET NULL
    """)


def downgrade() -> None:
    op.execute("ALTER TABLE lead_batches DROP active_campaign_id, DROP campaign_history, DROP updated_at")
