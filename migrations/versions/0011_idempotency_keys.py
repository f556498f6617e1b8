"""The answers to requests with an Idempotency-Key, kept so that a repeated request gets the same one."""

from alembic import op

revision = "0011"
down_revision = "0010"

UPGRADE = """
CREATE TABLE idempotency_keys (
    api_key_id uuid NOT NULL,
    key text NOT NULL,
    request_hash text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    status integer,
    answer jsonb,
    CONSTRAINT idempotency_keys_pkey PRIMARY KEY (api_key_id, key),
    CONSTRAINT idempotency_keys_api_key_id_fkey FOREIGN KEY (api_key_id) REFERENCES api_keys (id) ON DELETE CASCADE,
    CONSTRAINT idempotency_keys_answered_check CHECK ((status IS NULL) = (answer IS NULL))
);
CREATE INDEX idempotency_keys_started_at_idx ON idempotency_keys (started_at);
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE)


def downgrade() -> None:
    op.execute("DROP TABLE idempotency_keys")
