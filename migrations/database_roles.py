"""The users of the database: the owner of the tables, whom the functions log in as, and the public unsubscribe page's.

`create_roles` is for the administrator of a new database; `grant_unsubscribe_role` for the owner, after each upgrade.
The unsubscribe role works on the rows of one lead, the one whose id its transaction says (`sendledger.lead_id`, set
from a signed link): the ids of leads are random, and no table that it may read tells it others. What it skips is hence
that lead's mail; mail for the same address under another lead ends at the sender's fence.
"""

from __future__ import annotations

import sqlalchemy as sa

_ONE_LEAD = "current_setting('sendledger.lead_id', true)"
_ITS_ADDRESSES = """ARRAY(SELECT lower(btrim(email)) FROM leads WHERE email IS NOT NULL
                          UNION SELECT lower(btrim(to_address)) FROM emails WHERE to_address IS NOT NULL)"""

_GRANTS = {
    # A lock on a row needs the right to update some column of it.
    "leads": "SELECT (id, email), UPDATE (updated_at)",
    "emails": "SELECT (lead_id, scheduled_email_id, to_address, delivery_status)",
    "scheduled_emails": "SELECT (lead_id, campaign_id, status, reason), UPDATE (status, reason, updated_at)",
    "campaigns": "SELECT (id, emails_unsubscribed_count), UPDATE (emails_unsubscribed_count)",
    "suppressions": "SELECT, INSERT, UPDATE (reason, removed_at, removed_by, removal_reason)",
    "unsubscribes": "SELECT, INSERT, UPDATE (scope, method, undone_at)",
    # SQLAlchemy asks for the id of what it has inserted.
    "audit_log": "SELECT (id), INSERT",
}
_VISIBLE_ROWS = {
    "leads": f"id::text = {_ONE_LEAD}",
    "emails": f"lead_id::text = {_ONE_LEAD}",
    "scheduled_emails": f"lead_id::text = {_ONE_LEAD}",
    "unsubscribes": f"lead_id::text = {_ONE_LEAD}",
    "suppressions": f"value = ANY ({_ITS_ADDRESSES})",
}


def create_roles(
    connection: sa.Connection, owner: str, password: str | None, unsubscribe_user: str | None = None
) -> None:
    """As the administrator: make the roles and give the database to its owner; doing it again sets the password anew.

    Without a password they log in by IAM authentication. https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.DBAccounts.html
    """
    by_iam = connection.scalar(sa.text("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = 'rds_iam')"))
    for role, its_password in ((owner, password), (unsubscribe_user, None)):
        if role is None:
            continue
        if not connection.scalar(sa.text("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = :role)"), {"role": role}):
            _run(connection, "CREATE ROLE %I LOGIN", role)
        if its_password is not None:
            _run(connection, "ALTER ROLE %I PASSWORD %L", role, its_password)
        elif by_iam:
            _run(connection, "GRANT rds_iam TO %I", role)
    database, its_owner = connection.execute(
        sa.text("SELECT datname, datdba::regrole::text FROM pg_database WHERE datname = current_database()")
    ).one()
    if its_owner != owner:
        # Only a member of a role may give it something. He must not stay one: on RDS nobody who is in rds_iam, be it by
        # way of another role, can log in with a password.
        _run(connection, "GRANT %I TO CURRENT_USER", owner)
        _run(connection, "ALTER DATABASE %I OWNER TO %I", database, owner)
        _run(connection, "REVOKE %I FROM CURRENT_USER", owner)


def grant_unsubscribe_role(connection: sa.Connection, role: str) -> None:
    """As the owner: let this role do what the unsubscribe page does, and nothing else.

    Row security is switched on for its tables with a policy that leaves every other user as free as before.
    """
    for table, privileges in _GRANTS.items():
        _run(connection, "REVOKE ALL ON %I FROM %I", table, role)
        _run(connection, f"GRANT {privileges} ON %I TO %I", table, role)
    for table, condition in _VISIBLE_ROWS.items():
        for policy in ("sendledger_everybody", "sendledger_unsubscribe"):
            _run(connection, "DROP POLICY IF EXISTS %I ON %I", policy, table)
        _run(connection, "CREATE POLICY sendledger_everybody ON %I USING (true)", table)
        _run(
            connection,
            f"CREATE POLICY sendledger_unsubscribe ON %I AS RESTRICTIVE TO %I USING ({condition})",
            table,
            role,
        )
        _run(connection, "ALTER TABLE %I ENABLE ROW LEVEL SECURITY", table)


def _run(connection: sa.Connection, statement: str, *names: str | None) -> None:
    """Run a statement that takes no parameters: PostgreSQL itself quotes the names (%I) and values (%L) into it."""
    marks = ", ".join(f"CAST(:n{number} AS text)" for number in range(len(names)))
    parameters = {f"n{number}": name for number, name in enumerate(names)}
    quoted = connection.scalar(sa.text(f"SELECT format(:statement, {marks})"), {"statement": statement, **parameters})
    connection.execute(sa.text(str(quoted).replace(":", "\\:")))
