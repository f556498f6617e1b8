"""What the last ticks of the sender did."""

from __future__ import annotations

from alembic import op

revision = "0054"
down_revision = "0053"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE sender_ticks (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            ended_at timestamptz NOT NULL DEFAULT now(),
            is_further boolean NOT NULL,
            claimed integer NOT NULL,
            sent integer NOT NULL,
            failed integer NOT NULL,
            skipped integer NOT NULL,
            unknown integer NOT NULL,
            rate double precision NOT NULL,
            stopped text
        )
    """)


def downgrade() -> None:
    op.execute("DROP TABLE sender_ticks")
