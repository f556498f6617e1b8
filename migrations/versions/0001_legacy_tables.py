"""The tables of a LeadNexConnect installation: recognised where they exist, created where the database is empty.

Sendledger grew out of LeadNexConnect and takes over its databases in place. Starting every database from the same
tables means that there is one schema and one path to it. A database with tables must have exactly these, with these
columns, types, defaults and constraints; what is besides them is none of our business as long as it is not in the way.
They are what LeadNexConnect's migrations 0000 to 0004 make. What its later campaign overhaul added is put aside first, once it is said that the old
application is stopped.
"""

from collections.abc import Iterator

import sqlalchemy as sa
from alembic import context, op
from alembic.util import CommandError

from sendledger.adoption import overhaul
from sendledger.core.tables import metadata

revision = "0001"
down_revision = None

LEGACY_SCHEMA = """
CREATE TYPE campaign_status AS ENUM ('draft', 'active', 'paused', 'completed', 'archived');
CREATE TYPE email_status AS ENUM ('queued', 'sent', 'delivered', 'opened', 'clicked', 'bounced', 'failed', 'spam');
CREATE TYPE lead_status AS ENUM ('new', 'contacted', 'follow_up_1', 'follow_up_2', 'responded', 'interested', 'not_interested', 'invalid', 'converted');
CREATE TYPE schedule_type AS ENUM ('manual', 'daily', 'weekly', 'custom', 'immediate', 'scheduled');
CREATE TYPE scraping_status AS ENUM ('queued', 'running', 'completed', 'failed', 'cancelled');
CREATE TYPE template_category AS ENUM ('initial_outreach', 'follow_up', 'meeting_request', 'introduction', 'product_demo', 'partnership', 'general', 'other');
CREATE TYPE verification_status AS ENUM ('unverified', 'email_verified', 'phone_verified', 'fully_verified');
CREATE TABLE activity_log (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    entity_type varchar(50) NOT NULL,
    entity_id uuid NOT NULL,
    action varchar(100) NOT NULL,
    description text,
    metadata jsonb,
    created_at timestamp DEFAULT now(),
    CONSTRAINT activity_log_pkey PRIMARY KEY (id)
);
CREATE TABLE api_config (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    api_source varchar(50) NOT NULL,
    api_key varchar(500),
    api_secret varchar(500),
    plan_name varchar(100),
    monthly_limit integer DEFAULT 0,
    cost_per_lead numeric(10,2) DEFAULT '0',
    cost_per_api_call numeric(10,2) DEFAULT '0',
    is_active boolean DEFAULT true,
    documentation_url varchar(500),
    setup_notes text,
    created_at timestamp DEFAULT now(),
    updated_at timestamp DEFAULT now(),
    CONSTRAINT api_config_pkey PRIMARY KEY (id)
);
CREATE TABLE api_performance (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    api_source varchar(50) NOT NULL,
    leads_generated integer DEFAULT 0,
    leads_converted integer DEFAULT 0,
    emails_found integer DEFAULT 0,
    emails_verified integer DEFAULT 0,
    avg_lead_score numeric(5,2),
    hot_leads_percent numeric(5,2),
    warm_leads_percent numeric(5,2),
    demos_booked integer DEFAULT 0,
    trials_started integer DEFAULT 0,
    customers_converted integer DEFAULT 0,
    api_calls_used integer DEFAULT 0,
    api_calls_limit integer,
    cost_per_lead numeric(10,2),
    period_start date NOT NULL,
    period_end date NOT NULL,
    created_at timestamp DEFAULT now(),
    CONSTRAINT api_performance_pkey PRIMARY KEY (id)
);
CREATE TABLE api_usage (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    service varchar(50) NOT NULL,
    requests_made integer DEFAULT 0,
    requests_limit integer,
    period_start timestamp NOT NULL,
    period_end timestamp NOT NULL,
    cost integer DEFAULT 0,
    created_at timestamp DEFAULT now(),
    updated_at timestamp DEFAULT now(),
    CONSTRAINT api_usage_pkey PRIMARY KEY (id)
);
CREATE TABLE campaign_leads (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    campaign_id uuid NOT NULL,
    lead_id uuid NOT NULL,
    added_at timestamp DEFAULT now(),
    processed boolean DEFAULT false,
    processed_at timestamp,
    CONSTRAINT campaign_leads_pkey PRIMARY KEY (id)
);
CREATE TABLE campaigns (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    name varchar(255) NOT NULL,
    description text,
    industry varchar(100),
    target_countries varchar(100)[],
    target_cities varchar(100)[],
    company_size varchar(50),
    leads_per_day integer DEFAULT 50,
    email_template_id uuid,
    follow_up_enabled boolean DEFAULT true,
    follow_up_1_delay_days integer DEFAULT 3,
    follow_up_2_delay_days integer DEFAULT 5,
    status campaign_status DEFAULT 'draft',
    schedule_type schedule_type DEFAULT 'manual',
    schedule_time varchar(10),
    start_date timestamp,
    end_date timestamp,
    uses_linkedin boolean DEFAULT false,
    uses_apollo boolean DEFAULT false,
    uses_people_dl boolean DEFAULT false,
    uses_google_places boolean DEFAULT false,
    uses_web_scraping boolean DEFAULT false,
    leads_generated integer DEFAULT 0,
    emails_sent integer DEFAULT 0,
    emails_opened integer DEFAULT 0,
    emails_clicked integer DEFAULT 0,
    responses_received integer DEFAULT 0,
    last_run_at timestamp,
    created_at timestamp DEFAULT now(),
    updated_at timestamp DEFAULT now(),
    campaign_type varchar(50) DEFAULT 'automated',
    batch_id uuid,
    workflow_id uuid,
    CONSTRAINT campaigns_pkey PRIMARY KEY (id)
);
CREATE TABLE custom_variables (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    key varchar(100) NOT NULL,
    label varchar(255) NOT NULL,
    value varchar(255) NOT NULL,
    category varchar(50) DEFAULT 'custom' NOT NULL,
    description text,
    usage_count integer DEFAULT 0,
    is_active boolean DEFAULT true,
    default_value varchar(500),
    created_at timestamp DEFAULT now(),
    updated_at timestamp DEFAULT now(),
    CONSTRAINT custom_variables_pkey PRIMARY KEY (id)
);
CREATE TABLE email_templates (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    name varchar(255) NOT NULL,
    description text,
    industry varchar(100),
    follow_up_stage varchar(50) DEFAULT 'initial',
    subject varchar(500) NOT NULL,
    body_text text NOT NULL,
    body_html text,
    variables jsonb,
    is_active boolean DEFAULT true,
    is_default boolean DEFAULT false,
    created_at timestamp DEFAULT now(),
    updated_at timestamp DEFAULT now(),
    category template_category DEFAULT 'general',
    usage_count integer DEFAULT 0,
    CONSTRAINT email_templates_pkey PRIMARY KEY (id)
);
CREATE TABLE emails (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    lead_id uuid NOT NULL,
    campaign_id uuid,
    subject varchar(500) NOT NULL,
    body_text text NOT NULL,
    body_html text,
    follow_up_stage varchar(50) DEFAULT 'initial',
    status email_status DEFAULT 'queued',
    sent_at timestamp,
    delivered_at timestamp,
    opened_at timestamp,
    clicked_at timestamp,
    bounced_at timestamp,
    error_message text,
    external_id varchar(255),
    open_count integer DEFAULT 0,
    click_count integer DEFAULT 0,
    metadata jsonb,
    created_at timestamp DEFAULT now(),
    CONSTRAINT emails_pkey PRIMARY KEY (id)
);
CREATE TABLE lead_batches (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    name varchar(255) NOT NULL,
    source_file varchar(255),
    uploaded_by varchar(255),
    total_leads integer DEFAULT 0,
    successful_imports integer DEFAULT 0,
    failed_imports integer DEFAULT 0,
    duplicates_skipped integer DEFAULT 0,
    import_settings jsonb,
    notes text,
    created_at timestamp DEFAULT now(),
    completed_at timestamp,
    CONSTRAINT lead_batches_pkey PRIMARY KEY (id)
);
CREATE TABLE lead_source_roi (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    lead_id uuid NOT NULL,
    source varchar(50) NOT NULL,
    first_contact_at timestamp,
    demo_booked_at timestamp,
    trial_started_at timestamp,
    converted_at timestamp,
    plan_type varchar(50),
    mrr numeric(10,2),
    lifetime_value numeric(10,2),
    attributed_source varchar(50),
    conversion_time_days integer,
    created_at timestamp DEFAULT now(),
    CONSTRAINT lead_source_roi_pkey PRIMARY KEY (id)
);
CREATE TABLE leads (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    company_name varchar(255) NOT NULL,
    website varchar(255),
    email varchar(255),
    phone varchar(50),
    contact_name varchar(255),
    job_title varchar(255),
    country varchar(100),
    city varchar(100),
    address text,
    industry varchar(100) NOT NULL,
    business_type varchar(100),
    company_size varchar(50),
    source varchar(50) NOT NULL,
    quality_score integer DEFAULT 0,
    verification_status verification_status DEFAULT 'unverified',
    status lead_status DEFAULT 'new',
    follow_up_stage varchar(50) DEFAULT 'initial',
    last_contacted_at timestamp,
    last_responded_at timestamp,
    emails_sent integer DEFAULT 0,
    emails_opened integer DEFAULT 0,
    emails_clicked integer DEFAULT 0,
    notes text,
    tags varchar(100)[],
    custom_fields jsonb,
    linkedin_url varchar(500),
    linkedin_sales_nav_data jsonb,
    created_at timestamp DEFAULT now(),
    updated_at timestamp DEFAULT now(),
    has_google_maps_listing boolean DEFAULT false,
    google_rating numeric(3,2),
    google_review_count integer DEFAULT 0,
    has_booking_keywords boolean DEFAULT false,
    booking_keyword_score integer DEFAULT 0,
    current_booking_tool varchar(100),
    has_appointment_form boolean DEFAULT false,
    has_online_booking boolean DEFAULT false,
    has_multi_location boolean DEFAULT false,
    services_count integer DEFAULT 0,
    booking_potential varchar(20) DEFAULT 'medium',
    digital_maturity_score integer DEFAULT 0,
    is_decision_maker boolean DEFAULT false,
    has_weekend_hours boolean,
    response_time varchar(50),
    price_level integer,
    source_type varchar(50) DEFAULT 'automated',
    batch_id uuid,
    CONSTRAINT leads_pkey PRIMARY KEY (id)
);
CREATE TABLE scraping_jobs (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    source varchar(50) NOT NULL,
    industry varchar(100),
    country varchar(100),
    city varchar(100),
    max_results integer DEFAULT 100,
    filters jsonb,
    status scraping_status DEFAULT 'queued',
    progress integer DEFAULT 0,
    leads_found integer DEFAULT 0,
    leads_imported integer DEFAULT 0,
    error_message text,
    results_json jsonb,
    started_at timestamp,
    completed_at timestamp,
    created_at timestamp DEFAULT now(),
    CONSTRAINT scraping_jobs_pkey PRIMARY KEY (id)
);
CREATE TABLE settings (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    key varchar(100) NOT NULL,
    value jsonb NOT NULL,
    updated_at timestamp DEFAULT now(),
    CONSTRAINT settings_pkey PRIMARY KEY (id)
);
CREATE TABLE smtp_config (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    provider varchar(100) NOT NULL,
    provider_name varchar(100) NOT NULL,
    host varchar(255) NOT NULL,
    port integer NOT NULL,
    secure boolean DEFAULT true,
    username varchar(255),
    password varchar(500),
    from_email varchar(255) NOT NULL,
    from_name varchar(255),
    daily_limit integer DEFAULT 0,
    hourly_limit integer DEFAULT 0,
    is_active boolean DEFAULT true,
    is_primary boolean DEFAULT false,
    priority integer DEFAULT 0,
    documentation_url varchar(500),
    setup_notes text,
    emails_sent_today integer DEFAULT 0,
    emails_sent_this_hour integer DEFAULT 0,
    last_reset_at timestamp DEFAULT now(),
    created_at timestamp DEFAULT now(),
    updated_at timestamp DEFAULT now(),
    CONSTRAINT smtp_config_pkey PRIMARY KEY (id)
);
CREATE TABLE website_analysis_cache (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    domain varchar(255) NOT NULL,
    has_booking_keywords boolean,
    booking_keyword_score integer,
    current_booking_tool varchar(100),
    has_appointment_form boolean,
    has_calendar boolean,
    has_pricing boolean,
    has_gallery boolean,
    has_reviews boolean,
    has_contact_form boolean,
    has_phone_only boolean,
    multi_location boolean,
    services_count integer,
    language_support varchar(255)[],
    analysis_data jsonb,
    last_analyzed_at timestamp DEFAULT now(),
    expires_at timestamp,
    created_at timestamp DEFAULT now(),
    CONSTRAINT website_analysis_cache_pkey PRIMARY KEY (id)
);
CREATE TABLE workflow_steps (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    workflow_id uuid NOT NULL,
    step_number integer NOT NULL,
    days_after_previous integer DEFAULT 0,
    subject varchar(500) NOT NULL,
    body text NOT NULL,
    created_at timestamp DEFAULT now(),
    CONSTRAINT workflow_steps_pkey PRIMARY KEY (id)
);
CREATE TABLE workflows (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    name varchar(255) NOT NULL,
    description text,
    steps_count integer DEFAULT 1,
    industry varchar(100),
    country varchar(100),
    ai_instructions text,
    is_active boolean DEFAULT true,
    usage_count integer DEFAULT 0,
    created_at timestamp DEFAULT now(),
    updated_at timestamp DEFAULT now(),
    CONSTRAINT workflows_pkey PRIMARY KEY (id)
);
ALTER TABLE api_config ADD CONSTRAINT api_config_api_source_unique UNIQUE (api_source);
ALTER TABLE campaign_leads ADD CONSTRAINT campaign_leads_campaign_id_campaigns_id_fk FOREIGN KEY (campaign_id) REFERENCES campaigns(id) ON DELETE CASCADE;
ALTER TABLE campaign_leads ADD CONSTRAINT campaign_leads_lead_id_leads_id_fk FOREIGN KEY (lead_id) REFERENCES leads(id) ON DELETE CASCADE;
ALTER TABLE campaigns ADD CONSTRAINT campaigns_workflow_id_workflows_id_fk FOREIGN KEY (workflow_id) REFERENCES workflows(id) ON DELETE SET NULL;
ALTER TABLE custom_variables ADD CONSTRAINT custom_variables_key_unique UNIQUE (key);
ALTER TABLE emails ADD CONSTRAINT emails_campaign_id_campaigns_id_fk FOREIGN KEY (campaign_id) REFERENCES campaigns(id) ON DELETE SET NULL;
ALTER TABLE emails ADD CONSTRAINT emails_lead_id_leads_id_fk FOREIGN KEY (lead_id) REFERENCES leads(id) ON DELETE CASCADE;
ALTER TABLE lead_source_roi ADD CONSTRAINT lead_source_roi_lead_id_leads_id_fk FOREIGN KEY (lead_id) REFERENCES leads(id) ON DELETE CASCADE;
ALTER TABLE settings ADD CONSTRAINT settings_key_unique UNIQUE (key);
ALTER TABLE website_analysis_cache ADD CONSTRAINT website_analysis_cache_domain_unique UNIQUE (domain);
ALTER TABLE workflow_steps ADD CONSTRAINT workflow_steps_workflow_id_workflows_id_fk FOREIGN KEY (workflow_id) REFERENCES workflows(id) ON DELETE CASCADE;
"""
REFERENCE = "sendledger_reference"
"""A schema with the expected tables, there for as long as it takes to compare the two."""

NEWEST_SUPPORTED = "0004_deep_changeling"
"""The last migration of LeadNexConnect before its campaign overhaul."""

NEWEST_OVERHAUL = "0010_sender_profiles_and_company_profile"
"""The last migration after it whose databases are recognised."""

OVERHAUL_STOPPED = "overhaul-stopped"
"""Says that the application of the overhaul is stopped: `alembic -x overhaul-stopped …`, or an attribute."""

IS_OVERHAULED = """
SELECT EXISTS (SELECT FROM pg_attribute
               WHERE attrelid = to_regclass(:schema || '.scheduled_emails') AND attname = 'id'
                 AND atttypid = 'uuid'::regtype)
       AND to_regclass(:schema || '.campaigns') IS NOT NULL
"""
MOST_DIFFERENCES = 20

OTHER_INDEXES = ("lead_source_roi_lead_id_idx", "leads_batch_id_idx")
"""Names of indexes that later revisions make or drop on these tables, besides those of `metadata`."""

TABLES = "SELECT relname FROM pg_class WHERE relnamespace = CAST(:schema AS regnamespace) AND relkind IN ('r', 'p')"
# What a table consists of, one line each, in words that a person understands when one of them is missing.
PARTS = """
SELECT 'column ' || c.relname || '.' || a.attname || ' ' ||
       CASE t.typtype WHEN 'e' THEN t.typname ELSE format_type(a.atttypid, a.atttypmod) END ||
       CASE WHEN a.attnotnull THEN ' not null' ELSE '' END ||
       coalesce(' default ' || replace(pg_get_expr(d.adbin, d.adrelid), :schema || '.', ''), '')
FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relnamespace = CAST(:schema AS regnamespace) AND c.relname = ANY(:tables)
  AND NOT starts_with(a.attname, :aside)
UNION ALL
SELECT 'constraint ' || c.relname || '.' || k.conname || ' ' ||
       replace(pg_get_constraintdef(k.oid), :schema || '.', '')
FROM pg_class c JOIN pg_constraint k ON k.conrelid = c.oid
WHERE c.relnamespace = CAST(:schema AS regnamespace) AND c.relname = ANY(:tables) AND k.contype <> 'n'
UNION ALL
SELECT 'type ' || t.typname || ' (' || string_agg(e.enumlabel, ', ' ORDER BY e.enumlabel) || ')'
FROM pg_type t JOIN pg_enum e ON e.enumtypid = t.oid
WHERE t.typnamespace = CAST(:schema AS regnamespace) AND t.typname = ANY(:types)
GROUP BY t.typname
"""
ENUMS = "SELECT typname FROM pg_type WHERE typnamespace = CAST(:schema AS regnamespace) AND typtype = 'e'"
# What later revisions would stumble over: relations with the names of their tables and indexes, which they would drop;
# what keeps campaigns.status from getting another type (an index on the bare column is built anew with it); and policies
# that hide rows from the functions' users.
IN_THE_WAY = """
SELECT CASE relkind WHEN 'v' THEN 'view ' WHEN 'm' THEN 'materialized view ' WHEN 'S' THEN 'sequence '
                    WHEN 'i' THEN 'index ' ELSE 'table ' END || relname || ', a name that Sendledger needs: rename it'
FROM pg_class WHERE relnamespace = CAST(:schema AS regnamespace) AND relname = ANY(:names)
UNION ALL
SELECT DISTINCT pg_describe_object(d.classid, d.objid, 0)
       || ', which reads campaigns.status: drop it, and make it again after the upgrade'
FROM pg_depend d
JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid AND a.attname = 'status'
LEFT JOIN pg_index i ON d.classid = CAST('pg_class' AS regclass) AND i.indexrelid = d.objid
WHERE d.refclassid = CAST('pg_class' AS regclass) AND d.refobjid = to_regclass(:schema || '.campaigns')
  AND (d.classid = ANY(CAST(ARRAY['pg_rewrite', 'pg_trigger', 'pg_policy', 'pg_proc', 'pg_publication_rel']
                            AS regclass[]))
       OR strpos(pg_get_expr(i.indpred, i.indrelid), 'status') > 0
       OR strpos(pg_get_expr(i.indexprs, i.indrelid), 'status') > 0)
UNION ALL
SELECT 'row-level security on table ' || relname || ': ALTER TABLE ' || relname || ' DISABLE ROW LEVEL SECURITY'
FROM pg_class c WHERE relnamespace = CAST(:schema AS regnamespace) AND relname = ANY(:tables) AND relrowsecurity
  -- Of a Sendledger that was here before; see database_roles.py.
  AND NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname = 'sendledger_everybody')
ORDER BY 1
"""


def upgrade() -> None:
    connection = op.get_bind()
    schema = connection.scalar(sa.text("SELECT current_schema()"))
    present = set(connection.scalars(sa.text(TABLES), {"schema": schema})) - {"alembic_version"}
    if not present:
        connection.exec_driver_sql(LEGACY_SCHEMA)
    elif connection.scalar(sa.text(IS_OVERHAULED), {"schema": schema}):
        _put_aside_overhaul(connection, schema, present)
    elif differences := list(_differences(connection, schema, present)):
        raise CommandError(
            "This database is neither empty nor a LeadNexConnect database as Sendledger knows it. Nothing was changed. "
            f"It has {len(present)} tables; supported are LeadNexConnect's migrations 0000 to {NEWEST_SUPPORTED}. "
            "Found:\n  " + "\n  ".join(_first(differences))
        )


def _put_aside_overhaul(connection: sa.Connection, schema: str, present: set[str]) -> None:
    if differences := [*overhaul.put_aside(connection), *_differences(connection, schema, present)]:
        raise CommandError(
            "This database has been through LeadNexConnect's campaign overhaul, but is not as Sendledger knows it. "
            f"Nothing was changed.\nKnown are the overhaul's migrations up to {NEWEST_OVERHAUL}. "
            f"{len(differences)} differences, the first: {differences[0]}\n"
            f"Take over a backup from before the overhaul ({NEWEST_SUPPORTED}); what was sent since then is not in it."
        )
    arguments = context.get_x_argument(as_dictionary=True)
    if OVERHAUL_STOPPED not in arguments and not context.config.attributes.get(OVERHAUL_STOPPED):
        raise CommandError(
            "This database has been through LeadNexConnect's campaign overhaul: it has scheduled_emails of its own. "
            "Nothing was changed.\n"
            "Sendledger moves that table aside, so the old application must be stopped, and stay so.\n"
            "Stop it, take a backup, and say so: make migrate ARGS='--overhaul-stopped', or "
            '{"overhaul_stopped": true} for the function.'
        )


def _differences(connection: sa.Connection, schema: str, present: set[str]) -> Iterator[str]:
    with connection.begin_nested() as savepoint:
        connection.exec_driver_sql(f"CREATE SCHEMA {REFERENCE}; SET LOCAL search_path = {REFERENCE}")
        connection.exec_driver_sql(LEGACY_SCHEMA)
        tables = sorted(connection.scalars(sa.text(TABLES), {"schema": REFERENCE}))
        types = sorted(connection.scalars(sa.text(ENUMS), {"schema": REFERENCE}))
        expected = _parts(connection, REFERENCE, tables, types)
        savepoint.rollback()
    missing = [table for table in tables if table not in present]
    yield from (f"missing: table {table}" for table in missing)
    found = _parts(connection, schema, tables, types)
    for part in sorted(expected - found):
        if part.split()[1].split(".")[0] not in missing:
            yield f"missing: {part}"
    yield from (
        f"unknown, of a newer version or of a migration that did not end: {part}" for part in sorted(found - expected)
    )
    indexes = {str(index.name) for table in metadata.tables.values() for index in table.indexes}
    needed = sorted({*metadata.tables, *indexes, *OTHER_INDEXES} - set(tables))
    names = {"schema": schema, "names": needed, "tables": tables}
    yield from (f"in the way: {what}" for what in connection.scalars(sa.text(IN_THE_WAY), names))


def _first(differences: list[str]) -> list[str]:
    left = len(differences) - MOST_DIFFERENCES
    return differences[:MOST_DIFFERENCES] + ([f"… and {left} more"] if left > 0 else [])


def _parts(connection: sa.Connection, schema: str, tables: list[str], types: list[str]) -> set[str]:
    names = {"schema": schema, "tables": tables, "types": types, "aside": overhaul.PREFIX}
    return set(connection.scalars(sa.text(PARTS), names))


def downgrade() -> None:
    """Leave the tables: whether they were there before cannot be known any more, and they hold the leads."""
    overhaul.put_back(op.get_bind())
