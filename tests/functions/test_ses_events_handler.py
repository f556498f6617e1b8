"""The SES events Lambda records what belongs to it, and gives back only the messages that it cannot use."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

import ses_events_handler
from local.ses_simulator import AcceptedEmail, SesSimulator
from sendledger.campaigns import lifecycle
from sendledger.core.tables import email_events, emails, suppressions
from sendledger.sending.tick import Resources, send_due_emails
from testbed.campaigns import DAY, NO_DELAY, make_campaign
from testbed.databases import url_as
from testbed.ses_events import ACCOUNT, CONFIGURATION_SET, count_rows, event_of, queued

CONTEXT = SimpleNamespace(
    function_name="ses-events",
    memory_limit_in_mb=512,
    invoked_function_arn="arn:aws:lambda:us-east-1:123456789012:function:ses-events",
    aws_request_id="request-1",
)
Handle = Callable[..., list[str]]


@pytest.fixture
def handle(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Handle]:
    """Hands events to the Lambda as one batch; returns the positions of those that it gives back."""
    monkeypatch.setenv("DATABASE_URL", url_as("events", database_url))
    monkeypatch.setenv("SES_ACCOUNT_ID", ACCOUNT)
    monkeypatch.setenv("SES_CONFIGURATION_SET", CONFIGURATION_SET)
    for cached in (ses_events_handler.engine, ses_events_handler.settings):
        cached.cache_clear()

    def handle(*events: Any) -> list[str]:
        answer = ses_events_handler.lambda_handler(queued(*events), CONTEXT)
        assert list(answer) == ["batchItemFailures"]
        return [failure["itemIdentifier"] for failure in json.loads(json.dumps(answer))["batchItemFailures"]]

    yield handle
    ses_events_handler.engine().dispose()
    ses_events_handler.engine.cache_clear()


@pytest.fixture
def sent(engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator) -> list[AcceptedEmail]:
    """Three emails of a campaign with a second step, accepted by SES."""
    lifecycle.start_campaign(engine, make_campaign(connection, 3, [NO_DELAY, DAY]))
    send_due_emails(resources, 60.0)
    return ses.accepted()


def state(connection: sa.Connection) -> list[Any]:
    """The rows of every table."""
    names = sa.inspect(connection).get_table_names()
    found = [
        connection.execute(sa.text(f'SELECT t.*::text FROM "{name}" t ORDER BY 1')).all() for name in sorted(names)
    ]
    connection.rollback()
    return found


def test_batch_is_recorded(handle: Handle, connection: sa.Connection, sent: list[AcceptedEmail]) -> None:
    assert handle(*(event_of(email, type_) for email in sent for type_ in ("Send", "Delivery"))) == []
    assert count_rows(connection, email_events) == 6
    assert set(connection.scalars(sa.select(emails.c.delivery_status))) == {"delivered"}


def test_everything_that_the_simulator_publishes_is_understood(
    handle: Handle, engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    addresses: list[str | None] = [f"{box}@simulator.amazonses.com" for box in ("success", "bounce", "complaint")]
    lifecycle.start_campaign(engine, make_campaign(connection, addresses, [NO_DELAY, DAY]))
    send_due_emails(resources, 60.0)
    assert handle(*ses.events()) == []
    assert sorted(connection.scalars(sa.select(emails.c.delivery_status))) == ["bounced", "complained", "delivered"]
    assert sorted(connection.scalars(sa.select(suppressions.c.value))) == addresses[1:]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("", id="empty"),
        pytest.param("{", id="truncated"),
        pytest.param("[" * 100_000, id="nested deeply"),
        pytest.param(json.dumps({"source": "aws.ses", "account": ACCOUNT, "detail": "x" * 300_000}), id="oversized"),
        pytest.param(json.dumps({"source": "aws.ses", "account": ACCOUNT}), id="without detail"),
    ],
)
def test_message_that_is_no_event_goes_back_and_changes_nothing(
    handle: Handle, connection: sa.Connection, sent: list[AcceptedEmail], body: str
) -> None:
    before = state(connection)
    assert handle(body) == ["0"]
    assert state(connection) == before


def test_unusable_message_does_not_keep_the_others_from_being_recorded(
    handle: Handle, connection: sa.Connection, sent: list[AcceptedEmail]
) -> None:
    assert handle(event_of(sent[0], "Delivery"), "no event", event_of(sent[1], "Delivery")) == ["1"]
    assert count_rows(connection, email_events) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"source": "forged"},
        {"account": "999999999999"},
        {"detail": {"eventType": "Bounce", "mail": {"tags": {"ses:configuration-set": ["other"]}}}},
    ],
)
def test_events_of_others_are_counted_and_dropped(
    handle: Handle,
    connection: sa.Connection,
    sent: list[AcceptedEmail],
    change: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = state(connection)
    assert handle(event_of(sent[0], "Bounce") | change) == []
    assert state(connection) == before
    assert metric(capsys, "EventsDropped") == 1


def test_event_that_the_database_refuses_goes_back_alone(
    handle: Handle, engine: sa.Engine, connection: sa.Connection, sent: list[AcceptedEmail]
) -> None:
    with engine.begin() as own:
        poison = sa.text("ALTER TABLE email_events ADD CHECK (ses_message_id <> :id)")
        own.execute(poison.bindparams(sa.bindparam("id", sent[1].message_id, literal_execute=True)))
    assert handle(*(event_of(email, "Delivery") for email in sent)) == ["1"]
    assert count_rows(connection, email_events) == 2


def test_database_that_cannot_be_reached_gives_back_the_whole_batch(
    handle: Handle, monkeypatch: pytest.MonkeyPatch, sent: list[AcceptedEmail]
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@/nothing?host=/nowhere")
    ses_events_handler.engine.cache_clear()
    with pytest.raises((sa.exc.DBAPIError, OSError)):
        handle(event_of(sent[0], "Delivery"))


def test_second_message_of_one_email_raises_an_alarm(
    handle: Handle, sent: list[AcceptedEmail], capsys: pytest.CaptureFixture[str]
) -> None:
    second = event_of(sent[0], "Send", 0)
    second["detail"]["mail"]["messageId"] = "another-000000"
    handle(second)
    assert metric(capsys, "DoubleSend") == 1


def test_log_names_no_address(handle: Handle, sent: list[AcceptedEmail], capsys: pytest.CaptureFixture[str]) -> None:
    handle("{", *(event_of(email, type_) for email in sent for type_ in ("Bounce", "Complaint", "Open")))
    assert "@example.com" not in "".join(capsys.readouterr())


def metric(capsys: pytest.CaptureFixture[str], name: str) -> float:
    """A metric of the last invocation, in the format that CloudWatch reads from the log."""
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"_aws"' in line]
    return float(lines[-1][name][0])


def test_metrics_of_zero_are_not_written(
    handle: Handle, sent: list[AcceptedEmail], capsys: pytest.CaptureFixture[str]
) -> None:
    handle(event_of(sent[0], "Delivery"))
    (metrics,) = (json.loads(line) for line in capsys.readouterr().out.splitlines() if "CloudWatchMetrics" in line)
    (declared,) = metrics["_aws"]["CloudWatchMetrics"]
    values = {each["Name"]: metrics[each["Name"]] for each in declared["Metrics"]}
    assert values == {"EventsReceived": [1.0], "EventsRecorded": [1.0]}
