"""The built functions, run as Lambda runs them, on events in the form of AWS's documentation."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.session
import pytest
import sqlalchemy as sa
from moto.server import ThreadedMotoServer

from local.postgres import Postgres
from local.ses_simulator import SesSimulator
from sendledger import campaign_lifecycle
from sendledger.tables import SCHEMA_REVISION
from tests.campaigns import campaign_row, make_campaign
from tests.conftest import admin
from tests.functions.conftest import StartFunction
from tests.functions.lambda_runtime import FunctionError
from tests.ses_events import queued

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


def test_an_event_of_ses_leads_to_its_tick_in_the_senders_log(
    start_function: StartFunction, engine: sa.Engine, connection: sa.Connection, database_url: str, ses: SesSimulator
) -> None:
    campaign_lifecycle.start_campaign(engine, make_campaign(connection, ["ann@example.com"]))
    sender = start_function("SenderFunction", {"DATABASE_URL": database_url, "AWS_ENDPOINT_URL_SESV2": ses.url})
    sender.invoke(_event("tick"))
    (attempt,) = ses.events()[0]["detail"]["mail"]["tags"]["attempt"]
    (done,) = (line for line in sender.log.splitlines() if "Tick done" in line)
    assert attempt in done
    assert "function_request_id" in done


def test_a_migration_that_is_killed_by_its_timeout_can_be_repeated(
    start_function: StartFunction, engine: sa.Engine, database_url: str
) -> None:
    migrate = start_function("MigrateFunction", {"DATABASE_URL": database_url}, timeout=3)
    with engine.begin() as connection:
        connection.execute(sa.text("LOCK TABLE alembic_version"))
        with pytest.raises(FunctionError, match="timed out"):
            migrate.invoke({})
    # A new execution environment, as on Lambda.
    assert migrate.invoke({}) == {"revision": SCHEMA_REVISION}


def test_a_stored_reply_is_read_when_s3_tells_of_it(
    start_function: StartFunction, engine: sa.Engine, database_url: str
) -> None:
    s3 = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    s3.start()
    try:
        url = "http://{}:{}".format(*s3.get_host_and_port())
        session = botocore.session.get_session()
        session.set_credentials("test", "test")
        client = session.create_client("s3", region_name="us-east-1", endpoint_url=url)
        event = _event("s3_put")
        (where,) = (record["s3"] for record in event["Records"])
        where["bucket"]["name"] = "replies"
        client.create_bucket(Bucket="replies")
        message = b"From: ann@example.com\r\nTo: sales@example.com\r\nSubject: Re: Hello\r\n\r\nYes!\r\n"
        client.put_object(Bucket="replies", Key=where["object"]["key"], Body=message)
        function = start_function("ReplyFunction", {"DATABASE_URL": database_url, "AWS_ENDPOINT_URL_S3": url})
        assert function.invoke(event) is None
    finally:
        s3.stop()
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT from_address FROM replies")) == "ann@example.com"
    assert "ann@example.com" not in function.log


@pytest.mark.parametrize(
    ("logical_id", "variable", "event"),
    [
        ("SesEventsFunction", "SES_ACCOUNT_ID", queued({})),
        ("UnsubscribeFunction", "UNSUBSCRIBE_KEYS", {"requestContext": {"http": {"method": "GET"}}}),
        ("ReplyFunction", "STOP_ON_REPLY", {"Records": []}),
    ],
)
def test_a_cold_start_with_a_wrong_setting_names_it(
    start_function: StartFunction, database_url: str, logical_id: str, variable: str, event: Any
) -> None:
    function = start_function(logical_id, {"DATABASE_URL": database_url, variable: " "})
    with pytest.raises(FunctionError, match=variable):
        function.invoke(event)


def test_a_database_that_cannot_be_verified_is_not_spoken_to(start_function: StartFunction) -> None:
    settings = {
        "DATABASE_SECRET_ARN": "arn:aws:secretsmanager:us-east-1:123456789012:secret:x",
        "DATABASE_IAM_AUTH": "",
    }
    bundle = {"DATABASE_CA_BUNDLE": "/opt/rds-global-bundle.pem", "DATABASE_URL": "postgresql://u:p@db.example.com/d"}
    migrate = start_function("MigrateFunction", {**settings, **bundle})
    with pytest.raises(FunctionError, match="DATABASE_CA_BUNDLE"):
        migrate.invoke({"action": "current"})
