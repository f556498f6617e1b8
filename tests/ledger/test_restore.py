"""A restored database, treated as docs/operations/restore.md says, sends nobody anything twice."""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from local.postgres import Postgres
from local.ses_simulator import SesSimulator
from sendledger.campaigns import late_emails, lifecycle
from sendledger.core import database
from sendledger.core.errors import NotThisDeployment
from sendledger.core.settings import DatabaseSettings
from sendledger.ledger import claim_emails
from sendledger.sending.tick import send_due_emails
from testbed.campaigns import NO_DELAY, make_campaign, pass_time, statuses
from testbed.databases import MIGRATIONS, admin
from testbed.senders import sender_resources

STATEMENTS = re.findall(
    r"```sql\n\s*(.*?)\n\s*```", (MIGRATIONS.parent / "docs/operations/restore.md").read_text(), re.DOTALL
)
SECONDS = 60.0
HOUR = dt.timedelta(hours=1)


@pytest.fixture
def restored(engine: sa.Engine, postgres: Postgres) -> Iterator[sa.Engine]:
    """Connections to the copy that `restore` makes."""
    created = database.engine(DatabaseSettings.read({"DATABASE_URL": postgres.url(f"{engine.url.database}_restored")}))
    yield created
    created.dispose()
    with admin(postgres) as connection:
        connection.execute(sa.text(f"DROP DATABASE {created.url.database} WITH (FORCE)"))


def restore(engine: sa.Engine, restored: sa.Engine, postgres: Postgres) -> None:
    engine.dispose()  # nobody may be connected to what is copied
    with admin(postgres) as connection:
        connection.execute(sa.text(f"CREATE DATABASE {restored.url.database} TEMPLATE {engine.url.database}"))


def test_email_sent_after_the_snapshot_is_not_sent_from_the_restored_database(
    engine: sa.Engine, restored: sa.Engine, postgres: Postgres, ses: SesSimulator
) -> None:
    old = sender_resources(engine, ses.url, DEPLOYMENT_ID="acme-prod", LATE_AFTER_MINUTES="6000")
    new = sender_resources(restored, ses.url, DEPLOYMENT_ID="acme-restored")
    with engine.begin() as connection:
        campaign_id = make_campaign(connection, 4, [NO_DELAY])
    send_due_emails(old, SECONDS)
    lifecycle.start_campaign(engine, campaign_id)
    with engine.begin() as connection:
        # At the time of the snapshot two are in a sender's hands; the other two are due nine hours later.
        assert len(claim_emails.claim(connection, 2, uuid.uuid4())) == 2
        later = (
            "UPDATE scheduled_emails SET scheduled_for = scheduled_for + interval '9 hours' WHERE status = 'pending'"
        )
        connection.execute(sa.text(later))
    restore(engine, restored, postgres)
    for copy in (engine, restored):
        pass_time(copy, 10 * HOUR)
    assert send_due_emails(old, SECONDS).sent == 4
    with pytest.raises(NotThisDeployment):
        send_due_emails(new, SECONDS)
    for statement in STATEMENTS:
        with restored.begin() as connection:
            assert connection.execute(sa.text(statement)).rowcount == 1
    for _ in range(2):
        assert send_due_emails(new, SECONDS).sent == 0
    late_emails.decide_late_emails(restored, campaign_id, "skip", "ann")
    send_due_emails(new, SECONDS)
    assert statuses(restored, campaign_id) == {"skipped": 4}
    assert len(ses.accepted()) == 4
