"""When the last tick ended, also one that was not free to send."""

from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    op.execute("ALTER TABLE sender_state ADD COLUMN last_tick_ended_at TIMESTAMPTZ")


def downgrade() -> None:
    op.execute("ALTER TABLE sender_state DROP COLUMN last_tick_ended_at")
