"""What the last tick was allowed to send, and what kept it from sending."""

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.execute("ALTER TABLE sender_state ADD COLUMN last_rate DOUBLE PRECISION, ADD COLUMN last_blocked TEXT")


def downgrade() -> None:
    op.execute("ALTER TABLE sender_state DROP COLUMN last_rate, DROP COLUMN last_blocked")
