"""A tick sends what is due, once, writes it back and completes what is done."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence

import pytest
import sqlalchemy as sa

from local.ses_simulator import SesSimulator
from sendledger.campaigns import lifecycle
from sendledger.core.tables import emails, leads
from sendledger.ledger import record_results, settle_unknown
from sendledger.ledger.record_results import SendResult
from sendledger.ledger.settle_unknown import Acceptance
from sendledger.sending.tick import Resources, send_due_emails
from testbed.campaigns import DAY, NO_DELAY, campaign_row, make_campaign, pass_time, rows_of, statuses
from testbed.senders import sender_resources

SECONDS = 60.0


def test_single_template_campaign_is_sent_and_completes(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = make_campaign(connection, 5)
    lifecycle.start_campaign(engine, campaign_id)
    summary = send_due_emails(resources, SECONDS)
    assert (summary.claimed, summary.sent, summary.campaigns_completed) == (5, 5, 1)
    assert len(ses.accepted()) == 5
    campaign = campaign_row(engine, campaign_id)
    assert campaign["status"] == "completed"
    assert campaign["emails_sent_count"] == campaign["emails_sent"] == campaign["emails_scheduled_count"] == 5


def test_rate_of_a_tick_has_no_rounding_error(sender_engine: sa.Engine) -> None:
    with SesSimulator(rate=14, daily_quota=-1) as limited:
        summary = send_due_emails(sender_resources(sender_engine, limited.url), SECONDS)
    assert json.dumps(summary.as_dict()["rate"]) == "13.3"


def test_sent_row_is_linked_to_the_email_and_the_lead(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = make_campaign(connection, ["ann@example.com"])
    lifecycle.start_campaign(engine, campaign_id)
    send_due_emails(resources, SECONDS)
    (row,) = rows_of(engine, campaign_id)
    (accepted,) = ses.accepted()
    email = connection.execute(sa.select(emails)).mappings().one()
    lead = connection.execute(sa.select(leads)).mappings().one()
    assert row["email_id"] == email["id"]
    assert row["ses_message_id"] == email["external_id"] == accepted.message_id
    assert (email["subject"], email["body_text"]) == ("Hello Ann0", "Dear Ann0 Lee of Company 0")
    assert (accepted.subject, accepted.destination) == ("Hello Ann0", ("ann@example.com",))
    assert accepted.tags["scheduled_email_id"] == str(row["id"])
    assert accepted.tags["claim_token"] == str(row["claim_token"])
    assert (lead["status"], lead["emails_sent"], lead["last_contacted_at"]) == ("contacted", 1, email["sent_at"])


def test_three_step_workflow_runs_until_its_last_email(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = make_campaign(connection, 10, [NO_DELAY, DAY, DAY])
    lifecycle.start_campaign(engine, campaign_id)
    for day, sent in enumerate((10, 20), 1):
        send_due_emails(resources, SECONDS)
        assert len(ses.accepted()) == sent
        assert campaign_row(engine, campaign_id)["status"] == "running"
        assert statuses(engine, campaign_id) == {"sent": sent, "pending": 30 - sent}
        assert campaign_row(engine, campaign_id)["current_workflow_step"] == day
        pass_time(engine, DAY)
    send_due_emails(resources, SECONDS)
    assert statuses(engine, campaign_id) == {"sent": 30}
    assert campaign_row(engine, campaign_id)["status"] == "completed"
    pass_time(engine, DAY)
    send_due_emails(resources, SECONDS)
    assert len(ses.accepted()) == 30


def test_event_that_is_faster_than_the_sender_changes_neither_count_nor_content(
    engine: sa.Engine,
    connection: sa.Connection,
    resources: Resources,
    ses: SesSimulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    campaign_id = make_campaign(connection, 2)
    lifecycle.start_campaign(engine, campaign_id)
    record = record_results.record

    def record_after_the_events(
        opened: sa.Connection, results: Sequence[SendResult], token: uuid.UUID
    ) -> record_results.Recorded:
        monkeypatch.setattr(record_results, "record", record)
        with engine.begin() as other:
            accepted = {result.email.id: Acceptance(result.outcome.message_id) for result in results}
            assert settle_unknown.settle_as_sent(other, accepted) == 2
            other.execute(sa.update(emails).values(body_text="rendered again"))
        return record(opened, results, token)

    monkeypatch.setattr(record_results, "record", record_after_the_events)
    assert send_due_emails(resources, SECONDS).sent == 2
    connection.rollback()
    assert {mail.text for mail in ses.accepted()} == set(connection.scalars(sa.select(emails.c.body_text)))
    campaign = campaign_row(engine, campaign_id)
    assert (campaign["emails_sent_count"], campaign["status"]) == (2, "completed")


def test_event_that_is_slower_than_the_sender_leaves_the_content_alone(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = make_campaign(connection, 1)
    lifecycle.start_campaign(engine, campaign_id)
    send_due_emails(resources, SECONDS)
    with engine.begin() as other:
        other.execute(sa.text("UPDATE leads SET contact_name = 'Bob Day'"))
        (row,) = rows_of(engine, campaign_id)
        assert settle_unknown.settle_as_sent(other, {row["id"]: Acceptance(row["ses_message_id"])}) == 0
    (accepted,) = ses.accepted()
    assert connection.scalar(sa.select(emails.c.body_text)) == accepted.text
