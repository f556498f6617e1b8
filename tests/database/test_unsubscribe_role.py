"""The public function works with the rights that docs/unsubscribe-database-role.sql gives it, and with no more."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from local.ses_simulator import SesSimulator
from sendledger import campaign_lifecycle, database, unsubscribe
from sendledger.sender import Resources, send_due_emails
from sendledger.settings import DatabaseSettings
from sendledger.tables import suppressions
from sendledger.unsubscribe_tokens import EmailReference
from tests.campaigns import DAY, NO_DELAY, campaign_row, make_campaign, rows_of, statuses

SCRIPT = Path(__file__).parents[2] / "docs/unsubscribe-database-role.sql"


@pytest.fixture
def public(engine: sa.Engine, database_url: str) -> Iterator[sa.Engine]:
    """Connections of the public function's role, made by the script as psql would run it."""
    role = f"public_{uuid.uuid4().hex[:8]}"
    script = SCRIPT.read_text().replace(":'role'", f"'{role}'").replace(':"role"', role)
    script = re.sub(r"--.*", "", script)
    with engine.begin() as connection:
        for statement in re.findall(r"[^;\\]+(?:;|\\gexec)", script):
            made = statement.removesuffix("\\gexec")
            result = connection.exec_driver_sql(made)
            if made != statement:
                for (generated,) in result.all():
                    connection.exec_driver_sql(generated)
    url = sa.make_url(database_url).set(username=role)
    opened = database.engine(DatabaseSettings.read({"DATABASE_URL": url.render_as_string(hide_password=False)}))
    yield opened
    opened.dispose()
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DROP OWNED BY {role}")
        connection.exec_driver_sql(f"DROP ROLE {role}")


@pytest.fixture
def email(engine: sa.Engine, connection: sa.Connection, resources: Resources) -> EmailReference:
    """The first email of a two-step campaign to one lead."""
    campaign_id = make_campaign(connection, ["ann@example.com"], [NO_DELAY, DAY])
    campaign_lifecycle.start_campaign(engine, campaign_id)
    send_due_emails(resources, 60.0)
    row = next(row for row in rows_of(engine, campaign_id) if row["status"] == "sent")
    return EmailReference(row["id"], campaign_id, row["lead_id"])


def active(engine: sa.Engine) -> int:
    counted = sa.select(sa.func.count()).select_from(suppressions).where(suppressions.c.removed_at.is_(None))
    with engine.connect() as connection:
        return connection.scalar(counted) or 0


def test_the_role_can_opt_out_and_take_it_back(
    engine: sa.Engine, public: sa.Engine, email: EmailReference, ses: SesSimulator
) -> None:
    for scope in ("campaign", "everything"):
        with public.begin() as connection:
            assert unsubscribe.opt_out(connection, email, scope, "page")
    assert (active(engine), statuses(engine, email.campaign_id)) == (2, {"sent": 1, "skipped": 1})
    assert campaign_row(engine, email.campaign_id)["emails_unsubscribed_count"] == 1
    with public.begin() as connection:
        assert unsubscribe.undo(connection, email)
    assert active(engine) == 0


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT contact_name FROM leads",
        "SELECT body_text FROM emails",
        "SELECT name FROM campaigns",
        "SELECT * FROM api_keys",
        "SELECT * FROM audit_log",
        "SELECT * FROM replies",
        "SELECT subject FROM email_templates",
        "UPDATE leads SET email = 'x@example.com'",
        "UPDATE campaigns SET status = 'running'",
        "UPDATE scheduled_emails SET scheduled_for = now()",
        "DELETE FROM scheduled_emails",
        "DELETE FROM suppressions",
        "DELETE FROM unsubscribes",
        "INSERT INTO leads (company_name, industry, source) VALUES ('a', 'b', 'c')",
    ],
)
def test_the_role_can_do_nothing_else(public: sa.Engine, statement: str) -> None:
    with public.connect() as connection, pytest.raises(sa.exc.DBAPIError, match="permission denied"):
        connection.exec_driver_sql(statement)
