"""What an operator decides: emails of unknown outcome, emails that an outage made late, sending that is stopped."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from sendledger.core.tables import SCHEMA_REVISION, audit_log, campaigns, scheduled_emails
from sendledger.ledger import sender_state
from testbed.campaigns import campaign_row, make_campaign, rows_of, statuses
from tests.functions.campaign_api.api_client import ApiClient


@pytest.fixture
def _revision_stays(engine: sa.Engine) -> Iterator[None]:
    """The database is that of many tests, and not emptied of its revision."""
    yield
    store_revision(engine, SCHEMA_REVISION)


@pytest.fixture
def unknown(api: ApiClient, connection: sa.Connection, engine: sa.Engine) -> int:
    """The id of a row whose outcome is unknown, the only one of a running campaign."""
    campaign_id = make_campaign(connection, 1)
    assert api.post(f"/v1/campaigns/{campaign_id}/start").status == 200
    with engine.begin() as other:
        other.execute(
            sa.text("""
                UPDATE scheduled_emails SET status = 'failed', error_code = 'outcome_unknown', failed_at = now(),
                       claim_token = gen_random_uuid(), send_started_at = now()
            """)
        )
        other.execute(sa.text("UPDATE campaigns SET emails_failed_count = 1"))
    (row,) = rows_of(engine, campaign_id)
    return int(row["id"])


def actions(engine: sa.Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.scalars(sa.select(audit_log.c.action).order_by(audit_log.c.id)))


def test_marking_as_sent_settles_the_row_and_the_counters(api: ApiClient, engine: sa.Engine, unknown: int) -> None:
    answer = api.post(f"/v1/scheduled-emails/{unknown}/mark-sent")
    assert (answer.status, answer.json["status"], answer.json["error_code"]) == (200, "sent", None)
    campaign = campaign_row(engine, answer.json["campaign_id"])
    assert (campaign["emails_sent_count"], campaign["emails_failed_count"]) == (1, 0)
    assert "scheduled_email.mark_sent" in actions(engine)


def test_requeueing_makes_the_row_pending_again(api: ApiClient, engine: sa.Engine, unknown: int) -> None:
    answer = api.post(f"/v1/scheduled-emails/{unknown}/requeue")
    assert (answer.status, answer.json["status"], answer.json["error_code"]) == (200, "pending", None)
    assert campaign_row(engine, answer.json["campaign_id"])["emails_failed_count"] == 0
    assert "scheduled_email.requeue" in actions(engine)


def test_requeueing_a_row_of_a_completed_campaign_reopens_it(api: ApiClient, engine: sa.Engine, unknown: int) -> None:
    with engine.begin() as connection:
        connection.execute(sa.update(campaigns).values(status="completed", completed_at=sa.func.now()))
    campaign_id = api.post(f"/v1/scheduled-emails/{unknown}/requeue").json["campaign_id"]
    campaign = campaign_row(engine, campaign_id)
    assert (campaign["status"], campaign["completed_at"]) == ("running", None)


def test_requeueing_a_row_of_a_cancelled_campaign_is_a_conflict(
    api: ApiClient, engine: sa.Engine, unknown: int
) -> None:
    with engine.begin() as connection:
        connection.execute(sa.update(campaigns).values(status="cancelled"))
    answer = api.post(f"/v1/scheduled-emails/{unknown}/requeue")
    assert (answer.status, answer.json["current_status"]) == (409, "cancelled")
    assert api.get(f"/v1/scheduled-emails/{unknown}").json["error_code"] == "outcome_unknown"


def test_requeueing_an_email_to_a_lead_that_was_taken_out_is_a_conflict(
    api: ApiClient, connection: sa.Connection, engine: sa.Engine, unknown: int
) -> None:
    row = api.get(f"/v1/scheduled-emails/{unknown}").json
    follow_up = """INSERT INTO campaign_steps (campaign_id, step_number, delay, subject, body_text)
                   SELECT campaign_id, 2, interval '1 day', 's', 't' FROM campaign_steps"""
    connection.execute(sa.text(follow_up))
    values = {"campaign_id": row["campaign_id"], "lead_id": row["lead_id"], "workflow_step_number": 2}
    connection.execute(sa.insert(scheduled_emails).values(**values, scheduled_for=sa.func.now()))
    connection.commit()
    assert api.delete(f"/v1/campaigns/{row['campaign_id']}/leads/{row['lead_id']}").json["emails_cancelled"] == 1

    answer = api.post(f"/v1/scheduled-emails/{unknown}/requeue")

    assert answer.status == 409
    assert "was taken out of the campaign" in answer.json["detail"]


@pytest.mark.parametrize("action", ["mark-sent", "requeue"])
def test_a_row_of_known_outcome_is_a_conflict(api: ApiClient, unknown: int, action: str) -> None:
    api.post(f"/v1/scheduled-emails/{unknown}/mark-sent")
    answer = api.post(f"/v1/scheduled-emails/{unknown}/{action}")
    assert answer.status == 409
    assert "sent" in answer.json["detail"]


@pytest.mark.parametrize(("action", "expected"), [("send", {"pending": 2}), ("skip", {"skipped": 2})])
def test_late_emails_are_released_or_skipped(
    api: ApiClient, engine: sa.Engine, connection: sa.Connection, action: str, expected: dict[str, int]
) -> None:
    campaign_id = make_campaign(connection, 2)
    api.post(f"/v1/campaigns/{campaign_id}/start")
    with engine.begin() as other:
        other.execute(sa.text("UPDATE scheduled_emails SET scheduled_for = now() - interval '2 days'"))
        other.execute(sa.text("UPDATE campaigns SET late_hold_until = now() - interval '1 day'"))
    answer = api.post(f"/v1/campaigns/{campaign_id}/late-emails", {"action": action})
    assert answer.status == 202
    assert answer.json["background_work"] == []
    assert statuses(engine, campaign_id) == expected
    if action == "send":
        overdue = dt.datetime.now(dt.UTC) - rows_of(engine, campaign_id)[0]["scheduled_for"]
        assert overdue < dt.timedelta(minutes=1)


def test_deciding_where_nothing_is_held_is_a_conflict(api: ApiClient, connection: sa.Connection) -> None:
    campaign_id = make_campaign(connection, 1)
    assert api.post(f"/v1/campaigns/{campaign_id}/late-emails", {"action": "send"}).status == 409


def test_stopped_sending_is_shown_and_resumed(api: ApiClient, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        sender_state.stop(connection, "account_suspended", "The account is suspended.", None)
    shown = api.get("/v1/sender").json
    assert (shown["stop_code"], shown["stopped_until"]) == ("account_suspended", None)
    assert api.post("/v1/sender/resume").json["stop_code"] is None
    assert api.get("/v1/sender").json["stop_code"] is None
    assert "sender.resume" in actions(engine)


def test_resuming_a_running_sender_is_a_conflict(api: ApiClient) -> None:
    assert api.post("/v1/sender/resume").status == 409


def test_a_diagnosis_names_the_cause_and_when_it_goes_on(api: ApiClient, connection: sa.Connection) -> None:
    campaign_id = make_campaign(connection, 1)
    answer = api.get(f"/v1/campaigns/{campaign_id}/diagnose")
    assert (answer.status, answer.json["cause"], answer.json["next_send_at"]) == (200, "campaign_draft", None)


def store_revision(engine: sa.Engine, revision: str) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})


@pytest.mark.usefixtures("_revision_stays")
@pytest.mark.parametrize("revision", ["0001", "0006b", "another"])
def test_the_api_is_not_ready_before_the_schema_is(api: ApiClient, engine: sa.Engine, revision: str) -> None:
    store_revision(engine, revision)
    answer = api.get("/v1/readiness")
    assert (answer.status, answer.json["type"]) == (503, "urn:sendledger:problem:schema_outdated")


@pytest.mark.usefixtures("_revision_stays")
@pytest.mark.parametrize("revision", [SCHEMA_REVISION, "9999", "10000"])
def test_the_api_is_ready_with_its_schema_and_with_a_newer_one(
    api: ApiClient, engine: sa.Engine, revision: str
) -> None:
    store_revision(engine, revision)
    assert api.get("/v1/readiness").status == 200


# Failed emails


def test_failed_emails_are_counted_and_put_back(api: ApiClient, engine: sa.Engine, unknown: int) -> None:
    row = api.get(f"/v1/scheduled-emails/{unknown}").json
    path = f"/v1/campaigns/{row['campaign_id']}/retry-failed"
    assert api.get(path).json == {"emails": 0, "by_error_code": {}}
    assert api.post(path, {}).status == 409
    refused = api.post(path, {"error_codes": ["outcome_unknown"]})
    assert (refused.status, refused.json["errors"][0]["field"]) == (422, "error_codes")
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE scheduled_emails SET error_code = 'bad_request'"))
    assert api.get(path).json == {"emails": 1, "by_error_code": {"bad_request": 1}}
    taken = api.post(path, {})
    assert (taken.status, taken.json["emails"], taken.json["background_work"]) == (202, 1, [])
    assert statuses(engine, row["campaign_id"]) == {"pending": 1}
    assert "campaign.retry_failed" in actions(engine)


def test_failed_emails_of_named_codes_are_counted_before_they_are_put_back(
    api: ApiClient, engine: sa.Engine, unknown: int
) -> None:
    path = f"/v1/campaigns/{api.get(f'/v1/scheduled-emails/{unknown}').json['campaign_id']}/retry-failed"
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE scheduled_emails SET error_code = 'sender_died'"))
    assert api.get(path).json["emails"] == 0
    assert api.get(path, error_codes="bad_request").json["emails"] == 0
    assert api.get(path, error_codes="bad_request,sender_died").json["by_error_code"] == {"sender_died": 1}
    assert api.post(path, {"error_codes": ["bad_request", "sender_died"]}).json["emails"] == 1
    assert api.get(path, error_codes="outcome_unknown").fields == ["error_codes"]
