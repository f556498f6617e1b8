"""Campaigns whose workflow is edited while they take in leads: a copy of the content for each revision."""

from __future__ import annotations

from alembic import op

from sendledger.core.online_ddl import outside_of_a_transaction

revision = "0051"
down_revision = "0050"

STEP = "scheduled_emails_campaign_id_fkey"


def upgrade() -> None:
    """Two transactions, each of which can be repeated."""
    op.execute(f"""
        ALTER TABLE campaigns
            ADD IF NOT EXISTS revision smallint NOT NULL DEFAULT 1, ADD IF NOT EXISTS revision_digest text;
        ALTER TABLE scheduled_emails
            ADD IF NOT EXISTS revision smallint NOT NULL DEFAULT 1, ADD IF NOT EXISTS winner_wait integer,
            DROP CONSTRAINT {STEP};
        ALTER TABLE campaign_step_variants ADD IF NOT EXISTS revision smallint NOT NULL DEFAULT 1,
            DROP CONSTRAINT campaign_step_variants_campaign_id_fkey,
            DROP CONSTRAINT campaign_step_variants_pkey;
        ALTER TABLE campaign_steps ADD IF NOT EXISTS revision smallint NOT NULL DEFAULT 1,
            DROP CONSTRAINT campaign_steps_pkey,
            ADD CONSTRAINT campaign_steps_pkey PRIMARY KEY (campaign_id, revision, step_number);
        ALTER TABLE campaign_step_variants
            ADD CONSTRAINT campaign_step_variants_pkey PRIMARY KEY (campaign_id, revision, step_number, variant),
            ADD CONSTRAINT campaign_step_variants_campaign_id_fkey FOREIGN KEY (campaign_id, revision, step_number)
                REFERENCES campaign_steps (campaign_id, revision, step_number) ON DELETE CASCADE;
        ALTER TABLE scheduled_emails ADD CONSTRAINT {STEP} FOREIGN KEY (campaign_id, revision, workflow_step_number)
            REFERENCES campaign_steps (campaign_id, revision, step_number) ON DELETE CASCADE NOT VALID
    """)
    # In a later transaction: looking at the existing rows while the table is locked would block its readers.
    outside_of_a_transaction(f"ALTER TABLE scheduled_emails VALIDATE CONSTRAINT {STEP}")


def downgrade() -> None:
    # Each step goes on as the oldest revision that has it.
    op.execute(f"""
        ALTER TABLE scheduled_emails DROP CONSTRAINT {STEP};
        DELETE FROM campaign_steps s USING campaign_steps older
        WHERE older.campaign_id = s.campaign_id AND older.step_number = s.step_number
          AND older.revision < s.revision;
        ALTER TABLE campaign_step_variants
            DROP CONSTRAINT campaign_step_variants_campaign_id_fkey,
            DROP CONSTRAINT campaign_step_variants_pkey,
            DROP revision;
        ALTER TABLE campaign_steps DROP CONSTRAINT campaign_steps_pkey, DROP revision,
            ADD CONSTRAINT campaign_steps_pkey PRIMARY KEY (campaign_id, step_number);
        ALTER TABLE campaign_step_variants
            ADD CONSTRAINT campaign_step_variants_pkey PRIMARY KEY (campaign_id, step_number, variant),
            ADD CONSTRAINT campaign_step_variants_campaign_id_fkey FOREIGN KEY (campaign_id, step_number)
                REFERENCES campaign_steps (campaign_id, step_number) ON DELETE CASCADE;
        ALTER TABLE scheduled_emails DROP revision, DROP winner_wait,
            ADD CONSTRAINT {STEP} FOREIGN KEY (campaign_id, workflow_step_number)
                REFERENCES campaign_steps (campaign_id, step_number) ON DELETE CASCADE;
        ALTER TABLE campaigns DROP revision, DROP revision_digest
    """)
