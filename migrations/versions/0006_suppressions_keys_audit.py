"""Suppressions, API keys and the audit log, which only grows."""

from alembic import op

revision = "0006"
down_revision = "0005"

UPGRADE = """
CREATE TABLE suppressions (
    id UUID DEFAULT gen_random_uuid() NOT NULL,
    value TEXT NOT NULL,
    campaign_id UUID,
    reason TEXT NOT NULL,
    note TEXT,
    created_by TEXT,
    created_at TIMESTAMPTZ DEFAULT now() NOT NULL,
    removed_at TIMESTAMPTZ,
    removed_by TEXT,
    removal_reason TEXT,
    CONSTRAINT suppressions_pkey PRIMARY KEY (id),
    CONSTRAINT suppressions_value_lower_case_check CHECK (value = lower(value) AND value <> ''),
    CONSTRAINT suppressions_reason_check
        CHECK (reason IN ('bounce', 'transient_bounces', 'complaint', 'unsubscribe', 'manual', 'import')),
    CONSTRAINT suppressions_campaign_id_fkey FOREIGN KEY (campaign_id) REFERENCES campaigns (id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX suppressions_active_key ON suppressions (value, coalesce(campaign_id, '00000000-0000-0000-0000-000000000000'))
        WHERE removed_at IS NULL;
CREATE TABLE api_keys (
    id UUID DEFAULT gen_random_uuid() NOT NULL,
    name TEXT NOT NULL,
    key_hash TEXT NOT NULL,
    role TEXT NOT NULL,
    created_at TIMESTAMPTZ DEFAULT now() NOT NULL,
    expires_at TIMESTAMPTZ,
    last_used_at TIMESTAMPTZ,
    revoked_at TIMESTAMPTZ,
    CONSTRAINT api_keys_pkey PRIMARY KEY (id),
    CONSTRAINT api_keys_role_check CHECK (role IN ('viewer', 'editor', 'sender', 'admin')),
    CONSTRAINT api_keys_key_hash_key UNIQUE (key_hash)
);
CREATE TABLE audit_log (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    occurred_at TIMESTAMPTZ DEFAULT now() NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    entity_type TEXT NOT NULL,
    entity_id TEXT NOT NULL,
    detail JSONB DEFAULT '{}' NOT NULL,
    CONSTRAINT audit_log_pkey PRIMARY KEY (id)
);
CREATE INDEX audit_log_entity_type_entity_id_id_idx ON audit_log (entity_type, entity_id, id);
ALTER TABLE leads ADD erased_at timestamptz;
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
END $$;
CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
"""
DOWNGRADE = """
ALTER TABLE leads DROP erased_at;
DROP TABLE audit_log;
DROP FUNCTION refuse_change();
DROP TABLE api_keys;
DROP TABLE suppressions;
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(UPGRADE)


def downgrade() -> None:
    op.get_bind().exec_driver_sql(DOWNGRADE)
