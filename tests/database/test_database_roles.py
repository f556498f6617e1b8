"""What the public unsubscribe function's database user may do, and what it may not."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

import database_roles
from sendledger import campaign_lifecycle, database, sender, unsubscribe
from sendledger.sender import Resources
from sendledger.settings import DatabaseSettings
from sendledger.unsubscribe_tokens import EmailReference
from tests.campaigns import DAY, NO_DELAY, make_campaign, rows_of


@pytest.fixture
def role(engine: sa.Engine) -> Iterator[str]:
    """A role with the unsubscribe function's rights."""
    name = f"public_{os.urandom(4).hex()}"
    with engine.begin() as connection:
        connection.execute(sa.text(f"CREATE ROLE {name} LOGIN"))
        database_roles.grant_unsubscribe_role(connection, name)
    yield name
    with engine.begin() as connection:
        connection.execute(sa.text(f"DROP OWNED BY {name}"))
        connection.execute(sa.text(f"DROP ROLE {name}"))


@pytest.fixture
def public(role: str, database_url: str) -> Iterator[sa.Engine]:
    """Connections as that role."""
    url = make_url(database_url).set(username=role).render_as_string(hide_password=False)
    created = database.engine(DatabaseSettings.read({"DATABASE_URL": url}))
    yield created
    created.dispose()


def _count(engine: sa.Engine, what: str) -> int:
    with engine.begin() as connection:
        return int(connection.execute(sa.text(f"SELECT count(*) FROM {what}")).scalar_one())


def _sent(engine: sa.Engine, connection: sa.Connection, resources: Resources) -> EmailReference:
    """A campaign of two steps and two leads whose first emails are sent; returns one of them."""
    campaign_id = make_campaign(connection, ["ann@example.com", "bob@example.com"], delays=[NO_DELAY, DAY])
    campaign_lifecycle.start_campaign(engine, campaign_id)
    sender.send_due_emails(resources, 20)
    row = next(row for row in rows_of(engine, campaign_id) if row["status"] == "sent")
    return EmailReference(row["id"], campaign_id, row["lead_id"])


def test_the_public_role_can_opt_a_lead_out_and_take_it_back(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, public: sa.Engine
) -> None:
    email = _sent(engine, connection, resources)
    with public.begin() as as_public:
        assert unsubscribe.opt_out(as_public, email, "everything", "page")
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
        unsubscribe.opt_out(as_public, email, "everything", "page")
    column = {"leads": "email", "emails": "to_address", "suppressions": "value"}.get(table, "lead_id")
    with public.begin() as as_public:
        assert as_public.execute(sa.text(f"SELECT {column} FROM {table}")).all() == []
        unsubscribe._limit_to(as_public, uuid.uuid4())
        assert as_public.execute(sa.text(f"SELECT {column} FROM {table}")).all() == []
    assert _count(engine, table)


@pytest.mark.parametrize(
    "statement",
    [
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
        "CREATE TABLE t (x int)",
    ],
)
def test_the_public_role_is_denied(public: sa.Engine, statement: str) -> None:
    with pytest.raises(sa.exc.ProgrammingError, match="permission denied"), public.begin() as as_public:
        as_public.execute(sa.text(statement))


def test_the_public_role_suppresses_no_address_but_the_leads_own(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, public: sa.Engine
) -> None:
    email = _sent(engine, connection, resources)
    insert = sa.text("INSERT INTO suppressions (value, reason, created_by) VALUES ('rival@example.com', 'manual', 'x')")
    with public.connect() as as_public:
        unsubscribe._limit_to(as_public, email.lead_id)
        with pytest.raises(sa.exc.ProgrammingError, match="row-level security"):
            as_public.execute(insert)


def test_other_users_see_all_rows_as_before(
    engine: sa.Engine, connection: sa.Connection, role: str, database_url: str
) -> None:
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
    owner, public = (f"{kind}_{os.urandom(4).hex()}" for kind in ("owner", "public"))
    for _ in range(2):  # a second time changes nothing
        with engine.begin() as admin:
            database_roles.create_roles(admin, owner, "it's 100% :secret", public)
    assert _count(engine, f"pg_auth_members WHERE roleid = '{owner}'::regrole") == 0
    url = make_url(database_url).set(username=owner, password="it's 100% :secret")
    theirs = database.engine(DatabaseSettings.read({"DATABASE_URL": url.render_as_string(hide_password=False)}))
    with theirs.begin() as as_owner:
        as_owner.execute(sa.text("CREATE TABLE theirs (id int)"))
        as_owner.execute(sa.text("DROP TABLE theirs"))
    theirs.dispose()
    connection.execute(sa.text(f"REASSIGN OWNED BY {owner} TO CURRENT_USER"))
    connection.execute(sa.text(f"DROP OWNED BY {owner}, {public}"))
    connection.execute(sa.text(f"DROP ROLE {owner}, {public}"))
    connection.commit()
