"""A campaign that bounces, is complained about or is refused too often pauses itself, and stays paused."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import pydantic
import pytest
import sqlalchemy as sa

from local.ses_simulator import AcceptedEmail, SesSimulator
from sendledger.campaigns import lifecycle
from sendledger.campaigns.guardrails import Limits
from sendledger.core.settings import SesEventsSettings
from sendledger.feedback.ingest_events import Ingested, ingest_events
from sendledger.sending.tick import Resources, send_due_emails
from sendledger.sending.tick_summary import TickSummary
from testbed.campaigns import DAY, NO_DELAY, campaign_row, make_campaign, pass_time, statuses
from testbed.databases import working_as
from testbed.senders import sender_resources
from testbed.ses_events import ACCOUNT, CONFIGURATION_SET, event_of
from tests.feedback.test_record_events import read

SECONDS = 60.0
SETTINGS = SesEventsSettings.read({"SES_ACCOUNT_ID": ACCOUNT, "SES_CONFIGURATION_SET": CONFIGURATION_SET})


def sent_campaign(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, leads: int, **values: Any
) -> uuid.UUID:
    """A campaign that has sent its first step and waits for the second."""
    campaign_id = make_campaign(connection, leads, [NO_DELAY, DAY], **values)
    lifecycle.start_campaign(engine, campaign_id)
    send_due_emails(resources, SECONDS)
    return campaign_id


def take_in(engine: sa.Engine, sent: Sequence[AcceptedEmail], type_: str, **content: Any) -> Ingested:
    with working_as("events", engine) as as_function:
        return ingest_events(as_function, read(*(event_of(email, type_, **content) for email in sent)), SETTINGS)


def test_campaign_pauses_at_five_percent_of_bounces_with_the_numbers(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = sent_campaign(engine, connection, resources, 60)
    assert take_in(engine, ses.accepted()[:2], "Bounce").campaigns_paused == 0
    assert campaign_row(engine, campaign_id)["status"] == "running"
    assert take_in(engine, ses.accepted()[2:3], "Bounce").campaigns_paused == 1
    campaign = campaign_row(engine, campaign_id)
    assert campaign["status"] == "paused"
    assert campaign["failure_reason"] == (
        "Paused by a guardrail: 3 of the latest 60 emails bounced (5.00%); the limit is 5.00%."
    )
    assert statuses(engine, campaign_id) == {"sent": 60, "skipped": 3, "cancelled": 57}


def test_one_complaint_is_too_many_for_a_thousand_emails(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = sent_campaign(engine, connection, resources, 50)
    take_in(engine, ses.accepted()[:1], "Complaint")
    assert campaign_row(engine, campaign_id)["status"] == "paused"


@pytest.mark.parametrize(
    ("type_", "content"),
    [
        ("Bounce", {"bounceType": "Transient"}),
        ("Bounce", {"bounceType": "Undetermined"}),
        ("Bounce", {"bounceType": "SomethingNew"}),
        ("Bounce", {"bounceSubType": "OnAccountSuppressionList"}),
        ("Complaint", {"complaintFeedbackType": "not-spam"}),
        ("DeliveryDelay", {}),
    ],
)
def test_bounces_that_say_nothing_about_the_list_do_not_pause(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator, type_: str, content: Any
) -> None:
    campaign_id = sent_campaign(engine, connection, resources, 50)
    take_in(engine, ses.accepted()[:25], type_, **content)
    assert campaign_row(engine, campaign_id)["status"] == "running"


def test_fewer_than_fifty_emails_prove_nothing(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = sent_campaign(engine, connection, resources, 49)
    take_in(engine, ses.accepted()[:40], "Bounce")
    assert campaign_row(engine, campaign_id)["status"] == "running"


def test_bounces_that_came_before_there_were_enough_emails_count_once_there_are(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = make_campaign(connection, 49, [NO_DELAY, DAY, DAY])
    lifecycle.start_campaign(engine, campaign_id)
    send_due_emails(resources, SECONDS)
    take_in(engine, ses.accepted()[:5], "Bounce")
    pass_time(engine, DAY)
    assert send_due_emails(resources, SECONDS).campaigns_paused == 1
    campaign = campaign_row(engine, campaign_id)
    assert campaign["status"] == "paused"
    assert campaign["failure_reason"].startswith("Paused by a guardrail: 5 of the latest 93 emails bounced")


def test_bounces_that_seem_to_come_before_their_emails_count(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = sent_campaign(engine, connection, resources, 50)
    # SES's answers came late, or its clock is behind ours.
    connection.execute(sa.text("UPDATE emails SET sent_at = sent_at + interval '20 seconds'"))
    connection.commit()
    take_in(engine, ses.accepted()[:5], "Bounce")
    assert campaign_row(engine, campaign_id)["status"] == "paused"


def test_other_campaign_goes_on(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    bad = sent_campaign(engine, connection, resources, 50)
    sent = ses.accepted()
    good = sent_campaign(engine, connection, resources, 50)
    take_in(engine, sent[:10], "Bounce")
    assert [campaign_row(engine, each)["status"] for each in (bad, good)] == ["paused", "running"]


def test_after_a_resume_only_emails_sent_since_count(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = sent_campaign(engine, connection, resources, 60)
    take_in(engine, ses.accepted()[:5], "Bounce")
    lifecycle.resume_campaign(engine, campaign_id)
    take_in(engine, ses.accepted()[5:10], "Bounce")
    assert campaign_row(engine, campaign_id)["status"] == "running"


@pytest.mark.parametrize(
    ("own", "status"),
    [
        ({"max_bounce_rate": 0.5}, "running"),
        ({"enabled": False}, "running"),
        ({"min_emails": 100}, "running"),
        ({"min_emails": 10, "max_complaint_rate": 1.0}, "paused"),
    ],
)
def test_campaign_may_have_its_own_limits(
    engine: sa.Engine,
    connection: sa.Connection,
    resources: Resources,
    ses: SesSimulator,
    own: dict[str, Any],
    status: str,
) -> None:
    campaign_id = sent_campaign(engine, connection, resources, 60, guardrails=own)
    take_in(engine, ses.accepted()[:10], "Bounce")
    assert campaign_row(engine, campaign_id)["status"] == status


@pytest.mark.parametrize("own", [{"max_bounce_rate": 0}, {"max_bounce_rate": 5}, {"min_emails": 0}, {"unknown": 1}])
def test_limits_that_make_no_sense_are_refused(own: dict[str, Any]) -> None:
    with pytest.raises(pydantic.ValidationError):
        Limits.model_validate(own)


def refuse(engine: sa.Engine, connection: sa.Connection, ses: SesSimulator, leads: int, *refused: int) -> TickSummary:
    """A tick over a campaign that sends one email after the other; SES refuses those with these numbers."""
    lifecycle.start_campaign(engine, make_campaign(connection, leads, [NO_DELAY, DAY]))
    in_order = connection.scalars(
        sa.text("""
            SELECT l.email FROM scheduled_emails e JOIN leads l ON l.id = e.lead_id
            WHERE e.workflow_step_number = 1 ORDER BY e.scheduled_for, e.id
        """)
    ).all()
    for number in refused:
        ses.add_fault("bad_request", address=in_order[number])
    connection.rollback()
    with working_as("sender", engine) as as_sender:
        return send_due_emails(sender_resources(as_sender, ses.url, SENDER_CONNECTIONS="1"), SECONDS)


def status(connection: sa.Connection) -> tuple[str, str | None]:
    row = connection.execute(sa.text("SELECT status, failure_reason FROM campaigns")).one()
    return row[0], row[1]


def test_five_refusals_of_ses_in_a_row_pause(engine: sa.Engine, connection: sa.Connection, ses: SesSimulator) -> None:
    summary = refuse(engine, connection, ses, 5, 0, 1, 2, 3, 4)
    assert summary.campaigns_paused == 1
    reason = (
        "Paused by a guardrail: SES refused the last 5 emails in a row (bad_request); the limit is 5. "
        "Fix the cause, put the emails back (retry-failed) and resume the campaign."
    )
    assert status(connection) == ("paused", reason)


def test_refusals_with_a_success_in_between_do_not_pause(
    engine: sa.Engine, connection: sa.Connection, ses: SesSimulator
) -> None:
    refuse(engine, connection, ses, 9, 0, 1, 2, 3, 5, 6, 7, 8)
    assert status(connection) == ("running", None)


def test_emails_that_cannot_be_rendered_are_no_refusals(
    engine: sa.Engine, connection: sa.Connection, resources: Resources
) -> None:
    campaign_id = make_campaign(connection, 6, [NO_DELAY, DAY])
    lifecycle.start_campaign(engine, campaign_id)
    with engine.begin() as own:
        own.execute(sa.text("UPDATE campaign_steps SET subject = '{{ custom_fields.plan }}' WHERE step_number = 1"))
    send_due_emails(resources, SECONDS)
    assert statuses(engine, campaign_id) == {"failed": 6, "skipped": 6}
    assert campaign_row(engine, campaign_id)["status"] == "completed"
