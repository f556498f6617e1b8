"""Steps that depend on what became of an earlier one; the fence decides."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
import sqlalchemy as sa

from local.ses_simulator import SesSimulator
from sendledger.campaigns import lifecycle
from sendledger.feedback.read_ses_events import SesEvent, read_ses_event
from sendledger.feedback.record_events import record_events
from sendledger.ledger import claim_emails
from sendledger.sending.tick import Resources, send_due_emails
from testbed.campaigns import DAY, NO_DELAY, campaign_row, make_campaign, make_workflow, pass_time, rows_of
from testbed.ses_events import ACCOUNT, CONFIGURATION_SET, event_of
from tests.sending.test_email_threads import send_all

HAPPENED = {
    "nothing": "",
    "delivered": "delivered_at = now()",
    "opened": "delivered_at = now(), opened_at = now(), open_count = 1",
    "clicked": "delivered_at = now(), clicked_at = now(), click_count = 1",
}


def started(engine: sa.Engine, connection: sa.Connection, event: str, of_step: int = 1, steps: int = 3) -> uuid.UUID:
    """A campaign to one lead. Its second step, or the last one for another `of_step`, has the condition."""
    workflow_id = make_workflow(connection, [NO_DELAY] + [DAY] * (steps - 1))
    connection.execute(
        sa.text("""
            UPDATE workflow_steps SET only_if_event = :event, only_if_step = :of_step
            WHERE workflow_id = :id AND step_number = :of_step + 1
        """),
        {"event": event, "of_step": of_step, "id": workflow_id},
    )
    tracking: dict[str, Any] = {"track_opens": True, "track_clicks": True}
    campaign_id = make_campaign(connection, ["ann@example.com"], workflow_id=workflow_id, **tracking)
    lifecycle.start_campaign(engine, campaign_id)
    return campaign_id


def outcome(engine: sa.Engine, campaign_id: uuid.UUID) -> list[tuple[str, str | None]]:
    return [(row["status"], row["reason"]) for row in rows_of(engine, campaign_id)]


SENT, SKIPPED = ("sent", None), ("skipped", "condition_not_met")


@pytest.mark.parametrize(
    ("event", "fulfilled_by"),
    [
        ("delivered", {"delivered", "opened", "clicked"}),
        ("opened", {"opened", "clicked"}),
        ("clicked", {"clicked"}),
        ("not_opened", {"nothing", "delivered"}),
        ("not_clicked", {"nothing", "delivered", "opened"}),
    ],
)
def test_step_goes_to_those_for_whom_its_condition_holds(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, event: str, fulfilled_by: set[str]
) -> None:
    campaigns = {}
    for happened in HAPPENED:
        campaigns[happened] = started(engine, connection, event, steps=2)
    send_all(engine, resources, 1)
    for happened, change in HAPPENED.items():
        if change:
            statement = sa.text(f"UPDATE emails SET {change} WHERE campaign_id = :id")
            connection.execute(statement, {"id": campaigns[happened]})
    connection.commit()
    send_all(engine, resources, 1)
    found = {happened: outcome(engine, id_)[1] for happened, id_ in campaigns.items()}
    assert found == {happened: SENT if happened in fulfilled_by else SKIPPED for happened in HAPPENED}


def test_later_steps_go_on_and_the_campaign_completes(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = started(engine, connection, "opened")
    send_all(engine, resources, 3)
    assert outcome(engine, campaign_id) == [SENT, SKIPPED, SENT]
    assert campaign_row(engine, campaign_id)["status"] == "completed"
    assert len(ses.accepted()) == 2


@pytest.mark.parametrize("event", ["not_opened", "opened"])
def test_step_that_was_not_sent_fulfils_nothing(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, event: str
) -> None:
    campaign_id = started(engine, connection, event, of_step=2)
    connection.execute(
        sa.text("UPDATE campaign_steps SET only_if_event = 'clicked', only_if_step = 1 WHERE step_number = 2")
    )
    connection.commit()
    send_all(engine, resources, 3)
    assert outcome(engine, campaign_id) == [SENT, SKIPPED, SKIPPED]


def test_what_happened_until_the_fence_counts(
    engine: sa.Engine, connection: sa.Connection, resources: Resources
) -> None:
    started(engine, connection, "opened", steps=2)
    send_due_emails(resources, 60.0)
    pass_time(engine, DAY)
    token = uuid.uuid4()
    with engine.begin() as claiming:
        (claimed,) = claim_emails.claim(claiming, 10, token)
    connection.execute(sa.text("UPDATE emails SET opened_at = now()"))
    connection.commit()
    with engine.begin() as fencing:
        assert list(claim_emails.fence(fencing, [claimed], token).sendable) == [claimed.id]


@pytest.mark.parametrize(("event", "sent"), [("opened", False), ("clicked", False), ("not_clicked", True)])
def test_what_machines_open_and_click_does_not_count(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator, event: str, *, sent: bool
) -> None:
    campaign_id = started(engine, connection, event, steps=2)
    send_due_emails(resources, 60.0)
    (first,) = ses.accepted()
    events = [event_of(first, "Delivery"), event_of(first, "Open", 3600, userAgent="Mozilla/5.0")]
    events.append(event_of(first, "Click", 3))
    read = [read_ses_event(json.dumps(each), ACCOUNT, CONFIGURATION_SET) for each in events]
    with engine.begin() as recording:
        record_events(recording, [each for each in read if isinstance(each, SesEvent)])
    with engine.connect() as reading:
        kinds = reading.execute(sa.text("SELECT event_type, is_machine FROM email_events ORDER BY 1")).all()
    assert kinds == [("Click", True), ("Delivery", False), ("Open", True)]
    send_all(engine, resources, 2)
    assert outcome(engine, campaign_id)[1] == (SENT if sent else SKIPPED)
