"""Strangers may ask the API as often as they like: the database keeps connections for those who send."""

from __future__ import annotations

import collections
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

import api_resources
import campaign_api_handler
import database_roles
from local.ses_simulator import SesSimulator
from sendledger.campaigns import lifecycle
from sendledger.core import database
from sendledger.core.settings import DatabaseSettings
from sendledger.sending.tick import send_due_emails
from testbed.campaigns import make_campaign
from testbed.console_browser import Browser
from testbed.databases import OWNER, url_as, wait_until, working_as
from testbed.senders import sender_resources
from tests.functions.campaign_api.api_client import ApiClient

REQUESTS = 200
OF_THE_API = f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{OWNER}_api'"


@pytest.fixture
def environments(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[sa.Engine]]:
    """Each thread is an execution environment of the API: it keeps its connection after its request, as Lambda's do."""
    settings = DatabaseSettings.read({"DATABASE_URL": url_as("api", database_url)})
    created: list[sa.Engine] = []
    own = threading.local()

    def engine() -> sa.Engine:
        if not hasattr(own, "engine"):
            own.engine = database.engine(settings)
            created.append(own.engine)
        found: sa.Engine = own.engine
        return found

    monkeypatch.setattr(api_resources, "engine", engine)
    yield created
    for each in created:
        each.dispose()


def statuses_at_once(key: str | None, path: str) -> collections.Counter[int]:
    """What REQUESTS requests of as many environments are answered with."""
    barrier = threading.Barrier(REQUESTS)

    def ask(number: int) -> int:
        barrier.wait()
        return ApiClient(campaign_api_handler.lambda_handler, key).get(path).status

    with ThreadPoolExecutor(REQUESTS) as threads:
        return collections.Counter(threads.map(ask, range(REQUESTS)))


def test_the_sender_gets_its_connection_while_strangers_ask(
    engine: sa.Engine, connection: sa.Connection, ses: SesSimulator, environments: list[sa.Engine]
) -> None:
    lifecycle.start_campaign(engine, make_campaign(connection, 3))
    # It has the form of a key, so the database has to be asked.
    statuses = statuses_at_once(f"sl_{'x' * 43}", "/v1/campaigns")
    assert statuses.keys() == {401, 503}
    assert statuses[401] >= database_roles.MAX_CONNECTIONS["api"]
    # The environments are still there, each with its connection.
    assert connection.scalar(sa.text(OF_THE_API)) == database_roles.MAX_CONNECTIONS["api"]
    with working_as("sender", engine) as theirs:
        assert send_due_emails(sender_resources(theirs, ses.url), 20).sent == 3


@pytest.mark.parametrize("key", ["sl_guess", None])
def test_who_shows_nothing_like_a_key_gets_no_connection(
    connection: sa.Connection, environments: list[sa.Engine], key: str | None
) -> None:
    assert statuses_at_once(key, "/v1/campaigns") == {401: REQUESTS}
    assert environments == []
    assert connection.scalar(sa.text(OF_THE_API)) == 0


@pytest.mark.parametrize("cookie", [None, "", "guess", "x" * 42, "x" * 10_000])
def test_who_shows_nothing_like_a_session_of_the_console_gets_no_connection(
    environments: list[sa.Engine], cookie: str | None
) -> None:
    browser = Browser(campaign_api_handler.lambda_handler, "sl_guess")
    for path in ("/console/campaigns", "/console/session/end", "/console/session"):
        for ask in (browser.get, browser.post):
            browser.cookies = {} if cookie is None else {"__Host-sendledger": cookie}
            assert ask(path, follow=False).status in (303, 401, 405)
    assert environments == []


def test_connections_that_strangers_left_behind_are_free_again_after_a_while(
    engine: sa.Engine, environments: list[sa.Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "IDLE_SESSION", 2.0)
    statuses_at_once(f"sl_{'x' * 43}", "/v1/campaigns")
    wait_until(engine, f"({OF_THE_API}) = 0")
