"""The built functions, run as Lambda runs them, on events in the form of AWS's documentation."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from local.postgres import Postgres
from local.ses_simulator import SesSimulator
from sendledger import campaign_lifecycle
from tests.campaigns import campaign_row, make_campaign
from tests.conftest import admin
from tests.functions.conftest import StartFunction
from tests.functions.lambda_runtime import FunctionError

EVENTS = Path(__file__).parents[1] / "events"


def _event(name: str) -> Any:
    return json.loads((EVENTS / f"{name}.json").read_text())


@pytest.fixture
def empty_database_url(postgres: Postgres) -> Iterator[str]:
    """The URL of a database without a single table, dropped after the test."""
    name = f"test_{os.urandom(6).hex()}"
    with admin(postgres) as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    yield postgres.url(name)
    with admin(postgres) as connection:
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))


def test_sender_sends_what_is_due_at_the_tick(
    start_function: StartFunction, engine: sa.Engine, connection: sa.Connection, database_url: str, ses: SesSimulator
) -> None:
    campaign_id = make_campaign(connection, ["ann@example.com"])
    campaign_lifecycle.start_campaign(engine, campaign_id)
    sender = start_function("SenderFunction", {"DATABASE_URL": database_url, "AWS_ENDPOINT_URL_SESV2": ses.url})
    summary = sender.invoke(_event("tick"))
    assert (summary["claimed"], summary["sent"]) == (1, 1), sender.log
    (accepted,) = ses.accepted()
    assert (accepted.subject, accepted.destination) == ("Hello Ann0", ("ann@example.com",))
    assert campaign_row(engine, campaign_id)["status"] == "completed"


def test_sender_logs_ids_and_no_address(
    start_function: StartFunction, engine: sa.Engine, connection: sa.Connection, database_url: str, ses: SesSimulator
) -> None:
    campaign_lifecycle.start_campaign(engine, make_campaign(connection, ["ann@example.com"]))
    sender = start_function("SenderFunction", {"DATABASE_URL": database_url, "AWS_ENDPOINT_URL_SESV2": ses.url})
    sender.invoke(_event("tick"))
    assert "Tick done" in sender.log
    assert "ann@example.com" not in sender.log


def test_sender_started_with_a_wrong_setting_fails_naming_it(start_function: StartFunction, database_url: str) -> None:
    sender = start_function("SenderFunction", {"DATABASE_URL": database_url, "SENDER_FROM_ADDRESS": "nobody"})
    with pytest.raises(FunctionError, match="SENDER_FROM_ADDRESS"):
        sender.invoke(_event("tick"))


def test_api_answers_a_request_of_api_gateway(start_function: StartFunction, database_url: str) -> None:
    answer = start_function("CampaignApiFunction", {"DATABASE_URL": database_url}).invoke(_event("api_request"))
    assert answer["statusCode"] == 200
    assert json.loads(answer["body"])["status"] == "ok"


def test_migrate_function_upgrades_an_empty_database(start_function: StartFunction, empty_database_url: str) -> None:
    migrate = start_function("MigrateFunction", {"DATABASE_URL": empty_database_url})
    assert migrate.invoke({"action": "current"}) == {"revision": None}
    upgraded = migrate.invoke({})
    assert upgraded["revision"]
    assert migrate.invoke({"action": "current"}) == upgraded
