"""Lists and statistics from a reader endpoint: the API over PostgreSQL and its replica, whose replay can be paused."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

import api_resources
import reader_answers
from sendledger.core.reader import Reader
from sendledger.core.settings import DatabaseSettings
from testbed.campaigns import make_campaign
from testbed.databases import plain_engine, url_as
from testbed.replicas import Replicated, replicated
from tests.functions.campaign_api.api_client import ApiClient
from tests.functions.campaign_api.conftest import empty


@pytest.fixture(scope="module")
def servers() -> Iterator[Replicated]:
    with replicated() as pair:
        yield pair


@pytest.fixture
def database_url(servers: Replicated, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The writer's, with the replica as the reader of the API."""
    monkeypatch.setenv("DATABASE_READER_URL", url_as("api", servers.replica.url()))
    api_resources.reader.cache_clear()
    yield servers.writer.url()
    reader = api_resources.reader()
    assert reader is not None
    reader.engine.dispose()
    api_resources.reader.cache_clear()
    empty(servers.writer.url())


@pytest.fixture
def paused(api: ApiClient, servers: Replicated) -> Iterator[Replicated]:
    """The replica has what was there before the test, above all the keys, and nothing that the test writes."""
    servers.pause()
    yield servers
    servers.catch_up()


def companies(api: ApiClient, **headers: str) -> list[Any]:
    answer = api.request("GET", "/v1/leads", headers={name.replace("_", "-"): text for name, text in headers.items()})
    assert answer.status == 200, answer.body
    return [lead["company_name"] for lead in answer.json["items"]]


def add_lead(api: ApiClient) -> str:
    created = api.post("/v1/leads", {"company_name": "New Ltd", "email": "new@example.com"})
    assert created.status == 201, created.body
    return str(created.json["id"])


def test_list_is_read_from_the_replica(api: ApiClient, paused: Replicated) -> None:
    add_lead(api)
    assert companies(api) == []
    paused.catch_up()
    assert companies(api) == ["New Ltd"]


def test_single_thing_is_read_from_the_writer(api: ApiClient, paused: Replicated) -> None:
    lead_id = add_lead(api)
    assert api.get(f"/v1/leads/{lead_id}").json["company_name"] == "New Ltd"


def test_caller_that_accepts_no_old_list_gets_a_new_one(api: ApiClient, paused: Replicated) -> None:
    add_lead(api)
    assert companies(api, cache_control="no-cache") == ["New Ltd"]
    assert companies(api, cache_control="No-Cache, max-age=0") == ["New Ltd"]


def test_list_of_something_that_the_replica_does_not_have_yet_is_read_from_the_writer(
    api: ApiClient, engine: sa.Engine, paused: Replicated
) -> None:
    with engine.connect() as connection:
        campaign_id = make_campaign(connection, ["ann@example.com"])
    assert api.get(f"/v1/campaigns/{campaign_id}/stats").status == 200


def test_reader_goes_on_after_something_that_it_does_not_have(
    api: ApiClient, engine: sa.Engine, paused: Replicated
) -> None:
    assert api.get("/v1/campaigns/00000000-0000-0000-0000-000000000000/stats").status == 404
    add_lead(api)
    assert companies(api) == []


def test_what_the_reader_refuses_the_writer_refuses_too(api: ApiClient) -> None:
    answer = api.get("/v1/leads", serach="Ann")
    assert (answer.status, answer.fields) == (422, ["serach"])


def test_key_that_was_revoked_a_moment_ago_reads_no_list(
    clients: dict[str, ApiClient], engine: sa.Engine, paused: Replicated
) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE api_keys SET revoked_at = now() WHERE name = 'viewer'"))
    assert clients["viewer"].get("/v1/leads").status == 401


@pytest.fixture
def without_replica(
    api: ApiClient, servers: Replicated, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The reader endpoint leads to a server that is not there."""
    nowhere = tmp_path_factory.mktemp("nowhere") / ".s.PGSQL.5432"
    monkeypatch.setenv("DATABASE_READER_URL", f"postgresql+pg8000://api@/postgres?unix_sock={nowhere}")
    reader = api_resources.reader()
    assert reader is not None
    reader.engine.dispose()
    api_resources.reader.cache_clear()


@pytest.mark.usefixtures("without_replica")
def test_list_is_read_from_the_writer_while_there_is_no_replica(api: ApiClient) -> None:
    add_lead(api)
    assert companies(api) == ["New Ltd"]
    reader = api_resources.reader()
    assert reader is not None
    assert not reader.is_up


@pytest.mark.usefixtures("without_replica")
def test_replica_that_was_away_is_asked_again_after_a_while(
    api: ApiClient, servers: Replicated, monkeypatch: pytest.MonkeyPatch
) -> None:
    companies(api)
    reader = api_resources.reader()
    assert reader is not None
    later = time.monotonic() + 31
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert reader.is_up


def test_connection_that_the_replica_ends_costs_no_answer(api: ApiClient, servers: Replicated) -> None:
    companies(api)
    with plain_engine(servers.replica.url()).connect() as connection:
        ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'sendledger'"
        assert connection.scalar(sa.text(ended)) > 0
    assert companies(api) == []


def test_sessions_of_the_reader_are_read_only(servers: Replicated) -> None:
    """Also where its endpoint leads to the writer."""
    url = servers.writer.url()
    reader = Reader.of(DatabaseSettings.read({"DATABASE_URL": url, "DATABASE_READER_URL": url}))
    assert reader is not None
    with reader.engine.connect() as connection, pytest.raises(sa.exc.ProgrammingError, match="25006"):
        connection.execute(sa.text("DELETE FROM leads"))
    reader.engine.dispose()


@pytest.mark.parametrize("route", sorted(reader_answers.FROM_READER))
def test_route_reads_all_of_its_answer_from_the_reader(
    route: str, api: ApiClient, engine: sa.Engine, servers: Replicated
) -> None:
    with engine.connect() as connection:
        campaign_id = make_campaign(connection, ["ann@example.com"])
        lead_id = connection.scalar(sa.text("SELECT id FROM leads"))
    spas = {"kind": "field", "field": "industry", "operator": "is", "values": ["spa"]}
    ids = {"campaign_id": campaign_id, "lead_id": lead_id}
    if "segment_id" in route:
        created = api.post("/v1/segments", {"name": "Spas", "filter": spas})
        assert created.status == 201, created.body
        ids["segment_id"] = created.json["id"]
    if "endpoint_id" in route:
        endpoint = {"url": "https://example.com/hooks", "event_types": ["lead.replied"]}
        created = api.post("/v1/webhook-endpoints", endpoint)
        assert created.status == 201, created.body
        ids["endpoint_id"] = created.json["id"]
    servers.catch_up()
    asked: list[str] = []

    def note(*executed: Any) -> None:
        asked.append(executed[2])

    writer = api_resources.engine()
    sa.event.listen(writer, "before_cursor_execute", note)
    path = route.removeprefix("GET ")
    for name, value in ids.items():
        path = path.replace(f"<{name}>", str(value))
    query = {"ids": str(campaign_id)} if path == "/v1/campaign-progress" else {}
    answer = api.get(path, **query)
    assert answer.status == 200, answer.body
    # The writer is asked for the key only.
    assert [statement for statement in asked if "api_keys" not in statement] == []
