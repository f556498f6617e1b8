"""Campaigns through the API, as drafts and as records."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
import sqlalchemy as sa

from campaign_fields import Campaign, CampaignChanges, NewCampaign
from sendledger.core.tables import audit_log, campaigns, email_templates, leads, workflow_steps
from sendledger.core.vocabulary import STARTABLE_STATUSES, CampaignStatus
from testbed.campaigns import NO_DELAY, make_batch, make_campaign, make_template, make_workflow
from tests.functions.campaign_api.api_client import ApiClient

UNKNOWN = "123e4567-e89b-12d3-a456-426614174000"
SOON = "2090-01-31T09:00:00+02:00"
START: dict[str, Any] = {"start_type": "scheduled", "scheduled_start_at": sa.func.now()}


@pytest.fixture
def things(connection: sa.Connection) -> dict[str, Any]:
    """Ids of what a campaign can refer to."""
    batch_id = make_batch(connection, ["a@example.com", "b@example.com"])
    found = {
        "batch": batch_id,
        "template": make_template(connection),
        "workflow": make_workflow(connection, [NO_DELAY]),
    }
    lead_ids = connection.scalars(sa.select(leads.c.id)).all()
    connection.commit()
    return {name: str(id_) for name, id_ in found.items()} | {"leads": [str(id_) for id_ in lead_ids]}


@pytest.fixture
def draft(api: ApiClient, things: dict[str, Any]) -> dict[str, Any]:
    body = {"name": "Spring", "batch_ids": [things["batch"]], "email_template_id": things["template"]}
    created = api.post("/v1/campaigns", body)
    assert created.status == 201, created.body
    campaign: dict[str, Any] = created.json
    return campaign


def test_every_field_that_a_client_sets_can_be_changed_and_read() -> None:
    fields = NewCampaign.model_fields.keys()
    assert CampaignChanges.model_fields.keys() == fields
    assert fields - {"lead_ids"} <= Campaign.model_fields.keys() & campaigns.c.keys()


def test_new_campaign_is_a_draft(api: ApiClient, draft: dict[str, Any], things: dict[str, Any]) -> None:
    expected = {
        "status": "draft",
        "campaign_type": "outreach",
        "batch_ids": [things["batch"]],
        "lead_ids_count": 0,
        "email_template_id": things["template"],
        "workflow_id": None,
        "use_workflow": False,
        "start_type": "manual",
        "emails_scheduled_count": 0,
        "leads_left_out": {},
        "background_work": [],
    }
    assert {name: draft[name] for name in expected} == expected
    assert api.get(f"/v1/campaigns/{draft['id']}").json == draft


def test_campaign_of_a_workflow_and_chosen_leads(api: ApiClient, things: dict[str, Any]) -> None:
    body = {
        "name": "Chosen",
        "lead_ids": things["leads"] * 2,
        "workflow_id": things["workflow"],
        "start_type": "scheduled",
        "scheduled_start_at": SOON,
        "from_address": "Ann <ann@example.com>",
        "reply_to_address": "bob@example.com",
    }
    created = api.post("/v1/campaigns", body)
    assert created.status == 201
    assert created.json["use_workflow"] is True
    assert created.json["lead_ids_count"] == 2
    assert created.json["scheduled_start_at"] == "2090-01-31T07:00:00Z"
    assert created.json["from_address"] == "Ann <ann@example.com>"


def test_other_types_are_stored_without_leads_and_content(api: ApiClient) -> None:
    body = {
        "name": "Find leads",
        "campaign_type": "lead_generation",
    }
    created = api.post("/v1/campaigns", body)
    assert created.status == 201
    assert {name: created.json[name] for name in body} == body


WITHOUT_EFFECT = {
    "lead_sources": ["apollo"],
    "max_results_per_run": 100,
    "is_recurring": True,
    "recurring_interval": "weekly",
    "outreach_delay_days": 2,
    "leads_per_day": 7,
    "schedule_type": "daily",
    "schedule_time": "09:00",
}


def test_settings_of_the_old_application_are_shown_and_cannot_be_written(
    api: ApiClient, connection: sa.Connection, draft: dict[str, Any]
) -> None:
    for name, value in (WITHOUT_EFFECT | {"next_run_at": SOON}).items():
        created = api.post("/v1/campaigns", {"name": "Old", "campaign_type": "lead_generation", name: value})
        changed = api.patch(f"/v1/campaigns/{draft['id']}", {name: value})
        assert (created.status, created.fields, changed.status, changed.fields) == (422, [name], 422, [name])
    connection.execute(sa.update(campaigns).where(campaigns.c.id == draft["id"]).values(WITHOUT_EFFECT))
    connection.commit()
    shown = api.get(f"/v1/campaigns/{draft['id']}").json
    assert {name: shown[name] for name in WITHOUT_EFFECT} == WITHOUT_EFFECT


# What is changed in a body that is right, and the fields that the answer names. BATCH and the like become ids.
BAD_BODIES: dict[str, tuple[dict[str, object], list[str]]] = {
    "no name": ({"name": None}, ["name"]),
    "name of the wrong type": ({"name": ["x"]}, ["name"]),
    "extra field": ({"status": "running"}, ["status"]),
    "unknown type": ({"campaign_type": "spam"}, ["campaign_type"]),
    "type of the old application": ({"campaign_type": "automated"}, ["campaign_type"]),
    "template and workflow": ({"workflow_id": "WORKFLOW"}, ["email_template_id", "workflow_id"]),
    "unknown batch": ({"batch_ids": ["BATCH", UNKNOWN]}, ["batch_ids.1"]),
    "unknown lead": ({"lead_ids": [UNKNOWN]}, ["lead_ids.0"]),
    "unknown template": ({"email_template_id": UNKNOWN}, ["email_template_id"]),
    "unknown workflow": ({"email_template_id": None, "workflow_id": UNKNOWN}, ["workflow_id"]),
    "batch is no id": ({"batch_ids": ["x"]}, ["batch_ids.0"]),
    "batch is no list": ({"batch_ids": "BATCH"}, ["batch_ids"]),
    "scheduled without a time": ({"start_type": "scheduled"}, ["scheduled_start_at"]),
    "a time without being scheduled": ({"scheduled_start_at": SOON}, ["scheduled_start_at"]),
    "time without offset": (
        {"start_type": "scheduled", "scheduled_start_at": "2090-01-31T09:00:00"},
        ["scheduled_start_at"],
    ),
    "time as a number": ({"start_type": "scheduled", "scheduled_start_at": 3789500400}, ["scheduled_start_at"]),
    "time out of range": (
        {"start_type": "scheduled", "scheduled_start_at": "0001-01-01T00:00:00+14:00"},
        ["scheduled_start_at"],
    ),
    "two addresses": ({"from_address": "a@example.com, b@example.com"}, ["from_address"]),
    "header in an address": ({"from_address": "A\r\nBcc: b@example.com <a@example.com>"}, ["from_address"]),
    "NUL": ({"description": "a\0b"}, ["description"]),
    "several": ({"name": "", "track_opens": 1}, ["name", "track_opens"]),
}


@pytest.mark.parametrize(("changes", "fields"), BAD_BODIES.values(), ids=BAD_BODIES.keys())
def test_bad_campaign_is_refused_naming_the_field(
    api: ApiClient, things: dict[str, Any], draft: dict[str, Any], changes: dict[str, object], fields: list[str]
) -> None:
    named = {"BATCH": things["batch"], "WORKFLOW": things["workflow"]}

    def with_ids(value: object) -> object:
        return [with_ids(item) for item in value] if isinstance(value, list) else named.get(str(value), value)

    changes = {name: with_ids(value) for name, value in changes.items()}
    body = {"name": "Bad", "batch_ids": [things["batch"]], "email_template_id": things["template"]}
    created = api.post("/v1/campaigns", body | changes)
    changed = api.patch(f"/v1/campaigns/{draft['id']}", changes)
    assert (created.status, created.fields) == (changed.status, changed.fields) == (422, fields)
    assert api.get(f"/v1/campaigns/{draft['id']}").json == draft
    assert len(api.get("/v1/campaigns").json["items"]) == 1


def test_missing_fields_are_named(api: ApiClient) -> None:
    answer = api.post("/v1/campaigns", {})
    assert (answer.status, answer.fields) == (422, ["name"])


@pytest.fixture
def empty(api: ApiClient) -> str:
    """The path of a draft with a name only."""
    created = api.post("/v1/campaigns", {"name": "Spring"})
    assert created.status == 201, created.body
    return f"/v1/campaigns/{created.json['id']}"


LEADS_OR_CONTENT = ["email_template_id", "workflow_id", "batch_ids", "segment_ids", "lead_ids"]


@pytest.mark.parametrize("start", [{}, {"start_type": "scheduled", "scheduled_start_at": SOON}])
def test_draft_is_filled_step_by_step_and_refused_at_a_start_until_it_is_whole(
    api: ApiClient, things: dict[str, Any], empty: str, start: dict[str, str]
) -> None:
    changes: list[dict[str, Any]] = [start, {"workflow_id": things["workflow"]}, {"lead_ids": things["leads"][:1]}]
    for change, needed in zip(changes, (LEADS_OR_CONTENT, LEADS_OR_CONTENT[2:]), strict=False):
        assert api.patch(empty, change).status == 200
        refused = api.post(f"{empty}/start")
        assert (refused.status, refused.fields) == (422, needed)
        assert all(field in refused.json["detail"] for field in needed)
        assert api.get(empty).json["status"] == "draft"
    assert api.patch(empty, changes[-1]).json["lead_ids_count"] == 1
    started = api.post(f"{empty}/start")
    assert (started.status, started.json["status"]) == (200, "scheduled" if start else "running")


def test_draft_can_lose_its_content_and_its_leads(api: ApiClient, draft: dict[str, Any]) -> None:
    changed = api.patch(f"/v1/campaigns/{draft['id']}", {"email_template_id": None, "batch_ids": []})
    assert (changed.status, changed.json["email_template_id"], changed.json["batch_ids"]) == (200, None, [])


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"email_template_id": None}, LEADS_OR_CONTENT[:2]),
        ({"batch_ids": []}, LEADS_OR_CONTENT[2:]),
        ({"email_template_id": None, "batch_ids": [], "lead_ids": []}, LEADS_OR_CONTENT),
    ],
)
def test_scheduled_campaign_keeps_its_content_and_its_leads(
    api: ApiClient, connection: sa.Connection, change: dict[str, Any], fields: list[str]
) -> None:
    path = f"/v1/campaigns/{make_campaign(connection, 1, status='scheduled', **START)}"
    before = api.get(path).json
    refused = api.patch(path, change)
    assert (refused.status, refused.fields) == (422, fields)
    assert api.get(path).json == before
    assert api.patch(path, {"evergreen": True, "batch_ids": []}).status == 200


def test_content_that_cannot_be_sent_is_refused_when_its_start_is_scheduled(
    api: ApiClient, connection: sa.Connection
) -> None:
    template_id = make_template(connection, body_text="{{ first_name")
    later = {"start_type": "scheduled", "scheduled_start_at": SOON}
    path = f"/v1/campaigns/{make_campaign(connection, 1, email_template_id=template_id)}"
    assert api.patch(path, later).status == 200
    refused = api.post(f"{path}/start")
    assert (refused.status, refused.fields) == (422, ["steps.1.body_text"])
    assert api.get(path).json["status"] == "draft"


@pytest.mark.parametrize(
    ("content", "fields"),
    [({"body_text": "{{ first_name"}, ["steps.1.body_text"]), ({"body_text": "{{ pet }}"}, [])],
)
def test_change_of_a_scheduled_campaign_is_refused_as_its_start_would_be(
    api: ApiClient, connection: sa.Connection, content: dict[str, str], fields: list[str]
) -> None:
    template_id = make_template(connection, **content)
    path = f"/v1/campaigns/{make_campaign(connection, 1, status='scheduled', **START)}"
    before = api.get(path).json
    refused = api.patch(path, {"email_template_id": str(template_id)})
    assert (refused.status, refused.fields) == (422, fields), refused.body
    if not fields:
        assert [each["detail"]["variable"] for each in refused.json["preflight_errors"]] == ["pet"]
    assert api.get(path).json == before


def test_change_of_a_scheduled_campaign_keeps_what_its_steps_depend_on(
    api: ApiClient, connection: sa.Connection
) -> None:
    workflow_id = make_workflow(connection, [NO_DELAY, NO_DELAY])
    conditional = sa.update(workflow_steps).where(workflow_steps.c.step_number == 2)
    connection.execute(conditional.values(only_if_event="opened", only_if_step=1))
    content: dict[str, Any] = {"email_template_id": None, "workflow_id": workflow_id, "track_opens": True}
    path = f"/v1/campaigns/{make_campaign(connection, 1, status='scheduled', **content, **START)}"
    for change in ({"track_opens": False}, {"campaign_type": "lead_generation"}):
        refused = api.patch(path, change)
        assert (refused.status, refused.fields) == (422, list(change)), refused.body
    assert api.patch(path, {"track_opens": True}).status == 200


def test_start_of_a_campaign_that_became_unsendable_can_be_put_off(api: ApiClient, connection: sa.Connection) -> None:
    campaign_id = make_campaign(connection, 1, status="scheduled", **START)
    connection.execute(sa.update(email_templates).values(body_text="{{ pet }}"))
    connection.commit()
    path = f"/v1/campaigns/{campaign_id}"
    put_off = {"name": "Later", "start_type": "scheduled", "scheduled_start_at": SOON}
    assert api.patch(path, put_off).json["scheduled_start_at"] == "2090-01-31T07:00:00Z"
    assert api.patch(path, {"reply_to_address": "a@example.com"}).status == 422
    assert api.post(f"{path}/unschedule").status == 200
    assert api.patch(path, {"reply_to_address": "a@example.com"}).status == 200


def test_draft_of_an_adopted_database_whose_parts_do_not_fit_can_be_changed_in_its_others(
    api: ApiClient, connection: sa.Connection, things: dict[str, Any]
) -> None:
    campaign_id = make_campaign(connection, 1, status="draft", **{**START, "start_type": "manual"})
    contents = {"workflow_id": uuid.UUID(things["workflow"]), "email_template_id": uuid.UUID(things["template"])}
    connection.execute(sa.update(campaigns).where(campaigns.c.id == campaign_id).values(contents))
    connection.commit()
    path = f"/v1/campaigns/{campaign_id}"
    assert api.patch(path, {"reply_to_address": "a@example.com"}).status == 200
    for change in ({"email_template_id": things["template"]}, {"scheduled_start_at": SOON}):
        refused = api.patch(path, change)
        assert (refused.status, refused.fields) == (422, list(change))
    assert api.patch(path, {"start_type": "scheduled", "email_template_id": None}).status == 200


def test_draft_without_content_and_leads_works_everywhere(api: ApiClient, empty: str) -> None:
    id_ = empty.rpartition("/")[2]
    preflight = api.get(f"{empty}/preflight").json
    found = {error["check"]: error["detail"].get("errors", []) for error in preflight["errors"]}
    assert [error["field"] for error in found["content"]] == LEADS_OR_CONTENT[:2]
    assert [error["field"] for error in found["leads"]] == LEADS_OR_CONTENT[2:]
    assert [preflight["facts"][name] for name in ("leads", "emails", "steps", "first_send_at")] == [0, 0, 0, None]
    plan = api.get(f"{empty}/plan").json
    assert (plan["days"], plan["finishes_at"], plan["reason"]) == ([], None, "no_content")
    diagnosis = api.get(f"{empty}/diagnose").json
    assert (diagnosis["cause"], diagnosis["detail"]["missing"]) == (
        "campaign_draft",
        [*LEADS_OR_CONTENT[2:], *LEADS_OR_CONTENT[:2]],
    )
    assert "still needs leads and content" in diagnosis["message"]
    for path in ("stats", "timeline", "scheduled-emails", "left-out-leads"):
        assert api.get(f"{empty}/{path}").status == 200
    for query in ({"status": "draft"}, {"needs_attention": "false"}, {"type": "outreach"}, {"ids": id_}):
        assert [each["id"] for each in api.get("/v1/campaigns", **query).json["items"]] == [id_]
    assert api.get("/v1/campaign-progress", ids=id_).status == 200
    copy = api.post(f"{empty}/duplicate", {}).json
    assert (copy["name"], copy["workflow_id"], copy["batch_ids"]) == ("Copy of Spring", None, [])
    assert api.delete(empty).status == 204


def test_draft_can_change_from_a_template_to_a_workflow(
    api: ApiClient, draft: dict[str, Any], things: dict[str, Any]
) -> None:
    changes = {"email_template_id": None, "workflow_id": things["workflow"], "lead_ids": things["leads"][:1]}
    changed = api.patch(f"/v1/campaigns/{draft['id']}", changes)
    assert changed.status == 200
    expected = {"use_workflow": True, "workflow_id": things["workflow"], "email_template_id": None, "lead_ids_count": 1}
    assert changed.json == draft | expected | {"updated_at": changed.json["updated_at"]}


@pytest.mark.parametrize("status", CampaignStatus)
def test_name_can_always_be_changed_the_rest_only_before_the_start(
    api: ApiClient, connection: sa.Connection, status: str
) -> None:
    path = f"/v1/campaigns/{make_campaign(connection, 1, status=status, **START)}"
    assert api.patch(path, {"name": "New", "description": "Newer"}).json["name"] == "New"
    answer = api.patch(path, {"reply_to_address": "a@example.com"})
    if status in STARTABLE_STATUSES:
        assert answer.json["reply_to_address"] == "a@example.com"
    else:
        assert (answer.status, answer.json["current_status"]) == (409, status)


def test_scheduled_campaign_keeps_a_time_to_start(api: ApiClient, connection: sa.Connection) -> None:
    campaign_id = make_campaign(connection, 1, status="scheduled", **START)
    answer = api.patch(f"/v1/campaigns/{campaign_id}", {"start_type": "manual", "scheduled_start_at": None})
    assert answer.status == 409
    moved = api.patch(f"/v1/campaigns/{campaign_id}", {"scheduled_start_at": SOON})
    assert moved.json["scheduled_start_at"] == "2090-01-31T07:00:00Z"


@pytest.mark.parametrize("status", CampaignStatus)
def test_campaign_that_is_under_way_is_not_deleted(
    api: ApiClient, engine: sa.Engine, connection: sa.Connection, status: str
) -> None:
    path = f"/v1/campaigns/{make_campaign(connection, 1, status=status, **START)}"
    answer = api.delete(path)
    with engine.connect() as looking:
        audited = looking.execute(sa.select(audit_log.c.action, audit_log.c.detail)).all()
    if status in ("scheduled", "running", "paused", "active"):
        assert (answer.status, answer.json["current_status"]) == (409, status)
        assert audited == []
    else:
        assert answer.status == 204
        assert api.get(path).status == 404
        assert audited == [("campaign.delete", {"status": status})]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("PATCH", "", {"name": "x"}),
        ("PATCH", "", {"track_opens": True}),
        ("DELETE", "", None),
        ("POST", "/start", None),
        ("POST", "/pause", None),
        ("POST", "/resume", None),
        ("POST", "/cancel", None),
        ("GET", "/scheduled-emails", None),
        ("GET", "/stats", None),
    ],
)
def test_unknown_campaign_is_not_found(api: ApiClient, method: str, path: str, body: object) -> None:
    assert api.request(method, f"/v1/campaigns/{UNKNOWN}{path}", body=body).status == 404
    not_an_id = api.request(method, f"/v1/campaigns/7{path}", body=body)
    assert (not_an_id.status, not_an_id.fields) == (422, ["campaign_id"])


def test_list_is_filtered_by_status_and_type(api: ApiClient, connection: sa.Connection) -> None:
    wanted = make_campaign(connection, 0, status="paused")
    make_campaign(connection, 0, status="draft")
    make_campaign(connection, 0, status="paused", campaign_type="lead_generation")
    listed = api.get("/v1/campaigns", status="paused", type="outreach").json["items"]
    assert [item["id"] for item in listed] == [str(wanted)]


def test_rows_of_the_old_application_are_listed_last_and_shown(api: ApiClient, connection: sa.Connection) -> None:
    batch_id = make_batch(connection, [])
    make_campaign(
        connection,
        batch_ids=[],
        batch_id=batch_id,
        name="Old",
        status=None,
        campaign_type=None,
        created_at=None,
        updated_at=None,
    )
    make_campaign(connection, 0, name="Oldest", status="active", campaign_type="automated", created_at=None)
    make_campaign(connection, 0, name="New")
    pages, cursor = [], None
    for _ in range(3):
        page = api.request("GET", "/v1/campaigns", query={"limit": 1} | ({"cursor": cursor} if cursor else {})).json
        pages += page["items"]
        cursor = page["next_cursor"]
    assert cursor is None
    assert pages[0]["name"] == "New"
    old = {item["name"]: item for item in pages}["Old"]
    assert (old["status"], old["campaign_type"], old["batch_ids"]) == ("draft", "outreach", [str(batch_id)])


def test_pages_stay_stable_while_campaigns_are_added(api: ApiClient, connection: sa.Connection) -> None:
    names = [f"Campaign {number}" for number in range(6)]
    for name in names[:5]:
        make_campaign(connection, 0, name=name)
    first = api.get("/v1/campaigns", limit=2).json
    make_campaign(connection, 0, name=names[5])
    second = api.get("/v1/campaigns", limit=3, cursor=first["next_cursor"]).json
    assert [item["name"] for item in first["items"] + second["items"]] == names[4::-1]
    assert second["next_cursor"] is None


@pytest.mark.parametrize("status", ["running", "failed"])
def test_template_of_an_open_campaign_is_not_deleted(api: ApiClient, connection: sa.Connection, status: str) -> None:
    campaign_id = make_campaign(connection, 0, status=status)
    template_id = connection.scalar(sa.select(campaigns.c.email_template_id))
    connection.commit()
    refused = api.delete(f"/v1/email-templates/{template_id}")
    assert refused.status == 409
    assert refused.json["campaigns"] == [{"id": str(campaign_id), "name": "Campaign"}]
    connection.execute(sa.update(campaigns).values(status="completed"))
    connection.commit()
    assert api.delete(f"/v1/email-templates/{template_id}").status == 204


# Guardrails


def test_guardrails_are_the_deployments_until_the_campaign_has_its_own(api: ApiClient) -> None:
    campaign = api.post("/v1/campaigns", {"name": "C", "campaign_type": "lead_generation"}).json
    assert set(campaign["guardrails"].values()) == {None}
    own = {"max_bounce_rate": 0.1, "enabled": True}
    changed = api.patch(f"/v1/campaigns/{campaign['id']}", {"guardrails": own}).json
    assert {name: value for name, value in changed["guardrails"].items() if value is not None} == own


def test_guardrails_can_be_changed_while_the_campaign_runs(api: ApiClient, engine: sa.Engine) -> None:
    campaign = api.post("/v1/campaigns", {"name": "C", "campaign_type": "lead_generation"}).json
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE campaigns SET status = 'running'"))
    answer = api.patch(f"/v1/campaigns/{campaign['id']}", {"guardrails": {"enabled": False}})
    assert (answer.status, answer.json["guardrails"]["enabled"]) == (200, False)


@pytest.mark.parametrize(
    ("limits", "field"),
    [
        ({"max_bounce_rate": 0}, "guardrails.max_bounce_rate"),
        ({"max_complaint_rate": 5}, "guardrails.max_complaint_rate"),
        ({"min_emails": "50"}, "guardrails.min_emails"),
        ({"boredom": 1}, "guardrails.boredom"),
        (None, "guardrails"),
    ],
)
def test_guardrails_that_make_no_sense_are_refused(api: ApiClient, limits: object, field: str) -> None:
    campaign = api.post("/v1/campaigns", {"name": "C", "campaign_type": "lead_generation"}).json
    answer = api.patch(f"/v1/campaigns/{campaign['id']}", {"guardrails": limits})
    assert (answer.status, answer.fields) == (422, [field])
