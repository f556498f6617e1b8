"""Adding leads to an evergreen campaign, and ending that, through the API."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from sendledger.core.tables import audit_log, campaigns, leads
from sendledger.sending.tick import Resources, send_due_emails
from testbed.campaigns import make_batch, make_template
from testbed.invariants import wait_for
from tests.campaigns.test_intake import waiting_for_locks
from tests.functions.campaign_api.api_client import ApiClient
from tests.functions.campaign_api.test_lead_batches_routes import post

NOBODY = "123e4567-e89b-12d3-a456-426614174000"


@pytest.fixture
def draft(connection: sa.Connection) -> dict[str, Any]:
    """An evergreen campaign to nobody yet."""
    template = make_template(connection)
    connection.commit()
    return {"name": "Welcome", "email_template_id": str(template), "evergreen": True, "intake": {"every": "1 day"}}


@pytest.fixture
def path(api: ApiClient, draft: dict[str, Any]) -> str:
    """Of a running one."""
    created = api.post("/v1/campaigns", draft)
    assert created.status == 201
    assert api.post(f"/v1/campaigns/{created.json['id']}/start").status == 200
    return f"/v1/campaigns/{created.json['id']}"


def actions(connection: sa.Connection) -> list[str]:
    connection.rollback()
    return list(connection.scalars(sa.select(audit_log.c.action).order_by(audit_log.c.id)))


def test_evergreen_campaign_starts_without_leads(api: ApiClient, path: str) -> None:
    campaign = api.get(path).json
    assert (campaign["status"], campaign["evergreen"], campaign["intake"]) == ("running", True, {"every": "1 day"})
    assert campaign["next_intake_at"] is not None


def test_leads_are_added_by_id_and_each_bad_entry_is_named(
    api: ApiClient, connection: sa.Connection, path: str
) -> None:
    batch_id = make_batch(connection, ["a@example.com", "nowhere"])
    query = sa.select(leads.c.id).where(leads.c.batch_id == batch_id).order_by(leads.c.email)
    good, without_address = map(str, connection.scalars(query))
    connection.commit()
    added = api.post(f"{path}/leads", {"lead_ids": ["x", good, NOBODY, without_address, 7]})
    assert (added.status, added.json["leads_added"], added.json["emails_scheduled"]) == (200, 1, 1)
    assert [(each["row"], each["outcome"], each["reason"]) for each in added.json["leads"]] == [
        (1, "added", None),
        (3, "not_added", "invalid_address"),
    ]
    assert [(error["row"], error["field"]) for error in added.json["errors"]] == [
        (0, "lead_ids"),
        (2, "lead_ids"),
        (4, "lead_ids"),
    ]
    assert api.get(f"{path}/left-out-leads").json["items"][0]["lead_id"] == without_address
    assert actions(connection)[-1] == "campaign.leads_add"


def test_leads_are_added_by_address_and_stored_if_they_are_new(
    api: ApiClient, connection: sa.Connection, path: str
) -> None:
    make_batch(connection, ["old@example.com"])
    connection.commit()
    given = [
        {"email": "new@example.com", "first_name": "Ann", "tags": ["vip"], "custom_fields": {"plan": "Pro"}},
        {"email": "OLD@example.com", "first_name": "Not"},
        {"email": "nowhere"},
        {"email": "b@example.com", "time_zone": "Mars/Base", "tags": "x"},
        {"email": "c@example.com", "phone": 5},
        "d@example.com",
        {"first_name": "Eve"},
        {"email": "NEW@example.com"},
        {"email": "f@example.com", "custom_fields": {"first_name": "F"}},
    ]
    added = api.post(f"{path}/leads", {"leads": given})
    assert (added.status, added.json["leads_added"]) == (200, 2)
    assert [(each["row"], each["outcome"], each["reason"]) for each in added.json["leads"]] == [
        (0, "added", None),
        (1, "added", None),
        (7, "not_added", "duplicate_address"),
    ]
    wrong = [(error["row"], error["field"]) for error in added.json["errors"]]
    assert sorted(wrong) == [
        (2, "email"),
        (3, "tags"),
        (4, "phone"),
        (5, "leads"),
        (6, "email"),
        (8, "custom_fields"),
    ]
    stored = api.get("/v1/leads", email="new@example.com").json["items"][0]
    assert (stored["first_name"], stored["tags"], stored["custom_fields"]) == ("Ann", ["vip"], {"plan": "Pro"})
    assert len(api.get("/v1/leads").json["items"]) == 2
    again = api.post(f"{path}/leads", {"leads": given[:2]})
    assert [each["outcome"] for each in again.json["leads"]] == ["already_there", "already_there"]


def test_end_and_intake_of_a_campaign_under_way_can_be_changed(
    api: ApiClient, connection: sa.Connection, path: str
) -> None:
    before = api.get(path).json["next_intake_at"]
    changed = api.patch(path, {"intake": {"every": "6 hours"}, "end_at": "2040-01-01T00:00:00Z"})
    assert (changed.status, changed.json["intake"]) == (200, {"every": "6 hours"})
    assert changed.json["next_intake_at"] < before
    detail = connection.execute(sa.select(audit_log.c.detail).order_by(audit_log.c.id.desc()).limit(1)).scalar_one()
    assert detail == {
        "fields": ["end_at", "intake"],
        "intake": {"before": {"every": "1 day"}, "after": {"every": "6 hours"}},
        "end_at": {"before": None, "after": "2040-01-01T00:00:00+00:00"},
    }
    stopped = api.patch(path, {"intake": None, "end_at": None, "name": "Stopped"})
    assert [stopped.json[name] for name in ("intake", "next_intake_at", "end_at")] == [None, None, None]


@pytest.mark.parametrize("change", [{"end_at": "2040-01-01T00:00:00Z"}, {"intake": {"every": "1 day"}}])
def test_end_and_intake_stay_once_the_intake_is_over(
    api: ApiClient, connection: sa.Connection, path: str, change: Any
) -> None:
    connection.execute(sa.update(campaigns).values(end_at=sa.func.now()))
    connection.commit()
    refused = api.patch(path, change)
    assert (refused.status, refused.json["current_status"]) == (409, "running")
    assert "takes in no leads" in refused.json["detail"]
    assert api.patch(path, {"evergreen": False}).status == 409


def test_leads_that_come_in_after_an_edit_get_its_revision_and_one_that_is_wrong_is_named(
    api: ApiClient, path: str
) -> None:
    template = f"/v1/email-templates/{api.get(path).json['email_template_id']}"
    assert api.post(f"{path}/leads", {"leads": [{"email": "a@example.com"}]}).json["revision"] == 1
    assert api.patch(template, {"subject": "Edited"}).status == 200
    added = api.post(f"{path}/leads", {"leads": [{"email": "b@example.com"}]}).json
    assert (added["revision"], added["workflow_errors"], api.get(path).json["revision"]) == (2, [], 2)
    stats = api.get(f"{path}/stats").json
    assert [(each["revision"], each["steps"][0]["by_status"]["pending"]) for each in stats["by_revision"]] == [
        (1, 1),
        (2, 1),
    ]
    assert sorted(each["revision"] for each in api.get(f"{path}/scheduled-emails").json["items"]) == [1, 2]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "body"),
        ({"lead_ids": [], "leads": []}, "body"),
        ({"lead_ids": NOBODY}, "lead_ids"),
        ({"lead_ids": ["x"] * 10_001}, "lead_ids"),
        ({"leads": [{}] * 1_001}, "leads"),
    ],
)
def test_request_that_is_wrong_as_a_whole_is_refused(api: ApiClient, path: str, body: Any, field: str) -> None:
    refused = api.post(f"{path}/leads", body)
    assert (refused.status, refused.fields) == (422, [field])


def test_nothing_is_stored_for_a_campaign_that_takes_in_nobody(
    api: ApiClient, connection: sa.Connection, path: str
) -> None:
    finished = api.post(f"{path}/finish")
    assert (finished.status, finished.json) == (200, {"status": "completed"})
    assert "campaign.finish" in actions(connection)
    refused = api.post(f"{path}/leads", {"leads": [{"email": "a@example.com"}]})
    assert (refused.status, refused.json["current_status"]) == (409, "completed")
    assert api.get("/v1/leads").json["items"] == []
    assert api.post(f"{path}/finish").status == 409
    for unknown in (f"/v1/campaigns/{NOBODY}/leads", f"/v1/campaigns/{NOBODY}/finish"):
        assert api.post(unknown, {"lead_ids": []} if "leads" in unknown else None).status == 404


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"evergreen": False}, ["intake"]),
        ({"evergreen": False, "end_at": "2040-01-01T00:00:00Z"}, ["end_at", "intake"]),
        ({"intake": {"every": "0 days"}}, ["intake.every"]),
        ({"intake": {"every": "sometimes"}}, ["intake.every"]),
        ({"intake": {}}, ["intake.every"]),
        ({"end_at": "soon"}, ["end_at"]),
        ({"evergreen": "yes"}, ["evergreen"]),
    ],
)
def test_wrong_intake_is_refused_by_field(api: ApiClient, draft: dict[str, Any], changes: Any, fields: Any) -> None:
    refused = api.post("/v1/campaigns", draft | changes)
    assert (refused.status, refused.fields) == (422, fields)
    created = api.post("/v1/campaigns", draft).json
    assert api.patch(f"/v1/campaigns/{created['id']}", changes).fields == fields


def test_import_for_a_campaign_gives_it_the_new_leads_with_the_next_tick(
    api: ApiClient, connection: sa.Connection, path: str, resources: Resources
) -> None:
    campaign_id = path.rpartition("/")[2]
    imported = post(api, "Email,Name,Company\na@example.com,Ann Lee,Acme\nnowhere,,\n", campaign_id=campaign_id)
    assert (imported.status, imported.json["successful_imports"]) == (201, 1)
    # The times of the intake itself are not changed by it.
    before = api.get(path).json["next_intake_at"]
    send_due_emails(resources, 30)
    campaign = api.get(path).json
    assert (campaign["total_leads_targeted"], campaign["emails_sent_count"]) == (1, 1)
    assert (campaign["batch_ids"], campaign["next_intake_at"]) == ([imported.json["id"]], before)
    assert api.delete(f"/v1/lead-batches/{imported.json['id']}").status == 409


def test_leads_of_an_import_that_are_there_already_come_in_once(
    api: ApiClient, connection: sa.Connection, path: str, resources: Resources
) -> None:
    campaign_id = path.rpartition("/")[2]
    names = {"first_name": "Ann", "company_name": "Acme"}
    api.post("/v1/leads", {"email": "known@example.com", **names})
    api.post(f"{path}/leads", {"leads": [{"email": "there@example.com", **names}]})
    addresses = ("new", "KNOWN", "there", "new")
    file = "\n".join(["Email,First Name,Company", *(f"{each}@example.com,Bob,Other" for each in addresses)])
    for _ in range(2):
        assert post(api, file, campaign_id=campaign_id).status == 201
        send_due_emails(resources, 30)
    assert post(api, "Email\nthere@example.com\nother@example.com\n").status == 201
    api.post(f"{path}/finish")
    send_due_emails(resources, 30)

    campaign = api.get(path).json
    assert (campaign["total_leads_targeted"], campaign["emails_sent_count"]) == (3, 3)
    assert (campaign["lead_ids_count"], campaign["status"]) == (1, "completed")
    (known,) = api.get("/v1/leads", email="known@example.com").json["items"]
    assert (known["first_name"], known["batch_id"]) == ("Ann", None)


def test_import_for_a_campaign_that_takes_in_nobody_is_refused(
    api: ApiClient, connection: sa.Connection, path: str
) -> None:
    api.post(f"{path}/finish")
    for campaign_id, status in ((path.rpartition("/")[2], 409), (NOBODY, 404)):
        refused = post(api, "Email\na@example.com\n", campaign_id=campaign_id)
        assert refused.status == status
    assert api.get("/v1/leads").json["items"] == api.get("/v1/lead-batches").json["items"] == []


def test_editor_adds_nobody_to_a_campaign_by_an_import(clients: dict[str, ApiClient], path: str) -> None:
    """As by a request."""
    editor, campaign_id = clients["editor"], path.rpartition("/")[2]
    upload = {"name": "Fair", "campaign_id": campaign_id}
    for refused in (
        editor.post(f"{path}/leads", {"leads": [{"email": "a@example.com"}]}),
        post(editor, "Email\na@example.com\n", campaign_id=campaign_id),
        editor.post("/v1/lead-batches/uploads", upload),
    ):
        assert (refused.status, refused.json["required_role"]) == (403, "sender")
    assert post(editor, "Email\na@example.com\n").status == 201
    assert post(clients["sender"], "Email\nb@example.com\n", campaign_id=campaign_id).status == 201


def test_editor_changes_the_intake_of_a_draft_only(
    clients: dict[str, ApiClient], draft: dict[str, Any], path: str
) -> None:
    editor, changes = clients["editor"], {"intake": {"every": "1 minute"}}
    created = editor.post("/v1/campaigns", draft).json["id"]
    assert editor.patch(f"/v1/campaigns/{created}", changes).status == 200
    assert editor.patch(path, {"name": "Other"}).status == 200
    for each in (changes, {"end_at": None}):
        refused = editor.patch(path, each)
        assert (refused.status, refused.json["required_role"]) == (403, "sender")
    assert clients["sender"].patch(path, changes).json["intake"] == changes["intake"]


def test_editor_who_changes_the_intake_while_the_campaign_is_being_started_is_refused(
    clients: dict[str, ApiClient], engine: sa.Engine, connection: sa.Connection, path: str
) -> None:
    running = connection.execute(sa.select(campaigns.c.status, campaigns.c.actual_started_at)).one()._asdict()
    connection.execute(sa.update(campaigns).values(status="draft", actual_started_at=None))
    connection.commit()
    with ThreadPoolExecutor(1) as threads:
        connection.execute(sa.update(campaigns).values(running))
        changing = threads.submit(clients["editor"].patch, path, {"intake": {"every": "1 minute"}})
        wait_for(lambda: waiting_for_locks(engine) == 1, "a change that waits for the start")
        connection.commit()
        refused = changing.result()
    assert (refused.status, refused.json["required_role"]) == (403, "sender")


def test_editor_who_saves_a_draft_that_was_started_hears_that_it_is_running(
    clients: dict[str, ApiClient], draft: dict[str, Any], path: str
) -> None:
    """Its role is not what is in the way."""
    with_leads: dict[str, Any] = {"intake": None, "lead_ids": []}
    for changes in (draft, with_leads):
        refused = clients["editor"].patch(path, changes)
        assert (refused.status, refused.json["current_status"]) == (409, "running")
