"""Attachments of email templates, and of the steps of campaigns as they were at the start."""

from __future__ import annotations

from alembic import op

revision = "0042"
down_revision = "0041"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE email_template_attachments (
            id uuid PRIMARY KEY,
            email_template_id uuid NOT NULL REFERENCES email_templates (id) ON DELETE CASCADE,
            file_name text NOT NULL,
            content_type text NOT NULL,
            content_id text,
            size integer NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT email_template_attachments_size_check CHECK (size BETWEEN 1 AND 10485760),
            UNIQUE (email_template_id, content_id)
        );
        ALTER TABLE campaign_steps ADD attachments jsonb NOT NULL DEFAULT '[]';
    """)


def downgrade() -> None:
    op.execute("""
        ALTER TABLE campaign_steps DROP attachments;
        DROP TABLE email_template_attachments;
    """)
