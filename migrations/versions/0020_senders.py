"""Senders at work, and what they had in preparation when they died; campaigns over which senders have died."""

from __future__ import annotations

from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE senders (
            token UUID NOT NULL,
            started_at TIMESTAMPTZ NOT NULL DEFAULT now(),
            preparing UUID[] NOT NULL DEFAULT '{}',
            preparing_row BIGINT,
            preparing_since TIMESTAMPTZ,
            CONSTRAINT senders_pkey PRIMARY KEY (token)
        );
        ALTER TABLE campaigns ADD COLUMN sender_deaths INTEGER NOT NULL DEFAULT 0,
            ADD COLUMN prepared_alone BOOLEAN NOT NULL DEFAULT false;
    """)


def downgrade() -> None:
    op.execute("""
        ALTER TABLE campaigns DROP COLUMN sender_deaths, DROP COLUMN prepared_alone;
        DROP TABLE senders;
    """)
