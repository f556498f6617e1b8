"""Steps with variants: their contents and weights, and which variant each scheduled email has."""

from __future__ import annotations

from alembic import op

from sendledger.core.online_ddl import outside_of_a_transaction

revision = "0044"
down_revision = "0043"

CHECK = "scheduled_emails_variant_check"


def upgrade() -> None:
    """Two transactions, each of which can be repeated."""
    op.execute("""
        ALTER TABLE workflow_steps ADD IF NOT EXISTS keep_variant boolean NOT NULL DEFAULT true;
        ALTER TABLE campaign_steps ADD IF NOT EXISTS keep_variant boolean NOT NULL DEFAULT true;
        ALTER TABLE campaigns ADD IF NOT EXISTS content_changed_at timestamptz;
        ALTER TABLE scheduled_emails ADD IF NOT EXISTS variant smallint;
        CREATE TABLE IF NOT EXISTS workflow_step_variants (
            workflow_step_id uuid NOT NULL,
            variant smallint NOT NULL,
            email_template_id uuid NOT NULL,
            weight integer NOT NULL,
            CONSTRAINT workflow_step_variants_pkey PRIMARY KEY (workflow_step_id, variant),
            CONSTRAINT workflow_step_variants_workflow_step_id_fkey FOREIGN KEY (workflow_step_id)
                REFERENCES workflow_steps (id) ON DELETE CASCADE,
            CONSTRAINT workflow_step_variants_email_template_id_fkey FOREIGN KEY (email_template_id)
                REFERENCES email_templates (id) ON DELETE RESTRICT,
            CONSTRAINT workflow_step_variants_variant_check CHECK (variant BETWEEN 1 AND 8),
            CONSTRAINT workflow_step_variants_weight_check CHECK (weight BETWEEN 1 AND 100)
        );
        CREATE TABLE IF NOT EXISTS campaign_step_variants (
            campaign_id uuid NOT NULL,
            step_number integer NOT NULL,
            variant smallint NOT NULL,
            weight integer NOT NULL,
            email_template_id uuid,
            subject text NOT NULL,
            body_text text NOT NULL,
            body_html text,
            attachments jsonb NOT NULL DEFAULT '[]',
            retired_at timestamptz,
            replaced_by smallint,
            CONSTRAINT campaign_step_variants_pkey PRIMARY KEY (campaign_id, step_number, variant),
            CONSTRAINT campaign_step_variants_campaign_id_fkey FOREIGN KEY (campaign_id, step_number)
                REFERENCES campaign_steps (campaign_id, step_number) ON DELETE CASCADE,
            CONSTRAINT campaign_step_variants_email_template_id_fkey FOREIGN KEY (email_template_id)
                REFERENCES email_templates (id) ON DELETE SET NULL,
            CONSTRAINT campaign_step_variants_variant_check CHECK (variant BETWEEN 1 AND 8),
            CONSTRAINT campaign_step_variants_weight_check CHECK (weight BETWEEN 1 AND 100),
            CONSTRAINT campaign_step_variants_retired_whole_check CHECK ((retired_at IS NULL) = (replaced_by IS NULL)),
            CONSTRAINT campaign_step_variants_replaced_by_check CHECK (replaced_by <> variant)
        )
    """)
    op.execute(f"ALTER TABLE scheduled_emails DROP CONSTRAINT IF EXISTS {CHECK}")
    op.execute(f"ALTER TABLE scheduled_emails ADD CONSTRAINT {CHECK} CHECK (variant BETWEEN 1 AND 8) NOT VALID")
    # In a later transaction: looking at the existing rows while the table is locked would block its readers.
    outside_of_a_transaction(f"ALTER TABLE scheduled_emails VALIDATE CONSTRAINT {CHECK}")


def downgrade() -> None:
    op.execute("""
        DROP TABLE campaign_step_variants;
        DROP TABLE workflow_step_variants;
        ALTER TABLE scheduled_emails DROP variant;
        ALTER TABLE campaigns DROP content_changed_at;
        ALTER TABLE campaign_steps DROP keep_variant;
        ALTER TABLE workflow_steps DROP keep_variant
    """)
