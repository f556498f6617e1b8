"""What the team makes of replies by the API: the lead's status, and what campaigns still send."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import pytest
import sqlalchemy as sa

from sendledger.campaigns import lifecycle
from sendledger.sending.tick import Resources, send_due_emails
from testbed.campaigns import DAY, NO_DELAY, make_campaign, pass_time, rows_of, statuses
from tests.functions.campaign_api.api_client import ApiClient

LATER = dt.datetime.now(dt.UTC).replace(microsecond=0) + 100 * DAY


@pytest.fixture
def campaign_id(engine: sa.Engine, connection: sa.Connection, resources: Resources) -> uuid.UUID:
    """A campaign of three steps to Ann and Bob; the first is sent."""
    id_ = make_campaign(
        connection,
        ["ann@example.com", "bob@example.com"],
        [NO_DELAY, DAY, 2 * DAY],
        from_address="Nora <nora@x.example>",
    )
    lifecycle.start_campaign(engine, id_)
    send_due_emails(resources, 60.0)
    return id_


def reply(api: ApiClient, text: str = "Hello", **fields: Any) -> dict[str, Any]:
    answer = api.post("/v1/replies", {"from_address": "ann@example.com", "text": text, **fields})
    assert answer.status == 200, answer.body
    received: dict[str, Any] = answer.json
    return received


def lead_status(engine: sa.Engine, address: str = "ann@example.com") -> str:
    with engine.connect() as connection:
        return str(connection.scalar(sa.text("SELECT status FROM leads WHERE email = :a"), {"a": address}))


def of_ann(engine: sa.Engine, campaign_id: uuid.UUID) -> list[sa.RowMapping]:
    with engine.connect() as connection:
        ann = connection.scalar(sa.text("SELECT id FROM leads WHERE email = 'ann@example.com'"))
    return [row for row in rows_of(engine, campaign_id) if row["lead_id"] == ann]


def test_inbox_is_filtered_by_kind_sender_and_whether_it_is_handled(api: ApiClient, campaign_id: uuid.UUID) -> None:
    human = reply(api)
    away = reply(api, headers={"Auto-Submitted": "auto-replied"}, message_id="<away@x>")
    report = reply(api, headers={"X-Failed-Recipients": "ann@example.com"}, message_id="<report@x>")
    stop = reply(api, "Unsubscribe")
    spam = reply(api, headers={"X-SES-Spam-Verdict": "FAIL"}, message_id="<spam@x>")
    kinds = {
        "human": human,
        "out_of_office": away,
        "delivery_report": report,
        "unsubscribe_request": stop,
        "other": spam,
    }
    for kind, expected in kinds.items():
        found = api.get("/v1/replies", kind=kind).json["items"]
        assert [item["id"] for item in found] == [expected["id"]], kind
    assert api.patch(f"/v1/replies/{away['id']}", {"handled": True}).status == 200
    assert len(api.get("/v1/replies", handled="false").json["items"]) == 4
    assert [item["id"] for item in api.get("/v1/replies", handled="true").json["items"]] == [away["id"]]
    assert len(api.get("/v1/replies", sender="NORA@x.example").json["items"]) == 5
    assert api.get("/v1/replies", sender="ora@x.example").json["items"] == []
    assert api.get("/v1/replies", kind="spam").fields == ["kind"]


def test_inbox_of_a_campaign_with_senders_is_filtered_by_the_sender_of_the_email(
    api: ApiClient, engine: sa.Engine, campaign_id: uuid.UUID
) -> None:
    with engine.begin() as connection:
        connection.execute(
            sa.text("""
                WITH ola AS (INSERT INTO sender_addresses (from_address, address)
                             VALUES ('Ola <Ola@x.example>', 'ola@x.example') RETURNING id)
                UPDATE scheduled_emails SET sender_id = (SELECT id FROM ola) WHERE workflow_step_number = 1
            """)
        )
    received = reply(api)
    assert [item["id"] for item in api.get("/v1/replies", sender="ola@x.example").json["items"]] == [received["id"]]
    assert api.get("/v1/replies", sender="nora@x.example").json["items"] == []


def test_request_to_stop_is_proposed_and_not_done(api: ApiClient, engine: sa.Engine, campaign_id: uuid.UUID) -> None:
    received = reply(api, "Please unsubscribe me!")
    assert (received["kind"], received["proposed_outcome"]) == ("unsubscribe_request", "unsubscribe")
    assert (received["outcome"], received["handled_at"]) == (None, None)
    assert api.get("/v1/suppressions").json["items"] == []
    assert api.patch(f"/v1/replies/{received['id']}", {"outcome": "unsubscribe"}).status == 200
    (suppressed,) = api.get("/v1/suppressions").json["items"]
    assert (suppressed["value"], suppressed["reason"]) == ("ann@example.com", "unsubscribe")
    assert lead_status(engine) == "not_interested"
    assert api.get(f"/v1/campaigns/{campaign_id}").json["emails_unsubscribed_count"] == 1


@pytest.mark.parametrize(
    ("outcome", "status"),
    [("interested", "interested"), ("not_interested", "not_interested"), ("wrong_person", "invalid")],
)
def test_outcome_sets_the_status_of_the_lead_and_marks_the_reply(
    api: ApiClient, engine: sa.Engine, campaign_id: uuid.UUID, outcome: str, status: str
) -> None:
    received = reply(api)
    changed = api.patch(f"/v1/replies/{received['id']}", {"outcome": outcome})
    assert changed.status == 200, changed.body
    assert (changed.json["outcome"], changed.json["handled_at"] is None) == (outcome, False)
    assert changed.json["handled_by"]
    assert lead_status(engine) == status
    assert lead_status(engine, "bob@example.com") == "contacted"
    (entry,) = api.get("/v1/audit-log", entity_id=received["id"]).json["items"]
    assert (entry["action"], entry["detail"]["outcome"]) == ("reply.update", outcome)


def test_outcome_of_an_automatic_reply_stops_what_the_reply_did_not(
    api: ApiClient, engine: sa.Engine, campaign_id: uuid.UUID
) -> None:
    away = reply(api, "I have left the company.", headers={"Auto-Submitted": "auto-replied"})
    assert [row["status"] for row in of_ann(engine, campaign_id)] == ["sent", "pending", "pending"]
    assert api.patch(f"/v1/replies/{away['id']}", {"outcome": "wrong_person"}).status == 200
    assert [row["reason"] for row in of_ann(engine, campaign_id)] == [None, "lead_invalid", "lead_invalid"]
    assert statuses(engine, campaign_id) == {"sent": 2, "pending": 2, "skipped": 2}


def test_later_moves_the_remaining_steps_with_their_gaps(
    api: ApiClient, engine: sa.Engine, campaign_id: uuid.UUID
) -> None:
    received = reply(api, "Not before January")
    _, second, third = of_ann(engine, campaign_id)
    assert (second["reason"], third["reason"]) == ("replied", "replied")
    gap = third["scheduled_for"] - second["scheduled_for"]
    changed = api.patch(f"/v1/replies/{received['id']}", {"outcome": "later", "later_until": LATER.isoformat()})
    assert changed.status == 200, changed.body
    _, second, third = of_ann(engine, campaign_id)
    assert (second["status"], second["scheduled_for"]) == ("pending", LATER)
    assert (third["status"], third["scheduled_for"]) == ("pending", LATER + gap)
    assert lead_status(engine) == "contacted"


def test_later_steps_are_behind_the_one_that_goes_first(
    api: ApiClient, engine: sa.Engine, connection: sa.Connection, resources: Resources
) -> None:
    id_ = make_campaign(connection, ["ann@example.com"], [NO_DELAY, DAY, DAY], new_leads_per_day=5)
    lifecycle.start_campaign(engine, id_)
    send_due_emails(resources, 60.0)
    received = reply(api, "Not before January")
    assert [row["status"] for row in of_ann(engine, id_)] == ["sent", "skipped", "skipped"]
    body = {"outcome": "later", "later_until": LATER.isoformat()}
    assert api.patch(f"/v1/replies/{received['id']}", body).status == 200
    assert [row["is_behind"] for row in of_ann(engine, id_)] == [None, None, True]


def test_later_is_sent_when_its_time_has_come_although_the_campaign_was_over(
    api: ApiClient, engine: sa.Engine, connection: sa.Connection, resources: Resources
) -> None:
    id_ = make_campaign(connection, ["ann@example.com"], [NO_DELAY, DAY])
    lifecycle.start_campaign(engine, id_)
    send_due_emails(resources, 60.0)
    received = reply(api, "Tomorrow")
    assert api.get(f"/v1/campaigns/{id_}").json["status"] == "completed"
    soon = (dt.datetime.now(dt.UTC) + dt.timedelta(hours=3)).isoformat()
    assert api.patch(f"/v1/replies/{received['id']}", {"outcome": "later", "later_until": soon}).status == 200
    assert api.get(f"/v1/campaigns/{id_}").json["status"] == "running"
    pass_time(engine, DAY)
    with engine.begin() as changing:
        changing.execute(sa.text("UPDATE sender_state SET last_tick_at = now()"))
    send_due_emails(resources, 60.0)
    assert statuses(engine, id_) == {"sent": 2}
    assert api.get(f"/v1/campaigns/{id_}").json["status"] == "completed"


def test_later_without_a_time_leaves_the_steps_stopped(
    api: ApiClient, engine: sa.Engine, campaign_id: uuid.UUID
) -> None:
    received = reply(api)
    assert api.patch(f"/v1/replies/{received['id']}", {"outcome": "later"}).json["outcome"] == "later"
    assert [row["status"] for row in of_ann(engine, campaign_id)] == ["sent", "skipped", "skipped"]


def test_later_in_a_paused_campaign_waits_for_its_resumption(
    api: ApiClient, engine: sa.Engine, campaign_id: uuid.UUID
) -> None:
    received = reply(api)
    assert api.post(f"/v1/campaigns/{campaign_id}/pause").status == 200
    body = {"outcome": "later", "later_until": LATER.isoformat()}
    assert api.patch(f"/v1/replies/{received['id']}", body).status == 200
    assert [row["reason"] for row in of_ann(engine, campaign_id)] == [None, "paused", "paused"]


@pytest.mark.parametrize("ended", ["cancelled", "suppressed"])
def test_later_that_nothing_can_be_sent_for_is_refused(
    api: ApiClient, engine: sa.Engine, campaign_id: uuid.UUID, ended: str
) -> None:
    received = reply(api)
    if ended == "cancelled":
        assert api.post(f"/v1/campaigns/{campaign_id}/cancel").status == 200
    else:
        assert api.post("/v1/suppressions", {"value": "example.com"}).status in (200, 201)
    answer = api.patch(f"/v1/replies/{received['id']}", {"outcome": "later", "later_until": LATER.isoformat()})
    assert (answer.status, ended in answer.json["detail"]) == (409, True)
    assert api.get(f"/v1/replies/{received['id']}").json["outcome"] is None


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"outcome": "maybe"}, ["outcome"]),
        ({"outcome": None}, ["outcome"]),
        ({"later_until": "2030-01-01T00:00:00Z"}, ["later_until"]),
        ({"outcome": "interested", "later_until": "2030-01-01T00:00:00Z"}, ["later_until"]),
        ({"outcome": "later", "later_until": "2001-01-01T00:00:00Z"}, ["later_until"]),
        ({"outcome": "later", "later_until": "9999-01-01T00:00:00Z"}, ["later_until"]),
        ({"outcome": "later", "later_until": "January"}, ["later_until"]),
        ({"handled": "yes"}, ["handled"]),
        ({"status": "done"}, ["status"]),
    ],
)
def test_bad_change_names_the_field(api: ApiClient, campaign_id: uuid.UUID, body: Any, fields: list[str]) -> None:
    answer = api.patch(f"/v1/replies/{reply(api)['id']}", body)
    assert (answer.status, answer.fields) == (422, fields)


def test_reply_of_a_stranger_has_no_outcome(api: ApiClient) -> None:
    stranger = reply(api, from_address="stranger@example.org")
    assert api.patch(f"/v1/replies/{stranger['id']}", {"outcome": "interested"}).fields == ["outcome"]
    assert api.patch(f"/v1/replies/{stranger['id']}", {"handled": True}).json["handled_at"] is not None
    assert api.patch(f"/v1/replies/{stranger['id']}", {"handled": False}).json["handled_at"] is None
    assert api.patch(f"/v1/replies/{uuid.uuid4()}", {"handled": True}).status == 404
    assert api.get(f"/v1/replies/{uuid.uuid4()}").status == 404


def test_timeline_shows_everything_that_happened_with_a_lead(
    api: ApiClient, engine: sa.Engine, connection: sa.Connection, campaign_id: uuid.UUID
) -> None:
    lead_id = of_ann(engine, campaign_id)[0]["lead_id"]
    connection.execute(
        sa.text("""
            INSERT INTO email_events (event_key, scheduled_email_id, campaign_id, lead_id, ses_message_id, event_type,
                                      occurred_at, is_machine)
            SELECT type, e.id, e.campaign_id, e.lead_id, 'x', type, now() + number * interval '1 ms', type = 'Open'
            FROM scheduled_emails e,
                 unnest(ARRAY['Send', 'Delivery', 'Open', 'Click']) WITH ORDINALITY AS t (type, number)
            WHERE e.lead_id = :lead_id AND e.workflow_step_number = 1
        """),
        {"lead_id": lead_id},
    )
    connection.commit()
    assert api.patch(f"/v1/leads/{lead_id}", {"city": "Rome"}).status == 200
    received = reply(api, subject="Re: Step 1")
    assert api.patch(f"/v1/replies/{received['id']}", {"outcome": "unsubscribe"}).status == 200
    seen: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = api.get(f"/v1/leads/{lead_id}/timeline", limit=4, **cursor).json
        seen += page["items"]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert [item["event"] for item in seen][:9] == [
        *("imported", "scheduled", "scheduled", "scheduled", "sent", "delivered", "opened", "clicked", "edited")
    ]
    assert sorted(item["event"] for item in seen[9:]) == [
        *("replied", "skipped", "skipped", "suppressed", "unsubscribed")
    ]
    by_event = {item["event"]: item for item in seen}
    assert by_event["sent"]["subject"] == "Step 1 for Ann0"
    assert (by_event["opened"]["is_machine"], by_event["clicked"]["is_machine"]) == (True, False)
    assert by_event["edited"]["fields"] == ["city"]
    assert (by_event["replied"]["subject"], by_event["replied"]["reason"]) == ("Re: Step 1", "unsubscribe")
    assert by_event["skipped"]["reason"] == "replied"
    newest = api.get(f"/v1/leads/{lead_id}/timeline", sort="-at").json["items"]
    assert [item["at"] for item in newest] == [item["at"] for item in seen[::-1]]
    assert api.get(f"/v1/leads/{uuid.uuid4()}/timeline").status == 404
    assert api.get(f"/v1/leads/{lead_id}/timeline", cursor="x").fields == ["cursor"]


def test_timeline_of_an_erased_lead_shows_the_erasure_and_no_content(
    api: ApiClient, engine: sa.Engine, campaign_id: uuid.UUID
) -> None:
    lead_id = of_ann(engine, campaign_id)[0]["lead_id"]
    reply(api)
    assert api.post(f"/v1/leads/{lead_id}/erase", {"keep_suppressed": True}).status == 200
    seen = api.get(f"/v1/leads/{lead_id}/timeline").json["items"]
    assert [item["event"] for item in seen] == ["imported", "erased"]
