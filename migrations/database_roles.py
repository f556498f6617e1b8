"""The users of the database: its owner, who migrates it, and one for each kind of function, with what it needs.

`create_roles` is for the administrator of a new database, `grant` for the owner after each upgrade. The functions'
users are named after the owner: `sendledger_api` of `sendledger`. Only the owner may do what is not in `GRANTS`: no
other user can create, alter or truncate a table, or change the audit log. `MAX_CONNECTIONS` reserves connections for
the sender, however many requests come from outside.

The user of the public unsubscribe page can use only the rows of one lead, whose id its transaction sets
(`sendledger.lead_id`, from a signed link). Ids of leads are random, and no table that it may read contains others. So
it skips the mail of that lead. The sender's fence stops mail to the same address under another lead.
"""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from sendledger.core.tables import metadata

# A privilege is removed one release after the last statement that needs it: during a deployment, and after a rollback,
# functions of the version before use these grants. SQLAlchemy reads the id of inserted rows (SELECT (id) of the audit
# log). A row lock needs the right to update a column. Cascading foreign keys and the counts of triggers need no rights.
GRANTS: Mapping[str, Mapping[str, str]] = {
    "api": {
        "alembic_version": "SELECT",
        "answers": "SELECT, INSERT, UPDATE",
        "api_keys": "SELECT, INSERT, UPDATE",
        "audit_log": "SELECT, INSERT",
        "campaign_counts": "SELECT",
        "campaign_lanes": "SELECT, INSERT, UPDATE (late_hold_until)",
        "campaign_leads": "SELECT, INSERT, DELETE",
        "campaign_step_variants": """SELECT, INSERT,
            UPDATE (email_template_id, subject, body_text, body_html, attachments, retired_at, replaced_by)""",
        "campaign_steps": """SELECT, INSERT, UPDATE (email_template_id, subject, body_text, body_html,
            attachments, winner_at, winner_decided_at, winner_variant)""",
        "campaigns": "SELECT, INSERT, UPDATE, DELETE",
        # A campaign that gets a cap of new leads while it runs.
        "cap_uses": "SELECT, INSERT (sender_id, campaign_id, day, is_first, company, count)",
        "claims": "SELECT",
        "console_sessions": "SELECT, INSERT, DELETE",
        "console_sign_in_attempts": "SELECT, INSERT, UPDATE, DELETE",
        "daily_counts": "SELECT",
        "email_events": "SELECT, UPDATE (detail)",
        "email_template_attachments": "SELECT, INSERT, UPDATE (created_at), DELETE",
        "email_templates": "SELECT, INSERT, UPDATE, DELETE",
        "emails": """SELECT, INSERT,
            UPDATE (to_address, subject, body_text, body_html, error_message, external_id, metadata)""",
        "exports": "SELECT, INSERT",
        "idempotency_keys": "SELECT, INSERT, UPDATE, DELETE",
        "lead_batches": "SELECT, INSERT, UPDATE, DELETE",
        "lead_changes": "SELECT, INSERT, UPDATE",
        "leads": "SELECT, INSERT, UPDATE, DELETE",
        "left_out_leads": "SELECT, INSERT, UPDATE (lead_id), DELETE",
        "past_contacts": "SELECT, DELETE",
        "removals": "SELECT",
        "removed_emails": "SELECT",
        "replies": """SELECT, INSERT, UPDATE (emails_skipped, outcome, later_until, handled_at, handled_by), DELETE""",
        # The version before reads it.
        "requeued_sends": "SELECT, INSERT",
        "result_counts": "SELECT",
        "retention_state": "SELECT",
        "scheduled_emails": "SELECT, INSERT, UPDATE",
        "segments": "SELECT, INSERT, UPDATE, DELETE",
        "sender_addresses": "SELECT, INSERT, UPDATE, DELETE",
        # Without deployment_id: a copy that must not send could make itself the owner.
        "sender_state": "SELECT, UPDATE (stop_code, stop_reason, stopped_until)",
        "sender_ticks": "SELECT",
        "sending_schedules": "SELECT, INSERT, UPDATE, DELETE",
        "suppressions": "SELECT, INSERT, UPDATE, DELETE",
        "unsubscribes": "SELECT, INSERT, UPDATE (scope, method)",
        "webhook_deliveries": """SELECT, INSERT (endpoint_id, event_type, data),
            UPDATE (status, attempts, first_attempt_at, next_attempt_at)""",
        "webhook_endpoints": "SELECT, INSERT, UPDATE, DELETE",
        "workflow_step_variants": "SELECT, INSERT",
        "workflow_steps": "SELECT, INSERT, DELETE",
        "workflows": "SELECT, INSERT, UPDATE, DELETE",
    },
    "sender": {
        "answers": "SELECT",
        "audit_log": "SELECT (id), INSERT",
        "campaign_counts": "SELECT, INSERT, UPDATE (count), DELETE",
        "campaign_lanes": "SELECT, INSERT, UPDATE (late_hold_until)",
        "campaign_leads": "SELECT",
        "campaign_step_variants": "SELECT, INSERT, UPDATE (retired_at, replaced_by)",
        "campaign_steps": "SELECT, INSERT, UPDATE (winner_at, winner_decided_at, winner_variant)",
        "campaigns": """SELECT, UPDATE (status, background_work, late_hold_until, failure_reason, use_workflow,
            actual_started_at, paused_at, completed_at, failed_at, last_run_at, updated_at, current_workflow_step,
            leads_left_out, total_leads_targeted, emails_scheduled_count, emails_sent_count, emails_sent,
            emails_failed_count, sender_deaths, prepared_alone, next_intake_at, idle_since, batch_ids, winner_at,
            revision, revision_digest, leads_before_revision, workflow_errors)""",
        # The fold locks what it adds up. The trigger that writes the changes runs as its owner.
        "cap_uses": "SELECT, INSERT, UPDATE (count), DELETE",
        "claims": "SELECT, UPDATE (row_ids), DELETE",
        "daily_counts": "SELECT, INSERT, UPDATE (count), DELETE",
        "email_events": "SELECT (campaign_id, event_type, ses_message_id, occurred_at, detail)",
        # A start locks the attachments that it copies.
        "email_template_attachments": "SELECT, UPDATE (created_at)",
        "email_templates": "SELECT",
        "emails": """SELECT (id, campaign_id, lead_id, sent_at, subject, body_text, delivered_at, opened_at,
            clicked_at), INSERT, UPDATE (subject, body_text, body_html)""",
        "lead_batches": "SELECT, UPDATE (active_campaign_id, campaign_history, updated_at)",
        "leads": "SELECT, UPDATE (status, follow_up_stage, last_contacted_at, emails_sent, updated_at)",
        "left_out_leads": "SELECT, INSERT",
        "past_contacts": "SELECT",
        "removed_emails": "SELECT",
        "replies": "SELECT (campaign_id, lead_id, email_id, matched_by, automatic)",
        "requeued_sends": "SELECT",
        "result_counts": "SELECT, INSERT, UPDATE (count), DELETE",
        "scheduled_emails": """SELECT, INSERT, UPDATE (status, reason, scheduled_for, retry_count, lost_claims,
            claim_token, lease_until, send_started_at, sent_at, failed_at, error_code, failure_reason, ses_message_id,
            email_id, updated_at, sender_id, sending_day, company, template_id, variant, fallback_variant,
            is_behind)""",
        # A start locks the segments that it evaluates.
        "segments": "SELECT, UPDATE (updated_at)",
        # A claim locks the row whose budget it counts.
        "sender_addresses": "SELECT, UPDATE (updated_at)",
        "sender_state": "SELECT, UPDATE",
        "sender_ticks": "SELECT (id), INSERT, DELETE",
        "senders": "SELECT, INSERT, UPDATE, DELETE",
        "sending_schedules": "SELECT",
        "suppressions": "SELECT",
        "workflow_step_variants": "SELECT",
        "workflow_steps": "SELECT",
    },
    # What SES reports, and replies.
    "events": {
        "answers": "SELECT",
        "audit_log": "SELECT (id, action, entity_type, entity_id, detail), INSERT",
        "campaign_lanes": "SELECT",
        "campaign_step_variants": "SELECT",
        "campaign_steps": "SELECT",
        "campaigns": """SELECT, UPDATE (status, background_work, failure_reason, paused_at, completed_at, last_run_at,
            idle_since, updated_at, current_workflow_step, responses_received, emails_sent_count, emails_sent,
            emails_failed_count, emails_delivered_count, emails_bounced_count, emails_soft_bounced_count,
            emails_complained_count, emails_opened_count, emails_clicked_count, emails_opened, emails_clicked,
            emails_unsubscribed_count, emails_replied_count)""",
        "claims": "SELECT",
        "email_events": "SELECT, INSERT",
        "emails": """SELECT, INSERT, UPDATE (external_id, status, delivery_status, delivered_at, opened_at, clicked_at,
            bounced_at, soft_bounced_at, open_count, click_count, subject, body_text, body_html)""",
        "lead_batches": "SELECT, UPDATE (active_campaign_id, campaign_history, updated_at)",
        "leads": """SELECT, UPDATE (status, follow_up_stage, last_contacted_at, last_responded_at, emails_sent,
            emails_opened, emails_clicked, updated_at)""",
        "past_contacts": "SELECT",
        "replies": "SELECT, INSERT, UPDATE (emails_skipped)",
        "scheduled_emails": """SELECT, UPDATE (status, reason, scheduled_for, retry_count, claim_token, lease_until,
            send_started_at, sent_at, failed_at, error_code, failure_reason, ses_message_id, email_id, updated_at,
            sending_day, is_behind)""",
        "sending_schedules": "SELECT",
        "suppressions": "SELECT, INSERT, UPDATE (reason, removed_at, removed_by, removal_reason)",
        "unsubscribes": "SELECT, INSERT",
    },
    # Imports and exports.
    "files": {
        "adopted_campaigns": "SELECT",
        "campaign_lanes": "SELECT",
        "campaign_leads": "SELECT, INSERT (campaign_id, lead_id)",
        # Which files are still used.
        "campaign_step_variants": "SELECT (attachments)",
        "campaign_steps": "SELECT (attachments)",
        "campaigns": "SELECT, UPDATE (updated_at)",
        "email_template_attachments": "SELECT (id)",
        "emails": """SELECT (id, campaign_id, lead_id, to_address, delivery_status, delivered_at, opened_at, clicked_at,
            bounced_at, soft_bounced_at)""",
        "exports": """SELECT, UPDATE (status, attempts, rows_written, object_key, failure_reason, completed_at,
            updated_at)""",
        "lead_batches": """SELECT, DELETE, UPDATE (status, failure_reason, completed_at, updated_at, total_leads,
            successful_imports, duplicates_skipped, failed_imports, source_etag, rejects_object,
            runs_without_progress, import_settings)""",
        "lead_changes": """SELECT, UPDATE (filter, custom_fields, leads_done, leads_changed, after_id, updated_at,
            completed_at)""",
        "leads": "SELECT, INSERT, DELETE, UPDATE (tags, custom_fields, updated_at)",
        "left_out_leads": "SELECT",
        "past_contacts": "SELECT",
        "replies": "SELECT (campaign_id, lead_id, matched_by, automatic)",
        "scheduled_emails": "SELECT, UPDATE (status, reason, updated_at)",
        "sender_addresses": "SELECT",
        "segments": "SELECT",
        "suppressions": "SELECT, INSERT, UPDATE (reason)",
    },
    # What removes old history. It locks campaigns and leads, so it must be able to update a column of each.
    "retention": {
        "adopted_campaigns": "SELECT (campaign_id)",
        "answers": "SELECT (reply_id), UPDATE (subject, body_text)",
        "audit_log": "SELECT (id), INSERT",
        "campaign_counts": "INSERT",
        "campaign_lanes": "SELECT (campaign_id, lane, sender_id)",
        "campaigns": """SELECT (id, status, background_work, actual_started_at, completed_at, cancelled_at, failed_at,
            updated_at), UPDATE (updated_at)""",
        "email_events": "SELECT, DELETE, UPDATE (lead_id, detail)",
        "emails": "SELECT, DELETE, UPDATE (subject, body_text, body_html, metadata)",
        "exports": "SELECT (campaign_id, status)",
        "leads": "SELECT (id), UPDATE (updated_at)",
        "past_contacts": "SELECT, INSERT, UPDATE",
        "removals": "SELECT, INSERT, UPDATE",
        "removed_emails": "SELECT, INSERT, UPDATE",
        "replies": """SELECT (id, campaign_id, email_id, automatic, created_at, handled_at, subject, body_text),
            UPDATE (subject, body_text)""",
        "retention_state": "SELECT, INSERT, UPDATE",
        "scheduled_emails": "SELECT, DELETE",
        "unsubscribes": "SELECT (campaign_id, scheduled_email_id, undone_at)",
    },
    # What signs webhooks; the function that posts them has no user.
    "webhooks": {
        "audit_log": "SELECT (id), INSERT",
        "leads": "SELECT (id, email)",
        "suppressions": "SELECT (id, value)",
        "webhook_deliveries": """SELECT, DELETE, UPDATE (status, attempts, next_attempt_at, first_attempt_at,
            last_attempt_at, response_status, response_text)""",
        "webhook_endpoints": """SELECT, UPDATE (is_enabled, disabled_reason, failures, failing_since, next_attempt_at,
            last_delivered_at, updated_at)""",
    },
    "unsubscribe": {
        "audit_log": "SELECT (id), INSERT",
        "campaigns": """SELECT (id, from_address, sender_ids, emails_unsubscribed_count),
            UPDATE (emails_unsubscribed_count)""",
        "emails": "SELECT (lead_id, scheduled_email_id, to_address, delivery_status)",
        "leads": "SELECT (id, email), UPDATE (updated_at)",
        "past_contacts": "SELECT (lead_id, bounced)",
        "scheduled_emails": """SELECT (id, lead_id, campaign_id, sender_id, status, reason),
            UPDATE (status, reason, updated_at)""",
        # Whom an email came from; recipients see it anyway.
        "sender_addresses": "SELECT (id, from_address)",
        "suppressions": "SELECT, INSERT, UPDATE (reason, removed_at, removed_by, removal_reason)",
        "unsubscribes": "SELECT, INSERT, UPDATE (scope, method, undone_at)",
    },
}

# The smallest instance takes about 80 connections, the next size twice as many. The number of senders is a parameter
# (SenderConcurrency), so their user has no limit here.
MAX_CONNECTIONS: Mapping[str, int] = {
    "api": 30,
    "events": 10,
    "files": 10,
    "retention": 3,
    "unsubscribe": 10,
    "webhooks": 5,
}

_ONE_LEAD = "current_setting('sendledger.lead_id', true)"
_ITS_ADDRESSES = """ARRAY(SELECT lower(btrim(email)) FROM leads WHERE email IS NOT NULL
                          UNION SELECT lower(btrim(to_address)) FROM emails WHERE to_address IS NOT NULL)"""
_VISIBLE_ROWS = {
    "leads": f"id::text = {_ONE_LEAD}",
    "suppressions": f"value = ANY ({_ITS_ADDRESSES})",
    "scheduled_emails": f"lead_id::text = {_ONE_LEAD}",
    "emails": f"lead_id::text = {_ONE_LEAD}",
    "unsubscribes": f"lead_id::text = {_ONE_LEAD}",
    "past_contacts": f"lead_id::text = {_ONE_LEAD}",
}
"""The rows of each table that the public page's user sees; other users see all. In the order of locks."""


_IS_IN_RDS_IAM = sa.text("""
    SELECT EXISTS (SELECT FROM pg_auth_members
                   WHERE roleid = CAST('rds_iam' AS regrole) AND member = CAST(quote_ident(:user) AS regrole))
""")


class UsersMissing(Exception):
    """The database does not have the users of the functions."""


def users(prefix: str) -> dict[str, str]:
    """The user of each kind of function."""
    return {kind: f"{prefix}_{kind}" for kind in GRANTS}


def missing_users(connection: sa.Connection, prefix: str) -> list[str]:
    """The users of the functions that the database does not have. Any user may call this."""
    known = set(connection.scalars(sa.text("SELECT rolname FROM pg_roles")))
    return sorted(set(users(prefix).values()) - known)


def create_roles(connection: sa.Connection, owner: str, password: str | None, prefix: str | None = None) -> None:
    """As the administrator: create the missing users, make `owner` the database's owner and set the owner's password.

    Without a password the owner logs in by IAM authentication, as the functions' users (those of `prefix`) always do.
    After this, RDS no longer accepts the administrator's own password. Since PostgreSQL 16 the creator of a role is a
    member of that role and cannot leave it, and RDS requires a token of every direct or indirect member of rds_iam. So
    the administrator comes with a token for users that a later version needs. Users that exist are not created again,
    and the owner may call this to change its own password.
    https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.DBAccounts.html
    """
    by_iam = connection.scalar(sa.text("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = 'rds_iam')"))
    kinds = {user: kind for kind, user in users(prefix).items()} if prefix is not None else {}
    for user in (owner, *kinds):
        if not connection.scalar(sa.text("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = :user)"), {"user": user}):
            limit = MAX_CONNECTIONS.get(kinds.get(user, ""), -1)  # -1 is none
            _run(connection, f"CREATE ROLE %I LOGIN CONNECTION LIMIT {limit}", user)
        if user == owner and password is not None:
            _run(connection, "ALTER ROLE %I PASSWORD %L", user, password)
        elif by_iam and not connection.scalar(_IS_IN_RDS_IAM, {"user": user}):
            _run(connection, "GRANT rds_iam TO %I", user)
    database, its_owner = connection.execute(
        sa.text("SELECT datname, pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()")
    ).one()
    if its_owner != owner:
        # Temporary tables, which no function needs.
        _run(connection, "REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC", database)
        # Only a member of a role may make it an owner.
        _run(connection, "GRANT %I TO CURRENT_USER", owner)
        _run(connection, "ALTER DATABASE %I OWNER TO %I", database, owner)
        _run(connection, "REVOKE %I FROM CURRENT_USER", owner)


def grant(connection: sa.Connection, prefix: str) -> None:
    """As the owner of the tables: let the functions' users do what is in `GRANTS`, and nothing else.

    To be called in its own transaction, so that concurrent functions never miss a privilege.

    Raises:
        UsersMissing
    """
    by_kind = users(prefix)
    if missing := missing_users(connection, prefix):
        raise UsersMissing(
            f"The database has no users {', '.join(missing)}. Create them as docs/operations/deploy.md says, or deploy "
            "with DatabaseUsers=one."
        )
    tables = ", ".join([*metadata.tables, "alembic_version"])
    for kind, user in by_kind.items():
        _run(connection, f"REVOKE ALL ON {tables} FROM %I", user)
        for table, privileges in GRANTS[kind].items():
            _run(connection, f"GRANT {privileges} ON {table} TO %I", user)
        _may_look_into_schema(connection, user)
    for table, condition in _VISIBLE_ROWS.items():
        _limit_rows(connection, table, condition, by_kind["unsubscribe"])


def _may_look_into_schema(connection: sa.Connection, user: str) -> None:
    # Normally all users may, and the owner of the tables need not be the owner of the schema.
    allowed = sa.text("SELECT has_schema_privilege(:user, current_schema(), 'USAGE'), current_schema()")
    may, schema = connection.execute(allowed, {"user": user}).one()
    if not may:
        _run(connection, "GRANT USAGE ON SCHEMA %I TO %I", schema, user)


_ROWS_ARE_LIMITED = sa.text("""
    SELECT count(*) = 2 FROM pg_class c JOIN pg_policy p ON p.polrelid = c.oid
    WHERE c.oid = CAST(CAST(:table AS text) AS regclass) AND c.relrowsecurity
      AND (p.polname = 'sendledger_everybody'
           OR (p.polname = 'sendledger_unsubscribe' AND obj_description(p.oid, 'pg_policy') = :condition
               AND p.polroles = ARRAY(SELECT oid FROM pg_roles WHERE rolname = :user)))
""")


def _limit_rows(connection: sa.Connection, table: str, condition: str, user: str) -> None:
    """Show the user these rows only. A second policy allows all rows to all other users.

    Correct policies are left alone: creating one locks the table, and senders are running.
    """
    if connection.scalar(_ROWS_ARE_LIMITED, {"table": table, "condition": condition, "user": user}):
        return
    for policy in ("sendledger_everybody", "sendledger_unsubscribe"):
        _run(connection, f"DROP POLICY IF EXISTS {policy} ON {table}")
    _run(connection, f"CREATE POLICY sendledger_everybody ON {table} USING (true)")
    _run(
        connection,
        f"CREATE POLICY sendledger_unsubscribe ON {table} AS RESTRICTIVE TO %I USING ({condition})",
        user,
    )
    # To recognise it next time, as the server rewrites the condition.
    _run(connection, f"COMMENT ON POLICY sendledger_unsubscribe ON {table} IS %L", condition)
    _run(connection, f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")


def _run(connection: sa.Connection, statement: str, *names: str | None) -> None:
    """Run a statement that takes no parameters: PostgreSQL itself quotes the names (%I) and values (%L) into it."""
    marks = "".join(f", CAST(:n{number} AS text)" for number in range(len(names)))
    parameters = {f"n{number}": name for number, name in enumerate(names)}
    quoted = connection.scalar(sa.text(f"SELECT format(:statement{marks})"), {"statement": statement, **parameters})
    connection.execute(sa.text(str(quoted).replace(":", "\\:")))
