"""Sessions of the console, and the attempts to open one."""

from __future__ import annotations

from alembic import op

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE console_sessions (
            token_hash TEXT NOT NULL,
            api_key_id UUID NOT NULL,
            created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
            expires_at TIMESTAMPTZ NOT NULL,
            CONSTRAINT console_sessions_pkey PRIMARY KEY (token_hash),
            CONSTRAINT console_sessions_api_key_id_fkey FOREIGN KEY (api_key_id) REFERENCES api_keys (id)
                ON DELETE CASCADE
        );
        CREATE INDEX console_sessions_api_key_id_idx ON console_sessions (api_key_id);
        CREATE INDEX console_sessions_expires_at_idx ON console_sessions (expires_at);
        CREATE TABLE console_sign_in_attempts (
            address TEXT NOT NULL,
            attempts INTEGER NOT NULL,
            last_at TIMESTAMPTZ NOT NULL DEFAULT now(),
            retry_at TIMESTAMPTZ NOT NULL DEFAULT now(),
            CONSTRAINT console_sign_in_attempts_pkey PRIMARY KEY (address)
        );
        CREATE INDEX console_sign_in_attempts_last_at_idx ON console_sign_in_attempts (last_at);
    """)


def downgrade() -> None:
    op.execute("DROP TABLE console_sign_in_attempts; DROP TABLE console_sessions")
