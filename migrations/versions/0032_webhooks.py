"""Outgoing webhooks: endpoints, and an outbox that triggers fill in the transaction of the change.

A trigger for each statement looks first whether an endpoint wants its kind of event, and writes nothing if none does.
What changes seldom has a trigger for each row, which PostgreSQL does not even call unless its condition holds.
"""

from alembic import op

revision = "0032"
down_revision = "0031"

TABLES = """
CREATE TABLE webhook_endpoints (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    url text NOT NULL,
    description text,
    event_types text[] NOT NULL,
    campaign_ids uuid[],
    include_addresses boolean NOT NULL DEFAULT false,
    secret text NOT NULL,
    previous_secret text,
    previous_secret_until timestamptz,
    is_enabled boolean NOT NULL DEFAULT true,
    disabled_reason text,
    failures integer NOT NULL DEFAULT 0,
    failing_since timestamptz,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    last_delivered_at timestamptz,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT webhook_endpoints_pkey PRIMARY KEY (id),
    CONSTRAINT webhook_endpoints_wants_something_check CHECK (cardinality(event_types) > 0),
    CONSTRAINT webhook_endpoints_disabled_has_reason_check CHECK (is_enabled = (disabled_reason IS NULL))
);
CREATE TABLE webhook_deliveries (
    id bigint GENERATED ALWAYS AS IDENTITY,
    endpoint_id uuid NOT NULL,
    event_type text NOT NULL,
    data jsonb NOT NULL,
    occurred_at timestamptz NOT NULL DEFAULT now(),
    status text NOT NULL DEFAULT 'pending',
    attempts smallint NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    first_attempt_at timestamptz,
    last_attempt_at timestamptz,
    response_status integer,
    response_text text,
    CONSTRAINT webhook_deliveries_pkey PRIMARY KEY (id),
    CONSTRAINT webhook_deliveries_endpoint_id_fkey
        FOREIGN KEY (endpoint_id) REFERENCES webhook_endpoints (id) ON DELETE CASCADE,
    CONSTRAINT webhook_deliveries_status_check CHECK (status IN ('pending', 'delivered', 'failed'))
) WITH (fillfactor = 70);
CREATE INDEX webhook_deliveries_pending_idx ON webhook_deliveries (endpoint_id, next_attempt_at, id)
    WHERE status = 'pending';
CREATE INDEX webhook_deliveries_endpoint_id_id_idx ON webhook_deliveries (endpoint_id, id);
CREATE INDEX webhook_deliveries_occurred_at_idx ON webhook_deliveries (occurred_at);
"""

WANTED = """
    INSERT INTO webhook_deliveries (endpoint_id, event_type, data)
    SELECT w.id, e.event_type, e.data FROM ({events}) e JOIN webhook_endpoints w
        ON e.event_type = ANY (w.event_types)
       AND (w.campaign_ids IS NULL OR (e.data ->> 'campaign_id')::uuid = ANY (w.campaign_ids));
"""

# By statement: the events of all rows that it has changed.
OF_STATEMENTS = {
    ("scheduled_emails", "UPDATE"): (
        ("email.sent", "email.failed"),
        """SELECT 'email.' || n.status AS event_type, jsonb_strip_nulls(jsonb_build_object(
               'scheduled_email_id', n.id, 'email_id', n.email_id, 'campaign_id', n.campaign_id, 'lead_id', n.lead_id,
               'step', n.workflow_step_number, 'error_code', n.error_code)) AS data
           FROM new_rows n JOIN old_rows o ON o.id = n.id
           WHERE n.status IN ('sent', 'failed') AND o.status <> n.status""",
    ),
    ("email_events", "INSERT"): (
        ("email.delivered", "email.bounced", "email.complained", "email.opened", "email.clicked"),
        """SELECT CASE n.event_type WHEN 'Delivery' THEN 'email.delivered' WHEN 'Bounce' THEN 'email.bounced'
                      WHEN 'Complaint' THEN 'email.complained' WHEN 'Open' THEN 'email.opened'
                      ELSE 'email.clicked' END AS event_type,
               jsonb_strip_nulls(jsonb_build_object(
                   'scheduled_email_id', n.scheduled_email_id, 'email_id', n.email_id, 'campaign_id', n.campaign_id,
                   'lead_id', n.lead_id, 'occurred_at', n.occurred_at, 'bounce_type', n.detail ->> 'bounce_type'))
                   AS data
           FROM new_rows n
           WHERE n.event_type IN ('Delivery', 'Bounce', 'Complaint', 'Open', 'Click') AND NOT n.is_machine
             AND n.email_id IS NOT NULL""",
    ),
    ("suppressions", "INSERT"): (
        ("lead.suppressed",),
        """SELECT 'lead.suppressed' AS event_type, jsonb_strip_nulls(jsonb_build_object(
               'suppression_id', n.id, 'campaign_id', n.campaign_id, 'reason', n.reason)) AS data
           FROM new_rows n""",
    ),
}

# By row: NEW is the row. The condition is PostgreSQL's WHEN; the events of a kind that is not NULL are written.
OF_ROWS = {
    ("campaigns", "UPDATE"): (
        "OLD.status IS DISTINCT FROM NEW.status",
        """CASE NEW.status WHEN 'running' THEN
               CASE WHEN OLD.status IN ('paused', 'completed') THEN 'campaign.resumed' ELSE 'campaign.started' END
           WHEN 'paused' THEN 'campaign.paused' WHEN 'completed' THEN 'campaign.completed'
           WHEN 'cancelled' THEN 'campaign.cancelled' WHEN 'failed' THEN 'campaign.failed' END""",
        "'campaign_id', NEW.id, 'previous_status', OLD.status, 'reason', NEW.failure_reason",
    ),
    ("replies", "INSERT"): (
        "NEW.lead_id IS NOT NULL AND NEW.automatic IS NULL",
        "'lead.replied'",
        """'reply_id', NEW.id, 'lead_id', NEW.lead_id, 'campaign_id', NEW.campaign_id, 'email_id', NEW.email_id""",
    ),
    ("unsubscribes", "INSERT"): (
        "true",
        "'lead.unsubscribed'",
        """'lead_id', NEW.lead_id, 'campaign_id', NEW.campaign_id, 'scheduled_email_id', NEW.scheduled_email_id,
           'scope', NEW.scope, 'method', NEW.method""",
    ),
    ("lead_batches", "UPDATE"): (
        """OLD.completed_at IS NULL AND NEW.completed_at IS NOT NULL
           OR OLD.status <> NEW.status AND NEW.status = 'failed'""",
        "'import.completed'",
        """'lead_batch_id', NEW.id, 'status', NEW.status, 'total_leads', NEW.total_leads,
           'successful_imports', NEW.successful_imports, 'failed_imports', NEW.failed_imports,
           'duplicates_skipped', NEW.duplicates_skipped""",
    ),
    ("exports", "UPDATE"): (
        "OLD.status <> NEW.status AND NEW.status IN ('completed', 'failed')",
        "'export.completed'",
        """'export_id', NEW.id, 'kind', NEW.kind, 'campaign_id', NEW.campaign_id, 'status', NEW.status,
           'rows_written', NEW.rows_written""",
    ),
    ("sender_state", "UPDATE"): (
        "NEW.stop_code IS NOT NULL AND OLD.stop_code IS DISTINCT FROM NEW.stop_code",
        "'sender.stopped'",
        "'stop_code', NEW.stop_code, 'reason', NEW.stop_reason, 'stopped_until', NEW.stopped_until",
    ),
}


def _function(name: str, body: str) -> str:
    # It runs as its owner: no function's database user may write deliveries itself. Hence the fixed path.
    return f"""
        CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
        BEGIN {body} RETURN NULL;
        END $$;
        DO $do$ BEGIN
            EXECUTE format('ALTER FUNCTION {name}() SET search_path = %I, pg_temp', current_schema());
        END $do$;
    """


def upgrade() -> None:
    run = op.get_bind().exec_driver_sql
    run(TABLES)
    for (table, event), (types, events) in OF_STATEMENTS.items():
        array = ", ".join(f"'{type_}'" for type_ in types)
        body = f"""
            IF EXISTS (SELECT FROM webhook_endpoints WHERE event_types && ARRAY[{array}]) THEN
                {WANTED.format(events=events)}
            END IF;"""
        run(_function(f"webhooks_of_{table}", body))
        rows = "NEW TABLE AS new_rows" + (" OLD TABLE AS old_rows" if event == "UPDATE" else "")
        run(f"""CREATE TRIGGER {table}_webhooks AFTER {event} ON {table} REFERENCING {rows}
                FOR EACH STATEMENT EXECUTE FUNCTION webhooks_of_{table}()""")
    for (table, event), (condition, type_, data) in OF_ROWS.items():
        events = f"SELECT {type_} AS event_type, jsonb_strip_nulls(jsonb_build_object({data})) AS data"
        run(_function(f"webhooks_of_{table}", WANTED.format(events=events)))
        run(f"""CREATE TRIGGER {table}_webhooks AFTER {event} ON {table}
                FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION webhooks_of_{table}()""")


def downgrade() -> None:
    for table, _ in (*OF_STATEMENTS, *OF_ROWS):
        op.execute(f"DROP TRIGGER {table}_webhooks ON {table}")
        op.execute(f"DROP FUNCTION webhooks_of_{table}()")
    op.execute("DROP TABLE webhook_deliveries")
    op.execute("DROP TABLE webhook_endpoints")
