"""The console's inbox of replies: what is shown, outcomes and answers."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import pytest
import sqlalchemy as sa

from sendledger.core.tables import campaigns, emails, leads, replies, scheduled_emails
from testbed.campaigns import make_campaign
from testbed.console_browser import Browser
from tests.functions.campaign_api.api_client import ApiClient


def add_reply(connection: sa.Connection, **values: Any) -> uuid.UUID:
    given = {"message_id": f"<{uuid.uuid4()}@example.com>", "source": "api", "from_address": "ann@example.com"}
    reply_id: uuid.UUID = connection.execute(
        sa.insert(replies)
        .values({**given, "subject": "Yes please", "body_text": "Call me", **values})
        .returning(replies.c.id)
    ).scalar_one()
    return reply_id


@pytest.fixture
def reply(api: ApiClient, engine: sa.Engine) -> uuid.UUID:
    """A person's reply of a lead whose campaign runs."""
    with engine.connect() as connection:
        campaign_id = make_campaign(connection, ["ann@example.com"])
    assert api.post(f"/v1/campaigns/{campaign_id}/start").status == 200
    with engine.begin() as connection:
        lead_id = connection.scalar(sa.select(scheduled_emails.c.lead_id))
        return add_reply(connection, campaign_id=campaign_id, lead_id=lead_id, emails_skipped=2)


def test_inbox_shows_what_is_left_to_do_and_what_replies_did(browser: Browser, reply: uuid.UUID) -> None:
    text = browser.get("/console/replies").text
    for shown in ("Yes please", "Call me", "2 emails are not sent because of it"):
        assert shown in text
    browser.post(f"/console/replies/{reply}", {"handled": "yes"})
    assert "Nothing is left to do" in browser.get("/console/replies").text
    assert "Yes please" in browser.get("/console/replies?show=done").text
    browser.post(f"/console/replies/{reply}", {"handled": "no"})
    assert "Yes please" in browser.get("/console/replies").text


def test_inbox_is_filtered_by_kind(browser: Browser, reply: uuid.UUID, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        add_reply(connection, subject="Away", automatic="auto_submitted")
    assert "Yes please" not in browser.get("/console/replies?kind=out_of_office").text
    assert "Away" not in browser.get("/console/replies?kind=human").text


@pytest.mark.parametrize(("outcome", "status"), [("interested", "interested"), ("not_interested", "not_interested")])
def test_outcome_changes_the_lead(
    browser: Browser, reply: uuid.UUID, engine: sa.Engine, outcome: str, status: str
) -> None:
    shown = browser.post(f"/console/replies/{reply}", {"outcome": outcome})
    assert "The outcome is kept, and the lead was changed with it." in shown.text
    with engine.begin() as connection:
        lead_id = connection.scalar(sa.select(replies.c.lead_id))
        assert connection.scalar(sa.select(leads.c.status).where(leads.c.id == lead_id)) == status


@pytest.mark.parametrize(
    ("lead", "has_schedule", "day", "zone", "begins"),
    [
        ({}, False, "2031-02-03", "UTC", "2031-02-03T09:00:00+00:00"),
        ({"country": "Japan"}, True, "2031-02-03", "Asia/Tokyo", "2031-02-03T00:00:00+00:00"),
        ({"time_zone": "America/New_York"}, True, "2031-02-03", "America/New_York", "2031-02-03T14:00:00+00:00"),
        # In summer.
        ({"time_zone": "America/New_York"}, False, "2031-07-03", "America/New_York", "2031-07-03T13:00:00+00:00"),
        # More than one zone: that of the schedule.
        ({"country": "USA"}, True, "2031-02-03", "Europe/Berlin", "2031-02-03T08:00:00+00:00"),
    ],
)
def test_later_begins_in_the_morning_where_the_lead_is(
    browser: Browser,
    api: ApiClient,
    reply: uuid.UUID,
    engine: sa.Engine,
    lead: dict[str, str],
    has_schedule: bool,
    day: str,
    zone: str,
    begins: str,
) -> None:
    office = {"name": "Office", "time_zone": "Europe/Berlin", "hours": {"mon": [["09:00", "17:00"]]}}
    schedule = api.post("/v1/sending-schedules", office).json["id"] if has_schedule else None
    with engine.begin() as connection:
        if lead:
            connection.execute(sa.update(leads).values(lead))
        connection.execute(sa.update(campaigns).values(sending_schedule_id=schedule))
    assert f"09:00 in {zone}" in browser.get(f"/console/replies/{reply}").text
    shown = browser.post(f"/console/replies/{reply}", {"outcome": "later", "later_until": day})
    assert "The outcome is kept" in shown.text
    with engine.begin() as connection:
        assert connection.scalar(sa.select(replies.c.later_until)) == dt.datetime.fromisoformat(begins)


@pytest.mark.parametrize(
    ("form", "named"),
    [({"outcome": "king"}, "outcome"), ({"outcome": "later", "later_until": "soon"}, "later_until")],
)
def test_outcome_that_is_not_valid_names_the_field(
    browser: Browser, reply: uuid.UUID, form: dict[str, str], named: str
) -> None:
    shown = browser.post(f"/console/replies/{reply}", form)
    assert (shown.status, named in shown.text) == (422, True)


def test_answer_goes_out_in_the_thread(browser: Browser, reply: uuid.UUID, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        row = connection.execute(sa.select(scheduled_emails)).mappings().one()
        email = {
            "id": uuid.uuid4(),
            "scheduled_email_id": row["id"],
            "campaign_id": row["campaign_id"],
            "lead_id": row["lead_id"],
            "to_address": "ann@example.com",
            "subject": "Hello",
            "body_text": "Hello",
            "status": "sent",
            "sent_at": sa.func.now(),
            "external_id": "0100-abc",
        }
        connection.execute(sa.insert(emails).values(**email))
        connection.execute(sa.update(replies).values(email_id=email["id"]))
    page = browser.get(f"/console/replies/{reply}")
    form = {"text": "On Monday?", "quote": "yes", "request": page.field("request")}
    shown = browser.post(f"/console/replies/{reply}/answer", form)
    assert "The answer goes out with the next run of the sender." in shown.text
    with engine.begin() as connection:
        written = connection.scalar(sa.select(sa.func.count()).select_from(scheduled_emails))
    assert written == 2
    again = browser.post(f"/console/replies/{reply}/answer", {**form, "request": "c" * 32, "text": "Second"})
    assert (again.status, ">Second</textarea>" in again.html) == (409, True)


def test_reply_that_asks_to_stop_says_so(browser: Browser, reply: uuid.UUID, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(sa.update(replies).values(asks_to_stop=True))
    assert "Asks to be removed" in browser.get("/console/replies").text
    assert "Choose “Unsubscribe”" in browser.get(f"/console/replies/{reply}").text


@pytest.mark.parametrize("role", ["viewer", "editor"])
def test_who_may_not_send_sees_no_form(browsers: dict[str, Browser], reply: uuid.UUID, role: str) -> None:
    browsers[role].sign_in()
    html = browsers[role].get(f"/console/replies/{reply}").html
    assert ">Call me</pre>" in html
    assert "Set the outcome" not in html
    assert "Send the answer" not in html
    assert browsers[role].post(f"/console/replies/{reply}", {"handled": "yes"}).status == 403
