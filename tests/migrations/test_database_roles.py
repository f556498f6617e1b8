"""What the database users of the functions may not do; that they may do what they need, every other test shows.

The fixtures and helpers of the other suites let senders, handlers and the whole local stack log in as these users.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.engine import make_url

import database_roles
from local.postgres import Postgres, as_user
from local.ses_simulator import SesSimulator
from sendledger.campaigns import lifecycle
from sendledger.core import database
from sendledger.core.settings import DatabaseSettings
from sendledger.core.signed_tokens import EmailReference
from sendledger.core.tables import metadata
from sendledger.core.vocabulary import UnsubscribeMethod, UnsubscribeScope
from sendledger.feedback import unsubscribe
from sendledger.sending import tick
from sendledger.sending.tick import Resources
from testbed.campaigns import DAY, NO_DELAY, campaign_row, make_campaign, rows_of
from testbed.databases import MIGRATIONS, OWNER, SCRIPTS, admin, working_as
from testbed.senders import sender_resources

ADDS_EMAIL = """INSERT INTO scheduled_emails (campaign_id, workflow_step_number, scheduled_for)
                VALUES (gen_random_uuid(), 1, now())"""
ADDS_EVENT = (
    "INSERT INTO email_events (event_key, ses_message_id, event_type, occurred_at) VALUES ('', '', 'Send', now())"
)

FOR_THE_OWNER_ONLY = (
    "CREATE TABLE t (x int)",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "TRUNCATE audit_log",
    "TRUNCATE scheduled_emails",
    "UPDATE audit_log SET actor = 'nobody'",
    "DELETE FROM audit_log",
    "DELETE FROM scheduled_emails",
    "DELETE FROM emails",
    "DELETE FROM email_events",
    "DELETE FROM unsubscribes",
    "UPDATE campaign_counts SET campaign_id = gen_random_uuid()",
    "UPDATE adopted_campaigns SET before = '{}'",
    "CREATE ROLE mallory",
)
REMOVALS = ("DELETE FROM scheduled_emails", "DELETE FROM emails", "DELETE FROM email_events")
"""Retention does nothing else."""
DENIED = {
    "api": (
        "UPDATE alembic_version SET version_num = '9999'",
        # A copy of the database that must not send could make itself the sender.
        "UPDATE sender_state SET deployment_id = 'mine'",
        "UPDATE sender_state SET rate_reserved_until = now()",
        ADDS_EVENT,
        "UPDATE email_events SET event_type = 'Delivery'",
        "UPDATE emails SET delivery_status = 'delivered'",
        "INSERT INTO campaign_counts (campaign_id, what, count) VALUES (gen_random_uuid(), 'sent', 1)",
        "UPDATE exports SET status = 'completed'",
        "UPDATE unsubscribes SET undone_at = now()",
    ),
    "sender": (
        "SELECT * FROM api_keys",
        "SELECT * FROM idempotency_keys",
        "SELECT actor FROM audit_log",
        "SELECT body_html FROM emails",
        "SELECT * FROM replies",
        "SELECT * FROM unsubscribes",
        "UPDATE leads SET email = 'x@example.com'",
        "DELETE FROM leads",
        "UPDATE campaign_steps SET subject = 'Buy!'",
        "UPDATE email_templates SET subject = 'Buy!'",
        "UPDATE campaigns SET from_address = 'x@example.com'",
        "DELETE FROM suppressions",
        "UPDATE suppressions SET removed_at = now()",
        "UPDATE emails SET delivery_status = 'delivered'",
        ADDS_EVENT,
    ),
    "events": (
        "SELECT * FROM api_keys",
        "SELECT * FROM idempotency_keys",
        "SELECT * FROM sender_state",
        "UPDATE unsubscribes SET undone_at = now()",
        "SELECT * FROM workflows",
        "SELECT actor FROM audit_log",
        ADDS_EMAIL,
        "UPDATE leads SET email = 'x@example.com'",
        "DELETE FROM leads",
        "UPDATE campaign_steps SET subject = 'Buy!'",
        "UPDATE campaigns SET from_address = 'x@example.com'",
        "DELETE FROM suppressions",
        "UPDATE suppressions SET value = 'x@example.com'",
        "DELETE FROM replies",
    ),
    "files": (
        "SELECT * FROM api_keys",
        "SELECT * FROM idempotency_keys",
        "SELECT * FROM replies",
        "SELECT * FROM sender_state",
        "SELECT * FROM email_events",
        "SELECT * FROM audit_log",
        "SELECT body_text FROM emails",
        ADDS_EMAIL,
        "UPDATE leads SET email = 'x@example.com'",
        "UPDATE campaigns SET status = 'running'",
        "UPDATE scheduled_emails SET scheduled_for = now()",
        "UPDATE suppressions SET value = 'x@example.com'",
        "DELETE FROM suppressions",
        "INSERT INTO exports (kind, requested_by) VALUES ('leads', 'x')",
        "UPDATE exports SET filters = '{}'",
    ),
    "retention": (
        "SELECT email FROM leads",
        "SELECT * FROM api_keys",
        "SELECT actor FROM audit_log",
        "UPDATE scheduled_emails SET status = 'pending'",
        ADDS_EMAIL,
        "UPDATE campaigns SET status = 'running'",
        "DELETE FROM suppressions",
        "DELETE FROM leads",
        "DELETE FROM replies",
        "DELETE FROM past_contacts",
        "UPDATE unsubscribes SET undone_at = now()",
    ),
    "webhooks": (
        "SELECT * FROM leads",
        "SELECT * FROM api_keys",
        "SELECT * FROM audit_log",
        "SELECT * FROM emails",
        "SELECT * FROM scheduled_emails",
        "SELECT * FROM campaigns",
        "INSERT INTO webhook_deliveries (endpoint_id, event_type, data) VALUES (gen_random_uuid(), 'x', '{}')",
        "UPDATE webhook_deliveries SET data = '{}'",
        "UPDATE webhook_endpoints SET url = 'https://mallory.example'",
        "UPDATE webhook_endpoints SET secret = 'x'",
        "DELETE FROM webhook_endpoints",
        "UPDATE leads SET email = 'x@example.com'",
    ),
    "unsubscribe": (
        "SELECT * FROM leads",
        "SELECT company_name FROM leads",
        "SELECT body_text FROM emails",
        "SELECT name FROM campaigns",
        "SELECT * FROM api_keys",
        "SELECT * FROM audit_log",
        "SELECT * FROM replies",
        "UPDATE leads SET email = 'x@example.com'",
        "UPDATE campaigns SET status = 'running'",
        "UPDATE scheduled_emails SET scheduled_for = now()",
        "DELETE FROM suppressions",
    ),
}


def _refused(engine: sa.Engine, kind: str, statement: str, because: str) -> bool:
    with working_as(kind, engine) as theirs, theirs.connect() as connection:
        try:
            connection.execute(sa.text(statement))
        except sa.exc.ProgrammingError as error:
            return because in str(error)
    return False


@pytest.mark.parametrize("kind", database_roles.GRANTS)
def test_a_user_is_denied_what_its_function_does_not_do(engine: sa.Engine, kind: str) -> None:
    own = REMOVALS if kind == "retention" else ()
    denied = (*(each for each in FOR_THE_OWNER_ONLY if each not in own), *DENIED[kind])
    assert [each for each in denied if not _refused(engine, kind, each, "permission denied")] == []
    changes = ("DROP TABLE leads", "ALTER TABLE leads DISABLE ROW LEVEL SECURITY")
    assert [each for each in changes if not _refused(engine, kind, each, "must be owner")] == []


def test_somebody_works_with_every_table() -> None:
    granted = {table for tables in database_roles.GRANTS.values() for table in tables}
    assert granted == {*metadata.tables, "alembic_version"}


def test_the_documentation_creates_every_user() -> None:
    text = (MIGRATIONS.parent / "docs/operations/deploy.md").read_text()
    users = database_roles.users("sendledger").values()
    limits = {
        f"{user} LOGIN CONNECTION LIMIT {database_roles.MAX_CONNECTIONS[kind]}"
        if kind in database_roles.MAX_CONNECTIONS
        else f"{user} LOGIN"
        for kind, user in database_roles.users("sendledger").items()
    }
    assert {role for role in limits if f"CREATE ROLE {role};" not in text} == set()
    assert f"GRANT rds_iam TO {', '.join(users)};" in text


def test_grants_that_are_no_longer_needed_are_revoked(engine: sa.Engine) -> None:
    sender_user = database_roles.users(OWNER)["sender"]
    with engine.begin() as connection:
        connection.execute(sa.text(f"GRANT SELECT ON api_keys TO {sender_user}"))
        connection.execute(sa.text(f"GRANT UPDATE (email) ON leads TO {sender_user}"))
        database_roles.grant(connection, OWNER)
    with working_as("sender", engine) as theirs:
        for statement in ("SELECT * FROM api_keys", "UPDATE leads SET email = NULL"):
            with pytest.raises(sa.exc.ProgrammingError, match="permission denied"), theirs.begin() as connection:
                connection.execute(sa.text(statement))


def test_granting_again_does_not_wait_for_working_functions(engine: sa.Engine) -> None:
    with working_as("sender", engine) as theirs, theirs.begin() as working, engine.begin() as connection:
        for table in ("leads", "emails", "scheduled_emails", "suppressions"):
            working.execute(sa.text(f"SELECT FROM {table}"))
        connection.execute(sa.text("SET LOCAL lock_timeout = '100ms'"))
        database_roles.grant(connection, OWNER)
        working.execute(sa.text("UPDATE leads SET emails_sent = 1"))


def test_missing_users_are_named(engine: sa.Engine) -> None:
    with (
        pytest.raises(database_roles.UsersMissing, match="users nobody_api, nobody_events"),
        engine.begin() as connection,
    ):
        database_roles.grant(connection, "nobody")


@pytest.fixture
def new_database(postgres: Postgres) -> Iterator[str]:
    """The URL of an empty database for the administrator; what he makes of it is dropped afterwards."""
    name = f"new_{os.urandom(4).hex()}"
    with admin(postgres) as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    yield postgres.url(name)
    with admin(postgres) as connection:
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
        for role in connection.scalars(sa.text(f"SELECT rolname FROM pg_roles WHERE rolname LIKE '{name}%'")).all():
            connection.execute(sa.text(f"DROP ROLE {role}"))


def _engine(url: str) -> sa.Engine:
    return database.engine(DatabaseSettings.read({"DATABASE_URL": url}))


def test_an_owner_without_other_powers_migrates_and_the_functions_work(new_database: str, ses: SesSimulator) -> None:
    owner = str(make_url(new_database).database)
    as_admin = _engine(new_database)
    with as_admin.begin() as connection:
        database_roles.create_roles(connection, owner, None, owner)
    engines = {kind: _engine(as_user(new_database, user)) for kind, user in database_roles.users(owner).items()}
    as_owner = _engine(as_user(new_database, owner))
    with as_owner.connect() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", SCRIPTS)
        command.upgrade(config, "head")
        database_roles.grant(connection, owner)
        connection.commit()
    with engines["api"].connect() as connection:
        campaign_id = make_campaign(connection, ["ann@example.com"], delays=[NO_DELAY, DAY])
    lifecycle.start_campaign(engines["api"], campaign_id)
    assert tick.send_due_emails(sender_resources(engines["sender"], ses.url), 20).sent == 1
    (row,) = (row for row in rows_of(as_admin, campaign_id) if row["status"] == "sent")
    with engines["unsubscribe"].begin() as connection:
        assert unsubscribe.opt_out(
            connection,
            EmailReference(row["id"], campaign_id, row["lead_id"]),
            UnsubscribeScope.EVERYTHING,
            UnsubscribeMethod.PAGE,
        )
    tick.send_due_emails(sender_resources(engines["sender"], ses.url), 20)
    assert campaign_row(as_admin, campaign_id)["status"] == "completed"
    with pytest.raises(sa.exc.ProgrammingError, match="permission denied"), engines["api"].begin() as connection:
        connection.execute(sa.text("CREATE TEMPORARY TABLE t (x int)"))
    for each in (as_admin, as_owner, *engines.values()):
        each.dispose()


# The public page's user


@pytest.fixture
def public(engine: sa.Engine) -> Iterator[sa.Engine]:
    """Connections as the unsubscribe function has them."""
    with working_as("unsubscribe", engine) as created:
        yield created


def _count(engine: sa.Engine, what: str) -> int:
    with engine.begin() as connection:
        return int(connection.execute(sa.text(f"SELECT count(*) FROM {what}")).scalar_one())


def _sent(engine: sa.Engine, connection: sa.Connection, resources: Resources) -> EmailReference:
    """A campaign of two steps and two leads whose first emails are sent; returns one of them."""
    campaign_id = make_campaign(connection, ["ann@example.com", "bob@example.com"], delays=[NO_DELAY, DAY])
    lifecycle.start_campaign(engine, campaign_id)
    tick.send_due_emails(resources, 20)
    row = next(row for row in rows_of(engine, campaign_id) if row["status"] == "sent")
    return EmailReference(row["id"], campaign_id, row["lead_id"])


def test_the_public_role_can_opt_a_lead_out_and_take_it_back(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, public: sa.Engine
) -> None:
    email = _sent(engine, connection, resources)
    with public.begin() as as_public:
        assert unsubscribe.opt_out(as_public, email, UnsubscribeScope.EVERYTHING, UnsubscribeMethod.PAGE)
    by_lead = {row["lead_id"]: row["status"] for row in rows_of(engine, email.campaign_id) if row["status"] != "sent"}
    assert by_lead.pop(email.lead_id) == "skipped"
    assert list(by_lead.values()) == ["pending"]
    assert _count(engine, "suppressions WHERE removed_at IS NULL") == 1
    with public.begin() as as_public:
        assert unsubscribe.undo(as_public, email)
    assert _count(engine, "suppressions WHERE removed_at IS NULL") == 0


@pytest.mark.parametrize("table", ["leads", "emails", "scheduled_emails", "unsubscribes", "suppressions"])
def test_the_public_role_sees_no_row_of_anybody_it_was_not_told_of(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, public: sa.Engine, table: str
) -> None:
    email = _sent(engine, connection, resources)
    with public.begin() as as_public:
        unsubscribe.opt_out(as_public, email, UnsubscribeScope.EVERYTHING, UnsubscribeMethod.PAGE)
    column = {"leads": "email", "emails": "to_address", "suppressions": "value"}.get(table, "lead_id")
    with public.begin() as as_public:
        assert as_public.execute(sa.text(f"SELECT {column} FROM {table}")).all() == []
        unsubscribe._limit_to(as_public, uuid.uuid4())
        assert as_public.execute(sa.text(f"SELECT {column} FROM {table}")).all() == []
    assert _count(engine, table)


def test_the_public_role_suppresses_no_address_but_the_leads_own(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, public: sa.Engine
) -> None:
    email = _sent(engine, connection, resources)
    insert = sa.text("INSERT INTO suppressions (value, reason, created_by) VALUES ('rival@example.com', 'manual', 'x')")
    with public.connect() as as_public:
        unsubscribe._limit_to(as_public, email.lead_id)
        with pytest.raises(sa.exc.ProgrammingError, match="row-level security"):
            as_public.execute(insert)


def test_other_users_see_all_rows_as_before(engine: sa.Engine, connection: sa.Connection, database_url: str) -> None:
    make_campaign(connection, 3)
    other = f"other_{os.urandom(4).hex()}"
    connection.execute(sa.text(f"CREATE ROLE {other} LOGIN"))
    connection.execute(sa.text(f"GRANT SELECT, UPDATE ON leads TO {other}"))
    connection.commit()
    url = make_url(database_url).set(username=other).render_as_string(hide_password=False)
    theirs = database.engine(DatabaseSettings.read({"DATABASE_URL": url}))
    with theirs.begin() as as_other:
        assert as_other.execute(sa.text("UPDATE leads SET city = 'Bath'")).rowcount == 3
    theirs.dispose()
    connection.execute(sa.text(f"DROP OWNED BY {other}"))
    connection.execute(sa.text(f"DROP ROLE {other}"))
    connection.commit()


def test_the_administrator_gives_a_new_database_to_its_owner(
    engine: sa.Engine, connection: sa.Connection, database_url: str
) -> None:
    owner = f"owner_{os.urandom(4).hex()}"
    for _ in range(2):  # a second time changes nothing
        with engine.begin() as as_admin:
            database_roles.create_roles(as_admin, owner, "it's 100% :secret", owner)
    assert _count(engine, f"pg_auth_members WHERE roleid = '{owner}'::regrole") == 0
    url = make_url(database_url).set(username=owner, password="it's 100% :secret")
    theirs = database.engine(DatabaseSettings.read({"DATABASE_URL": url.render_as_string(hide_password=False)}))
    with theirs.begin() as as_owner:
        as_owner.execute(sa.text("CREATE TABLE theirs (id int)"))
        as_owner.execute(sa.text("DROP TABLE theirs"))
    theirs.dispose()
    connection.execute(sa.text(f"REASSIGN OWNED BY {owner} TO CURRENT_USER"))
    others = ", ".join(database_roles.users(owner).values())
    connection.execute(sa.text(f"DROP OWNED BY {owner}, {others}"))
    connection.execute(sa.text(f"DROP ROLE {owner}, {others}"))
    connection.commit()
