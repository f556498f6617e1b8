"""A person confirms one operation for somebody else, whose role does not allow it."""

from __future__ import annotations

import datetime as dt
import time
import uuid
from typing import Any

import pytest
import sqlalchemy as sa

from sendledger.campaigns import lifecycle
from sendledger.campaigns.content_digest import content_digest
from sendledger.core.errors import ContentChanged
from sendledger.core.tables import audit_log, campaigns, email_templates, workflow_steps
from testbed.campaigns import DAY, NO_DELAY, campaign_row, make_campaign
from testbed.databases import working_as
from tests.functions.campaign_api.api_client import Answer, ApiClient


@pytest.fixture
def campaign_id(connection: sa.Connection) -> uuid.UUID:
    """A draft of two steps."""
    return make_campaign(connection, ["ann@example.com"], [NO_DELAY, DAY])


def confirm(clients: dict[str, ApiClient], operation: str, id_: object, role: str = "admin") -> str:
    answer = clients[role].post("/v1/confirmations", {"operation": operation, "id": str(id_)})
    assert answer.status == 201, answer.body
    token: str = answer.json["token"]
    return token


def ask(api: ApiClient, operation: str, id_: object, token: str, **headers: str) -> Answer:
    path = f"/v1/leads/{id_}/erase" if operation == "erase" else f"/v1/campaigns/{id_}/{operation}"
    body = {"keep_suppressed": False} if operation == "erase" else {}
    return api.request("POST", path, body=body, headers={"Sendledger-Confirmation": token, **headers})


def test_editor_starts_and_cancels_what_a_sender_has_confirmed(
    clients: dict[str, ApiClient], engine: sa.Engine, campaign_id: uuid.UUID
) -> None:
    editor = clients["editor"]
    assert editor.post(f"/v1/campaigns/{campaign_id}/start").status == 403
    for operation, status in (("start", "running"), ("cancel", "cancelled")):
        token = confirm(clients, operation, campaign_id, "sender")
        assert ask(editor, operation, campaign_id, token).status == 200
        assert campaign_row(engine, campaign_id)["status"] == status


def test_editor_resumes_what_a_sender_has_confirmed(
    clients: dict[str, ApiClient], engine: sa.Engine, campaign_id: uuid.UUID
) -> None:
    clients["sender"].post(f"/v1/campaigns/{campaign_id}/start")
    clients["sender"].post(f"/v1/campaigns/{campaign_id}/pause")
    assert ask(clients["editor"], "resume", campaign_id, confirm(clients, "resume", campaign_id)).status == 200
    assert campaign_row(engine, campaign_id)["status"] == "running"


def test_editor_erases_a_lead_whom_an_administrator_has_confirmed(clients: dict[str, ApiClient]) -> None:
    lead = clients["editor"].post("/v1/leads", {"email": "ann@example.com"}).json["id"]
    assert ask(clients["editor"], "erase", lead, confirm(clients, "erase", lead)).status == 200
    assert clients["editor"].get(f"/v1/leads/{lead}").json["erased_at"] is not None


def test_confirmation_is_for_one_operation_on_one_thing(
    clients: dict[str, ApiClient], connection: sa.Connection, engine: sa.Engine, campaign_id: uuid.UUID
) -> None:
    other = make_campaign(connection, ["bob@example.com"], [NO_DELAY])
    token = confirm(clients, "start", campaign_id)
    for operation, id_ in (("start", other), ("cancel", campaign_id), ("resume", campaign_id), ("erase", campaign_id)):
        answer = ask(clients["editor"], operation, id_, token)
        assert (answer.status, answer.json["type"]) == (403, "urn:sendledger:problem:not_confirmed")
    assert campaign_row(engine, campaign_id)["status"] == "draft"


@pytest.mark.parametrize("token", ["", "x", "k1." + "0" * 48, "k2." + "f" * 48, "ä"])
def test_invented_confirmation_is_refused(
    clients: dict[str, ApiClient], engine: sa.Engine, campaign_id: uuid.UUID, token: str
) -> None:
    # Also where the role would do: who sends a confirmation relies on it.
    for role in ("editor", "admin"):
        assert ask(clients[role], "start", campaign_id, token).status == 403
    assert campaign_row(engine, campaign_id)["status"] == "draft"


def test_confirmation_holds_for_ten_minutes(
    clients: dict[str, ApiClient], campaign_id: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, now = confirm(clients, "start", campaign_id), time.time()
    monkeypatch.setattr("confirmed_requests.time.time", lambda: now + 601)
    assert ask(clients["editor"], "start", campaign_id, token).status == 403
    monkeypatch.setattr("confirmed_requests.time.time", lambda: now + 590)
    assert ask(clients["editor"], "start", campaign_id, token).status == 200


@pytest.mark.parametrize("changed", ["template", "step", "campaign", "leads"])
def test_edit_after_the_confirmation_takes_it_back(
    clients: dict[str, ApiClient], engine: sa.Engine, campaign_id: uuid.UUID, changed: str
) -> None:
    token = confirm(clients, "start", campaign_id)
    with engine.begin() as connection:
        if changed == "template":
            connection.execute(sa.update(email_templates).values(subject="Something else"))
        elif changed == "step":
            connection.execute(sa.update(workflow_steps).values(in_thread=True))
    changes: dict[str, Any] = {"campaign": {"name": "Other"}, "leads": {"lead_ids": [_lead(clients)]}}
    if changed in changes:
        answer = clients["editor"].patch(f"/v1/campaigns/{campaign_id}", changes[changed])
        assert answer.status == 200, answer.body
    assert ask(clients["editor"], "start", campaign_id, token).status == 403


def test_segment_that_changes_after_the_confirmation_takes_it_back(
    clients: dict[str, ApiClient], connection: sa.Connection, campaign_id: uuid.UUID
) -> None:
    filter_ = {"kind": "field", "field": "city", "operator": "is", "values": ["Bonn"]}
    segment = clients["editor"].post("/v1/segments", {"name": "Bonn", "filter": filter_}).json["id"]
    with connection.begin():
        connection.execute(sa.update(campaigns).values(segment_ids=[uuid.UUID(segment)]))
    token = confirm(clients, "start", campaign_id)
    changed = clients["editor"].patch(f"/v1/segments/{segment}", {"filter": {**filter_, "values": ["Bonn", "Ulm"]}})
    assert changed.status == 200, changed.body
    assert ask(clients["editor"], "start", campaign_id, token).status == 403


@pytest.fixture
def later(clients: dict[str, ApiClient], campaign_id: uuid.UUID) -> uuid.UUID:
    """The campaign, to be started tomorrow."""
    tomorrow = (dt.datetime.now(dt.UTC) + dt.timedelta(days=1)).isoformat()
    changes = {"start_type": "scheduled", "scheduled_start_at": tomorrow}
    answer = clients["editor"].patch(f"/v1/campaigns/{campaign_id}", changes)
    assert answer.status == 200, answer.body
    return campaign_id


def let_tomorrow_come(engine: sa.Engine, campaign_id: uuid.UUID) -> None:
    """The time of the start is past, and what was confirmed is the same but for that time."""
    with engine.begin() as connection:
        own = campaigns.c.id == campaign_id
        confirmed = connection.scalar(sa.select(campaigns.c.confirmed_content).where(own))
        assert confirmed in (None, content_digest(connection, campaign_id))
        connection.execute(sa.update(campaigns).where(own).values(scheduled_start_at=sa.func.now()))
        if confirmed is not None:
            now = content_digest(connection, campaign_id)
            connection.execute(sa.update(campaigns).where(own).values(confirmed_content=now))


def edit_the_template(clients: dict[str, ApiClient]) -> None:
    template, *_ = clients["editor"].get("/v1/email-templates").json["items"]
    answer = clients["editor"].patch(f"/v1/email-templates/{template['id']}", {"subject": "Something else"})
    assert answer.status == 200, answer.body


def test_start_at_a_later_time_that_was_confirmed_happens(
    clients: dict[str, ApiClient], engine: sa.Engine, later: uuid.UUID
) -> None:
    answer = ask(clients["editor"], "start", later, confirm(clients, "start", later))
    assert (answer.status, answer.json["status"]) == (200, "scheduled")
    let_tomorrow_come(engine, later)
    with working_as("sender", engine) as sender:
        assert lifecycle.start_due_campaigns(sender) == [later]


def test_start_at_a_later_time_sends_nothing_but_what_was_confirmed(
    clients: dict[str, ApiClient], engine: sa.Engine, later: uuid.UUID
) -> None:
    assert ask(clients["editor"], "start", later, confirm(clients, "start", later)).status == 200
    let_tomorrow_come(engine, later)
    edit_the_template(clients)
    assert lifecycle.start_due_campaigns(engine) == []
    row = campaign_row(engine, later)
    assert (row["status"], row["actual_started_at"]) == ("failed", None)
    assert "changed after a person had confirmed" in row["failure_reason"]
    # A person looks at it, and starts it as it is now.
    assert (
        clients["editor"].patch(f"/v1/campaigns/{later}", {"start_type": "manual", "scheduled_start_at": None}).status
        == 200
    )
    assert ask(clients["editor"], "start", later, confirm(clients, "start", later)).json["status"] == "running"


@pytest.mark.parametrize("again", [False, True])
def test_start_that_a_person_schedules_takes_the_content_of_its_time(
    clients: dict[str, ApiClient], engine: sa.Engine, later: uuid.UUID, again: bool
) -> None:
    if again:
        # Who schedules it last has the say.
        assert ask(clients["editor"], "start", later, confirm(clients, "start", later)).status == 200
    assert clients["sender"].post(f"/v1/campaigns/{later}/start").json["status"] == "scheduled"
    let_tomorrow_come(engine, later)
    edit_the_template(clients)
    assert lifecycle.start_due_campaigns(engine) == [later]


def test_edit_between_the_check_and_the_start_is_seen(engine: sa.Engine, campaign_id: uuid.UUID) -> None:
    with pytest.raises(ContentChanged):
        lifecycle.start_campaign(engine, campaign_id, confirmed_content="what was confirmed")
    assert campaign_row(engine, campaign_id)["status"] == "draft"


@pytest.mark.parametrize("asked", ["true", "1", "YES"])
def test_confirmed_resume_takes_no_new_content(
    clients: dict[str, ApiClient], engine: sa.Engine, campaign_id: uuid.UUID, asked: str
) -> None:
    clients["sender"].post(f"/v1/campaigns/{campaign_id}/start")
    clients["sender"].post(f"/v1/campaigns/{campaign_id}/pause")
    headers = {"Sendledger-Confirmation": confirm(clients, "resume", campaign_id)}
    path = f"/v1/campaigns/{campaign_id}/resume"
    refused = clients["editor"].request("POST", path, query={"refresh_content": asked}, headers=headers)
    assert (refused.status, refused.json["type"]) == (403, "urn:sendledger:problem:not_confirmed")
    assert "refresh_content" in refused.json["detail"]
    assert campaign_row(engine, campaign_id)["status"] == "paused"
    without = clients["editor"].request("POST", path, query={"refresh_content": "false"}, headers=headers)
    assert without.status == 200


def test_id_of_no_kind_is_refused_with_a_confirmation_too(clients: dict[str, ApiClient]) -> None:
    for operation in ("start", "resume", "cancel", "erase"):
        assert ask(clients["editor"], operation, "this", "k1." + "0" * 48).status == 403


def _lead(clients: dict[str, ApiClient]) -> Any:
    return clients["editor"].post("/v1/leads", {"email": "carl@example.com"}).json["id"]


@pytest.mark.parametrize(
    ("role", "operation", "status"),
    [("viewer", "start", 403), ("editor", "start", 403), ("sender", "start", 201), ("sender", "erase", 403)],
)
def test_nobody_confirms_what_the_role_does_not_allow(
    clients: dict[str, ApiClient], campaign_id: uuid.UUID, role: str, operation: str, status: int
) -> None:
    id_ = _lead(clients) if operation == "erase" else str(campaign_id)
    assert clients[role].post("/v1/confirmations", {"operation": operation, "id": id_}).status == status


def test_repeated_request_gets_its_answer_although_the_campaign_runs(
    clients: dict[str, ApiClient], campaign_id: uuid.UUID
) -> None:
    token = confirm(clients, "start", campaign_id)
    first, second = (
        ask(clients["editor"], "start", campaign_id, token, **{"Idempotency-Key": "start-1"}) for _ in range(2)
    )
    assert (first.status, second.status, second.json) == (200, 200, first.json)


def test_confirmation_is_on_record_and_its_token_is_not_kept(
    clients: dict[str, ApiClient], connection: sa.Connection, campaign_id: uuid.UUID
) -> None:
    body, headers = {"operation": "start", "id": str(campaign_id)}, {"Idempotency-Key": "c"}
    first, second = (clients["sender"].request("POST", "/v1/confirmations", body=body, headers=headers) for _ in "12")
    assert (first.json["token"] is None, second.json["token"]) == (False, None)
    entry = connection.execute(sa.select(audit_log).filter_by(action="confirmation.create")).mappings().one()
    assert (entry["entity_id"], entry["detail"]) == (str(campaign_id), {"operation": "start"})


def test_what_does_not_exist_is_not_confirmed(clients: dict[str, ApiClient]) -> None:
    for operation in ("start", "erase"):
        body = {"operation": operation, "id": str(uuid.uuid4())}
        assert clients["admin"].post("/v1/confirmations", body).status == 404
