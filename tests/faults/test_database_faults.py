"""Lost connections, a black hole and a restart of PostgreSQL: nothing twice, nothing lost, and no result forgotten."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import threading
import uuid
from typing import get_args

import pytest
import sqlalchemy as sa

from local.postgres import Postgres
from local.ses_simulator import SesSimulator
from sendledger.campaigns import lifecycle
from sendledger.core import database
from sendledger.core.settings import DatabaseSettings
from sendledger.sending import fence_parts, pace
from sendledger.sending.tick import Resources, send_due_emails
from sendledger.sending.tick_summary import TickSummary
from testbed.campaigns import campaign_row, make_campaign
from testbed.database_proxy import DatabaseProxy, Fault
from testbed.databases import url_as
from testbed.invariants import assert_ledger_is_consistent, let_it_settle, wait_for

LEADS = 8
SECONDS = 60.0


@pytest.fixture
def small_chunks(ses: SesSimulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two chunks of two parts. The second one is claimed and prepared between the parts of the first."""
    ses.account.max_send_rate = 40
    monkeypatch.setattr(pace, "MAX_CHUNK", 4)
    monkeypatch.setattr(fence_parts, "next_part", lambda left, *_: min(left, 2))


def started(engine: sa.Engine, connection: sa.Connection, leads: int = LEADS) -> uuid.UUID:
    campaign_id = make_campaign(connection, leads)
    lifecycle.start_campaign(engine, campaign_id)
    return campaign_id


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("fault", get_args(Fault))
def test_connection_that_is_lost_at_any_commit_of_a_tick(
    fault: Fault,
    engine: sa.Engine,
    connection: sa.Connection,
    database_url: str,
    ses: SesSimulator,
    resources: Resources,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    struck = 0
    for nth in range(1, 100):
        campaign_id = started(engine, connection)
        with DatabaseProxy(database_url, fault, nth) as proxy, monkeypatch.context() as patched:
            if fault.startswith("swallow"):
                # Both sides give up soon on what they never hear of again.
                patched.setattr(database, "SOCKET_MARGIN", 0.5 - database.LONGEST_STATEMENT)
                patched.setattr(database, "LONGEST_PAUSE", 0.2)
            through_proxy = database.engine(DatabaseSettings.read({"DATABASE_URL": url_as("sender", proxy.url)}))
            # The tick may go on or give up; what it leaves behind is what counts.
            with contextlib.suppress(sa.exc.DBAPIError):
                send_due_emails(dataclasses.replace(resources, engine=through_proxy), SECONDS)
            through_proxy.dispose()
        let_it_settle(engine, resources)
        assert campaign_row(engine, campaign_id)["status"] == "completed"
        found = assert_ledger_is_consistent(engine, ses)
        # The process lives on, so every answer of SES is written down in the end.
        assert found.outcome_unknown == 0, f"after {fault} at commit {nth}"
        assert found.emails_accepted == nth * LEADS
        struck += proxy.struck
        # On a busy machine a side may give up on the other before the nth commit, and nothing is struck.
        if not proxy.struck and struck > 10:
            return
    raise AssertionError(f"{struck} of 99 ticks lost a connection at a commit")


def restart(server: Postgres, signal_number: signal.Signals) -> None:
    """Stop the server as an administrator would (SIGINT), or as a crash (SIGQUIT), and start it again."""
    server.process.send_signal(signal_number)
    server.process.wait(300)
    server.start()


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGQUIT])
def test_restart_of_the_database_in_the_middle_of_a_tick(
    signal_number: signal.Signals,
    engine: sa.Engine,
    connection: sa.Connection,
    postgres: Postgres,
    ses: SesSimulator,
    resources: Resources,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pace, "MAX_CHUNK", 10)
    campaign_id = started(engine, connection, 100)
    connection.close()
    ses.account.latency_ms = 200
    ended: list[TickSummary | sa.exc.DBAPIError] = []

    def tick() -> None:
        try:
            ended.append(send_due_emails(resources, SECONDS))
        except sa.exc.DBAPIError as error:
            ended.append(error)

    thread = threading.Thread(target=tick)
    thread.start()
    wait_for(lambda: len(ses.accepted()) >= 20, "20 emails")
    restart(postgres, signal_number)
    thread.join()
    assert isinstance(ended[0], TickSummary) or database.is_transient(ended[0])
    ses.account.latency_ms = 0
    engine.dispose()
    let_it_settle(engine, resources)
    assert campaign_row(engine, campaign_id)["status"] == "completed"
    found = assert_ledger_is_consistent(engine, ses)
    assert (found.emails_accepted, found.outcome_unknown) == (100, 0)


def test_commits_wait_for_the_disk_whatever_the_server_is_set_to(connection: sa.Connection) -> None:
    assert connection.scalar(sa.text("SHOW synchronous_commit")) == "on"
