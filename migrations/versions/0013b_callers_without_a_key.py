"""Idempotency keys belong to whoever calls: a person with a token has no API key that they could refer to."""

from alembic import op

revision = "0013b"
down_revision = "0013"


def upgrade() -> None:
    op.execute("ALTER TABLE idempotency_keys DROP CONSTRAINT idempotency_keys_api_key_id_fkey")


def downgrade() -> None:
    op.execute("DELETE FROM idempotency_keys WHERE api_key_id NOT IN (SELECT id FROM api_keys)")
    op.execute(
        "ALTER TABLE idempotency_keys ADD CONSTRAINT idempotency_keys_api_key_id_fkey"
        " FOREIGN KEY (api_key_id) REFERENCES api_keys (id) ON DELETE CASCADE"
    )
