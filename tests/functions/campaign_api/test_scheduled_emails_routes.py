"""The ledger through the API: scheduled emails, sending one now, emails."""

from __future__ import annotations

import json
from typing import Any

import pytest
import sqlalchemy as sa

import api_resources
from local.threaded_server import RequestHandler, ThreadedServer
from sendledger.core import invoke_function
from sendledger.core.tables import audit_log, emails, scheduled_emails
from testbed.campaigns import DAY, NO_DELAY, make_campaign
from tests.functions.campaign_api.api_client import ApiClient

UNKNOWN = "123e4567-e89b-12d3-a456-426614174000"


@pytest.fixture
def path(api: ApiClient, connection: sa.Connection) -> str:
    """Of a running campaign: two steps, two leads, nothing sent yet."""
    path = f"/v1/campaigns/{make_campaign(connection, 2, [NO_DELAY, DAY])}"
    assert api.post(f"{path}/start").status == 200
    return path


def rows(api: ApiClient, path: str, **query: object) -> list[dict[str, Any]]:
    answer = api.get(f"{path}/scheduled-emails" if path else "/v1/scheduled-emails", **query)
    assert answer.status == 200, answer.body
    items: list[dict[str, Any]] = answer.json["items"]
    return items


def test_ledger_is_listed_in_pages(api: ApiClient, path: str) -> None:
    everything = rows(api, path)
    assert [row["id"] for row in everything] == sorted(row["id"] for row in everything)
    assert {row["status"] for row in everything} == {"pending"}
    first = api.get(f"{path}/scheduled-emails", limit=3).json
    second = api.get(f"{path}/scheduled-emails", limit=3, cursor=first["next_cursor"]).json
    assert first["items"] + second["items"] == everything == rows(api, "")
    assert second["next_cursor"] is None


def test_ledger_is_filtered(api: ApiClient, engine: sa.Engine, path: str) -> None:
    everything = rows(api, path)
    one = everything[0]
    with engine.begin() as connection:
        failed = {"status": "failed", "error_code": "outcome_unknown", "failed_at": sa.func.now()}
        connection.execute(sa.update(scheduled_emails).where(scheduled_emails.c.id == one["id"]).values(failed))
    ids = [row["id"] for row in everything]
    for where in (path, ""):
        assert sorted(row["id"] for row in rows(api, where, status="pending")) == ids[1:]
        assert [row["id"] for row in rows(api, where, error_code="outcome_unknown")] == [one["id"]]
        assert rows(api, where, error_code="outcome_unknown", status="sent") == []
        assert {row["lead_id"] for row in rows(api, where, lead_id=one["lead_id"])} == {one["lead_id"]}
    assert {row["workflow_step_number"] for row in rows(api, path, step=2)} == {2}


def test_ledger_is_filtered_by_reason(api: ApiClient, engine: sa.Engine, path: str) -> None:
    everything = rows(api, path)
    first, second, third, fourth = (row["id"] for row in everything)
    lead_of = {row["id"]: row["lead_id"] for row in everything}
    ended = {first: ("skipped", "replied"), second: ("skipped", "suppressed"), third: ("cancelled", "replied")}
    with engine.begin() as connection:
        for id_, (status, reason) in ended.items():
            change = sa.update(scheduled_emails).where(scheduled_emails.c.id == id_)
            connection.execute(change.values(status=status, reason=reason))
        failed = {"status": "failed", "error_code": "outcome_unknown", "failed_at": sa.func.now()}
        change = sa.update(scheduled_emails).where(scheduled_emails.c.id == fourth)
        connection.execute(change.values(**failed, reason="lead_removed"))
    for where in (path, ""):
        assert [row["id"] for row in rows(api, where, reason="replied")] == [first, third]
        assert [row["id"] for row in rows(api, where, reason="replied", sort="-id")] == [third, first]
        assert [row["id"] for row in rows(api, where, reason="replied", status="skipped")] == [first]
        of_lead = [row["id"] for row in rows(api, where, reason="suppressed", lead_id=lead_of[second])]
        assert of_lead == [second]
        assert rows(api, where, reason="late") == []
        # Of a lead that was taken out, the emails that had failed have the reason, too.
        assert rows(api, where, reason="lead_removed", lead_id=lead_of[fourth]) == []
        assert rows(api, where, reason="lead_removed", error_code="outcome_unknown") == []
    refused = api.get(f"{path}/scheduled-emails", reason="replied", status="sent")
    assert (refused.status, refused.json["errors"][0]["field"]) == (422, "reason")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"status": "lost"}, "status"),
        ({"step": 0}, "step"),
        ({"step": 2**40}, "step"),
        ({"lead_id": "7"}, "lead_id"),
        ({"error_code": "'; --"}, "error_code"),
        ({"lead": UNKNOWN}, "lead"),
        ({"cursor": "WzldXQ"}, "cursor"),
        ({"cursor": "WyJhIl0"}, "cursor"),
        ({"cursor": "WzFlMzBd"}, "cursor"),
    ],
)
def test_bad_filter_is_refused_naming_it(api: ApiClient, path: str, query: dict[str, object], field: str) -> None:
    answer = api.request("GET", f"{path}/scheduled-emails", query=query)
    assert (answer.status, answer.fields) == (422, [field])


def test_one_row_is_shown(api: ApiClient, path: str) -> None:
    row = rows(api, path)[0]
    assert api.get(f"/v1/scheduled-emails/{row['id']}").json == row


@pytest.mark.parametrize(("method", "action"), [("GET", ""), ("POST", "/send")])
def test_unknown_row_is_not_found(api: ApiClient, method: str, action: str) -> None:
    assert api.request(method, f"/v1/scheduled-emails/12345{action}").status == 404
    for wrong in ("x", "0", "-1", "1.5", str(2**63), "9" * 5000):
        answer = api.request(method, f"/v1/scheduled-emails/{wrong}{action}")
        assert (answer.status, answer.fields) == (422, ["scheduled_email_id"])


def test_email_that_is_due_later_is_made_due_now(api: ApiClient, engine: sa.Engine, connection: sa.Connection) -> None:
    path = f"/v1/campaigns/{make_campaign(connection, 1, [DAY])}"
    assert api.post(f"{path}/start").status == 200
    later = rows(api, path, step=1)[0]
    answer = api.post(f"/v1/scheduled-emails/{later['id']}/send")
    assert answer.status == 202
    assert answer.json["status"] == "pending"
    with engine.connect() as connection:
        overdue = sa.select(scheduled_emails.c.scheduled_for <= sa.func.now())
        assert connection.scalar(overdue.where(scheduled_emails.c.id == later["id"])) is True
        assert connection.execute(
            sa.select(audit_log.c.action, audit_log.c.entity_id).order_by(audit_log.c.id.desc()).limit(1)
        ).one() == ("scheduled_email.send", str(later["id"]))


def test_step_is_not_sent_before_the_one_before_it_nor_within_the_gap(
    api: ApiClient, engine: sa.Engine, path: str
) -> None:
    second = rows(api, path, step=2)[0]
    answer = api.post(f"/v1/scheduled-emails/{second['id']}/send")
    assert (answer.status, "Step 1 to this lead has not been sent yet" in answer.json["detail"]) == (409, True)
    sent = "UPDATE scheduled_emails SET status = 'sent', sent_at = now() - CAST(:ago AS interval) {where}"
    where = f"WHERE workflow_step_number = 1 AND lead_id = '{second['lead_id']}'"
    for ago, status in (("23 hours", 409), ("25 hours", 202)):
        with engine.begin() as connection:
            connection.execute(sa.text(sent.format(where=where)), {"ago": ago})
        answer = api.post(f"/v1/scheduled-emails/{second['id']}/send")
        assert answer.status == status
        if status == 409:
            assert "the gap between the steps ends at" in answer.json["detail"]


def test_overdue_email_does_not_lose_its_place(api: ApiClient, path: str) -> None:
    due = rows(api, path, step=1)[0]
    assert api.post(f"/v1/scheduled-emails/{due['id']}/send").json["scheduled_for"] == due["scheduled_for"]


def test_only_pending_emails_of_running_campaigns_can_be_sent(api: ApiClient, path: str) -> None:
    row = rows(api, path)[0]
    api.post(f"{path}/pause")
    answer = api.post(f"/v1/scheduled-emails/{row['id']}/send")
    assert (answer.status, answer.json["current_status"]) == (409, "paused")
    api.post(f"{path}/resume")
    assert api.post(f"/v1/scheduled-emails/{row['id']}/send").status == 202


def test_email_that_was_sent_is_not_sent_again(api: ApiClient, engine: sa.Engine, path: str) -> None:
    row = rows(api, path)[0]
    with engine.begin() as connection:
        connection.execute(
            sa.update(scheduled_emails)
            .where(scheduled_emails.c.id == row["id"])
            .values(status="sent", sent_at=sa.func.now())
        )
    answer = api.post(f"/v1/scheduled-emails/{row['id']}/send")
    assert (answer.status, answer.json["current_status"]) == (409, "sent")


class LambdaService(RequestHandler):
    """Takes every invocation, as the Lambda API does with asynchronous ones."""

    invocations: list[tuple[str, str | None, Any]]

    def do_POST(self) -> None:  # noqa: N802 (named by http.server)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.invocations.append((self.path, self.headers["X-Amz-Invocation-Type"], json.loads(body)))
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()


def test_sender_is_invoked_for_send_now(api: ApiClient, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    LambdaService.invocations = []
    service = ThreadedServer(0, LambdaService)
    service.start()
    monkeypatch.setenv("SENDER_FUNCTION_NAME", "sender")
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", f"http://127.0.0.1:{service.port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "test")
    api_resources.settings.cache_clear()
    invoke_function._client.cache_clear()
    row = rows(api, path)[0]
    try:
        assert api.post(f"/v1/scheduled-emails/{row['id']}/send").status == 202
        ((path_, kind, event),) = LambdaService.invocations
        assert (path_, kind) == ("/2015-03-31/functions/sender/invocations", "Event")
        # By the id of the request the sender's log leads to the API's.
        assert event.pop("request_id")
        assert event == {"scheduled_email_id": row["id"]}
    finally:
        service.stop()
    # It cannot be reached any more: the next tick sends the email.
    assert api.post(f"/v1/scheduled-emails/{row['id']}/send").status == 202


def test_email_is_shown_with_its_content(api: ApiClient, engine: sa.Engine, path: str) -> None:
    row = rows(api, path)[0]
    with engine.begin() as connection:
        email_id = connection.scalar(
            sa.insert(emails)
            .values(
                lead_id=row["lead_id"],
                campaign_id=row["campaign_id"],
                scheduled_email_id=row["id"],
                to_address="a@example.com",
                subject="Hi",
                body_text="Hello",
                external_id="ses-1",
                status="sent",
                delivery_status="delivered",
                sent_at=sa.func.now(),
            )
            .returning(emails.c.id)
        )
    shown = api.get(f"/v1/emails/{email_id}")
    assert shown.status == 200
    expected = {
        "ses_message_id": "ses-1",
        "delivery_status": "delivered",
        "body_html": None,
        "to_address": "a@example.com",
    }
    assert {name: shown.json[name] for name in expected} == expected
    assert shown.json["sent_at"].endswith("Z")


def test_unknown_email_is_not_found(api: ApiClient) -> None:
    assert api.get(f"/v1/emails/{UNKNOWN}").status == 404
    answer = api.get("/v1/emails/7")
    assert (answer.status, answer.fields) == (422, ["email_id"])
