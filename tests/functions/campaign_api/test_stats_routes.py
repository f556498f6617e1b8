"""What people look at: how far a campaign is, what happened when, and all campaigns at a glance."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import pytest
import sqlalchemy as sa

from sendledger.campaigns import lifecycle
from sendledger.core.vocabulary import ReplySource
from sendledger.feedback import read_reply, replies
from sendledger.sending.tick import Resources, send_due_emails
from testbed.campaigns import NO_DELAY, make_campaign
from tests.functions.campaign_api.api_client import ApiClient

NO_EMAILS = {
    "sent": 0,
    "failed": 0,
    "delivered": 0,
    "opened": 0,
    "clicked": 0,
    "bounced": 0,
    "soft_bounced": 0,
    "complained": 0,
}


@pytest.fixture
def campaign_id(engine: sa.Engine, connection: sa.Connection, resources: Resources) -> uuid.UUID:
    """Sent to four leads at 10:40 two days ago; what came back is written as `record_events` writes it."""
    id_ = make_campaign(connection, [f"lead{number}@example.com" for number in range(4)], [NO_DELAY])
    lifecycle.start_campaign(engine, id_)
    send_due_emails(resources, 30.0)
    with engine.begin() as changing:
        for statement in (
            "UPDATE scheduled_emails SET sent_at = date_trunc('day', now(), 'UTC') - interval '37 hours 20 minutes'",
            "UPDATE emails SET sent_at = date_trunc('day', now() AT TIME ZONE 'UTC') - interval '37 hours 20 minutes'",
            "UPDATE emails SET delivered_at = sent_at + interval '10 minutes'",
            "UPDATE emails SET opened_at = sent_at + interval '30 minutes' WHERE to_address < 'lead2'",
            "UPDATE emails SET clicked_at = sent_at + interval '31 minutes' WHERE to_address < 'lead1'",
            "UPDATE campaigns SET emails_delivered_count = 4, emails_opened_count = 2, emails_clicked_count = 1",
        ):
            changing.execute(sa.text(statement))
    return id_


def at(days_ago: int, hour: int) -> str:
    today = dt.datetime.now(dt.UTC).replace(hour=hour, minute=0, second=0, microsecond=0)
    return f"{today - dt.timedelta(days=days_ago):%Y-%m-%dT%H:%M:%SZ}"


def happened(answer: dict[str, Any]) -> dict[str, dict[str, int]]:
    """What is not zero, by the time of its item."""
    found = {
        item["starts_at"]: {name: count for name, count in item.items() if name != "starts_at" and count}
        for item in answer["items"]
    }
    return {time: counts for time, counts in found.items() if counts}


def test_stats_show_the_funnel_and_its_rates(api: ApiClient, campaign_id: uuid.UUID) -> None:
    stats = api.get(f"/v1/campaigns/{campaign_id}/stats").json
    nothing = {"replied": 0, "bounced": 0, "soft_bounced": 0, "complained": 0, "unsubscribed": 0}
    assert stats["funnel"] == {"sent": 4, "delivered": 4, "opened": 2, "clicked": 1, **nothing}
    assert stats["rates"] == {"delivered": 1.0, "opened": 0.5, "clicked": 0.25, **dict.fromkeys(nothing, 0.0)}


def test_what_a_campaign_does_not_track_is_null_and_not_zero(api: ApiClient, connection: sa.Connection) -> None:
    campaign_id = make_campaign(connection, 1, status="completed", emails_sent_count=4, track_clicks=True)
    stats = api.get(f"/v1/campaigns/{campaign_id}/stats").json
    assert (stats["track_opens"], stats["track_clicks"]) == (False, True)
    assert (stats["funnel"]["opened"], stats["rates"]["opened"]) == (None, None)
    assert (stats["funnel"]["clicked"], stats["rates"]["clicked"]) == (0, 0.0)
    hours = api.get(f"/v1/campaigns/{campaign_id}/timeline").json["items"]
    assert {(hour["opened"], hour["clicked"]) for hour in hours} == {(None, 0)}


def test_rates_of_a_draft_are_null(api: ApiClient, connection: sa.Connection) -> None:
    stats = api.get(f"/v1/campaigns/{make_campaign(connection, 1)}/stats").json
    assert set(stats["rates"].values()) == {None}
    assert (stats["emails_per_second"], stats["expected_to_finish_at"], stats["last_due_at"]) == (None, None, None)


def test_timeline_counts_by_the_hour(api: ApiClient, campaign_id: uuid.UUID) -> None:
    answer = api.request(
        "GET", f"/v1/campaigns/{campaign_id}/timeline", query={"from": at(3, 0), "to": at(0, 0), "interval": "hour"}
    )
    assert answer.status == 200, answer.body
    assert happened(answer.json) == {
        at(2, 10): {"sent": 4, "delivered": 4},
        at(2, 11): {"opened": 2, "clicked": 1},
    }
    assert len(answer.json["items"]) == 72
    assert (answer.json["interval"], answer.json["from"], answer.json["to"]) == ("hour", at(3, 0), at(0, 0))


def test_timeline_counts_by_the_day(api: ApiClient, campaign_id: uuid.UUID) -> None:
    answer = api.get(f"/v1/campaigns/{campaign_id}/timeline", interval="day")
    assert happened(answer.json) == {at(2, 0): {"sent": 4, "delivered": 4, "opened": 2, "clicked": 1}}
    assert len(answer.json["items"]) == 31
    assert answer.json["items"][-1]["starts_at"] == at(0, 0)


def test_timeline_counts_replies_and_complaints_once_for_each_email(
    api: ApiClient, engine: sa.Engine, campaign_id: uuid.UUID
) -> None:
    reply = read_reply.ReadReply(
        message_id="<1@example.com>",
        from_address="lead0@example.com",
        to_addresses=(),
        referred_ids=(),
        subject="Re",
        text="Hello",
        automatic=None,
    )
    replies.receive(engine, reply, ReplySource.API, "all", None)
    with engine.begin() as connection:
        connection.execute(
            sa.text("""
                INSERT INTO email_events (event_key, email_id, campaign_id, ses_message_id, event_type, occurred_at,
                                          detail)
                SELECT n.key, e.id, :id, 'm', 'Complaint', now(), n.detail
                FROM (SELECT id FROM emails WHERE campaign_id = :id LIMIT 1) e,
                     (VALUES ('1', CAST('{}' AS jsonb)), ('2', '{}'), ('3', '{"feedback_type"\\: "not-spam"}'))
                     n (key, detail)
            """),
            {"id": campaign_id},
        )
    answer = api.get(f"/v1/campaigns/{campaign_id}/timeline", interval="day")
    assert happened(answer.json)[at(0, 0)] == {"complained": 1, "replied": 1}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"interval": "week"}, "interval"),
        ({"from": "2030-01-01"}, "from"),
        ({"to": "0.5"}, "to"),
        ({"to": "1900000000"}, "to"),
        ({"from": "2030-01-02T00:00:00Z", "to": "2030-01-01T00:00:00Z"}, "to"),
        ({"from": "2030-01-01T00:00:00Z", "to": "2030-02-02T00:00:00Z"}, "to"),
        ({"interval": "day", "from": "2030-01-01T00:00:00Z", "to": "2031-01-03T00:00:00Z"}, "to"),
        ({"interval": "day", "to": "1970-01-01T00:00:00Z"}, None),
    ],
)
def test_timeline_is_bounded(
    api: ApiClient, connection: sa.Connection, query: dict[str, str], field: str | None
) -> None:
    answer = api.request("GET", f"/v1/campaigns/{make_campaign(connection, 1)}/timeline", query=query)
    assert answer.status == (422 if field else 200), answer.body
    assert answer.fields == ([field] if field else [])


def test_timeline_of_no_campaign_is_not_found(api: ApiClient) -> None:
    assert api.get(f"/v1/campaigns/{uuid.uuid4()}/timeline").status == 404


def test_overview_of_nothing(api: ApiClient) -> None:
    answer = api.get("/v1/overview")
    assert answer.status == 200, answer.body
    assert answer.json == {
        "campaigns_by_status": {},
        "today": NO_EMAILS,
        "last_30_days": NO_EMAILS,
        "next_due_at": None,
        "sender": api.get("/v1/sender").json,
        "administrators_until": None,
        "retention": None,
        "webhook_endpoints_disabled": 0,
    }


def test_overview_shows_all_campaigns(
    api: ApiClient, engine: sa.Engine, connection: sa.Connection, campaign_id: uuid.UUID, resources: Resources
) -> None:
    running = make_campaign(connection, 2, [NO_DELAY, dt.timedelta(hours=1)])
    lifecycle.start_campaign(engine, running)
    send_due_emails(resources, 30.0)
    make_campaign(connection, 1)
    seen = api.get("/v1/overview").json
    assert seen["campaigns_by_status"] == {"completed": 1, "draft": 1, "running": 1}
    assert seen["today"] == NO_EMAILS | {"sent": 2}
    assert seen["last_30_days"] == NO_EMAILS | {"sent": 6, "delivered": 4, "opened": 2, "clicked": 1}
    assert seen["next_due_at"] == api.get(f"/v1/campaigns/{running}/stats").json["next_due_at"]
    assert seen["sender"]["deployment_id"] == "test"
