"""Workflows through the API."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
import sqlalchemy as sa

from sendledger.core.tables import workflow_steps, workflows
from testbed.campaigns import make_campaign, make_template, make_workflow
from tests.functions.campaign_api.api_client import ApiClient

UNKNOWN = "123e4567-e89b-12d3-a456-426614174000"


@pytest.fixture
def template_id(connection: sa.Connection) -> str:
    created = make_template(connection)
    connection.commit()
    return str(created)


@pytest.fixture
def workflow(api: ApiClient, template_id: str) -> dict[str, Any]:
    steps = [
        {"step_number": 1, "email_template_id": template_id},
        {"step_number": 2, "email_template_id": template_id, "days_after_previous": 3},
        {"step_number": 3, "email_template_id": template_id, "delay": {"value": 90, "unit": "minutes"}},
    ]
    created: dict[str, Any] = api.post("/v1/workflows", {"name": "Three steps", "steps": steps}).json
    return created


def test_steps_are_shown_with_their_delays(api: ApiClient, workflow: dict[str, Any]) -> None:
    assert [step["step_number"] for step in workflow["steps"]] == [1, 2, 3]
    assert [step["delay"] for step in workflow["steps"]] == [
        {"value": 0, "unit": "days"},
        {"value": 3, "unit": "days"},
        {"value": 90, "unit": "minutes"},
    ]
    assert [step["days_after_previous"] for step in workflow["steps"]] == [0, 3, 0]
    assert workflow["steps_count"] == 3
    assert api.get(f"/v1/workflows/{workflow['id']}").json == workflow


def test_delay_is_stored_as_an_interval_and_its_whole_days(
    api: ApiClient, template_id: str, connection: sa.Connection
) -> None:
    step = {"step_number": 1, "email_template_id": template_id, "delay": {"value": 36, "unit": "hours"}}
    api.post("/v1/workflows", {"name": "One", "steps": [step]})
    stored = connection.execute(sa.select(workflow_steps.c.delay, workflow_steps.c.days_after_previous)).one()
    assert stored == (dt.timedelta(hours=36), 1)


def test_a_delay_in_business_days_is_stored_as_days_for_the_old_application(
    api: ApiClient, template_id: str, connection: sa.Connection
) -> None:
    step = {"step_number": 1, "email_template_id": template_id, "delay": {"value": 5, "unit": "business_days"}}
    created = api.post("/v1/workflows", {"name": "One", "steps": [step]}).json
    assert created["steps"][0]["delay"] == {"value": 5, "unit": "business_days"}
    own = workflow_steps.c
    assert connection.execute(sa.select(own.delay, own.days_after_previous, own.business_days)).one() == (None, 5, True)


def test_more_than_a_year_of_business_days_is_refused(api: ApiClient, template_id: str) -> None:
    step = {"step_number": 1, "email_template_id": template_id, "delay": {"value": 366, "unit": "business_days"}}
    refused = api.post("/v1/workflows", {"name": "One", "steps": [step]})
    assert (refused.status, refused.json["errors"][0]["field"]) == (422, "steps.0.delay")


def test_step_in_a_thread_is_kept_with_the_started_campaign(
    api: ApiClient, template_id: str, connection: sa.Connection
) -> None:
    steps = [step(email_template_id=template_id), step(email_template_id=template_id, step_number=2, in_thread=True)]
    created = api.post("/v1/workflows", {"name": "Thread", "steps": steps}).json
    assert [(each["in_thread"], each["quote"]) for each in created["steps"]] == [(False, False), (True, False)]
    campaign_id = make_campaign(connection, 1, workflow_id=created["id"])
    assert api.post(f"/v1/campaigns/{campaign_id}/start").status == 200
    kept = sa.text("SELECT in_thread, quote FROM campaign_steps ORDER BY step_number")
    assert connection.execute(kept).all() == [(False, False), (True, False)]
    facts = api.get(f"/v1/campaigns/{campaign_id}/preflight").json["facts"]
    assert facts["threads"] == [{"step_number": 2, "subject_of_step": 1, "quote": False}]


@pytest.mark.parametrize(
    ("event", "field"),
    [
        ("opened", "track_opens"),
        ("not_opened", "track_opens"),
        ("clicked", "track_clicks"),
        ("not_clicked", "track_clicks"),
        ("delivered", None),
    ],
)
def test_campaign_that_does_not_track_what_a_step_asks_about_does_not_start(
    api: ApiClient, template_id: str, connection: sa.Connection, event: str, field: str | None
) -> None:
    condition = {"event": event, "of_step": 1}
    steps = [step(email_template_id=template_id), step(email_template_id=template_id, step_number=2, only_if=condition)]
    created = api.post("/v1/workflows", {"name": "Condition", "steps": steps}).json
    assert [each["only_if"] for each in created["steps"]] == [None, condition]
    campaign_id = make_campaign(connection, 1, [], workflow_id=created["id"])
    started = api.post(f"/v1/campaigns/{campaign_id}/start")
    if field is not None:
        assert (started.status, started.fields) == (422, [field])
        assert "content" in [
            error["check"] for error in api.get(f"/v1/campaigns/{campaign_id}/preflight").json["errors"]
        ]
        assert api.patch(f"/v1/campaigns/{campaign_id}", {field: True}).status == 200
        started = api.post(f"/v1/campaigns/{campaign_id}/start")
    assert started.status == 200, started.body


def step(**changes: object) -> dict[str, object]:
    return {"step_number": 1, "email_template_id": "TEMPLATE", **changes}


BAD_STEPS: dict[str, tuple[object, list[str]]] = {
    "none": ([], ["steps"]),
    "not a list": ({}, ["steps"]),
    "null": (None, ["steps"]),
    "too many": ([step(step_number=number) for number in range(1, 52)], ["steps"]),
    "gap": ([step(), step(step_number=3)], ["steps"]),
    "twice": ([step(), step()], ["steps"]),
    "number in quotes": ([step(step_number="1")], ["steps.0.step_number"]),
    "unknown template": ([step(email_template_id=UNKNOWN)], ["steps.0.email_template_id"]),
    "template is no id": ([step(email_template_id="x")], ["steps.0.email_template_id"]),
    "no template": ([{"step_number": 1}], ["steps.0.email_template_id"]),
    "negative delay": ([step(delay={"value": -1, "unit": "days"})], ["steps.0.delay.value"]),
    "unknown unit": ([step(delay={"value": 1, "unit": "weeks"})], ["steps.0.delay.unit"]),
    "too long": ([step(delay={"value": 3651, "unit": "days"})], ["steps.0.delay"]),
    "both delays": ([step(days_after_previous=1, delay={"value": 1, "unit": "days"})], ["steps.0.delay"]),
    "huge number": ([step(days_after_previous=2**70)], ["steps.0.days_after_previous"]),
    "first step with a condition": ([step(only_if={"event": "opened", "of_step": 1})], ["steps.0.only_if"]),
    "condition of itself": (
        [step(), step(step_number=2, only_if={"event": "opened", "of_step": 2})],
        ["steps.1.only_if.of_step"],
    ),
    "condition of a later step": (
        [step(), step(step_number=2, only_if={"event": "opened", "of_step": 3}), step(step_number=3)],
        ["steps.1.only_if.of_step"],
    ),
    "unknown condition": (
        [step(), step(step_number=2, only_if={"event": "read", "of_step": 1})],
        ["steps.1.only_if.event"],
    ),
    "half a condition": ([step(), step(step_number=2, only_if={"event": "opened"})], ["steps.1.only_if.of_step"]),
    "first step in a thread": ([step(in_thread=True)], ["steps.0.in_thread"]),
    "quote outside of a thread": ([step(), step(step_number=2, quote=True)], ["steps.1.quote"]),
    "thread in words": ([step(), step(step_number=2, in_thread="yes")], ["steps.1.in_thread"]),
    "extra field": ([step(subject="Hi")], ["steps.0.subject"]),
}


@pytest.mark.parametrize(("steps", "fields"), BAD_STEPS.values(), ids=BAD_STEPS.keys())
def test_bad_steps_are_refused_naming_the_field(
    api: ApiClient, workflow: dict[str, Any], template_id: str, steps: Any, fields: list[str]
) -> None:
    for entry in steps if isinstance(steps, list) else []:
        if entry.get("email_template_id") == "TEMPLATE":
            entry["email_template_id"] = template_id
    created = api.post("/v1/workflows", {"name": "Bad", "steps": steps})
    changed = api.patch(f"/v1/workflows/{workflow['id']}", {"steps": steps})
    assert (created.status, created.fields) == (changed.status, changed.fields) == (422, fields)
    assert api.get(f"/v1/workflows/{workflow['id']}").json == workflow


def test_missing_and_extra_fields_are_named(api: ApiClient) -> None:
    answer = api.post("/v1/workflows", {"title": "x"})
    assert (answer.status, answer.fields) == (422, ["name", "steps", "title"])


def test_given_steps_replace_all_steps(api: ApiClient, workflow: dict[str, Any], template_id: str) -> None:
    steps = [{"step_number": 1, "email_template_id": template_id, "days_after_previous": 7}]
    changed = api.patch(f"/v1/workflows/{workflow['id']}", {"steps": steps})
    assert changed.status == 200
    assert changed.json["steps_count"] == len(changed.json["steps"]) == 1
    assert changed.json["name"] == workflow["name"]


def test_name_changes_without_touching_the_steps(api: ApiClient, workflow: dict[str, Any]) -> None:
    changed = api.patch(f"/v1/workflows/{workflow['id']}", {"name": "Renamed"}).json
    assert changed == workflow | {"name": "Renamed", "updated_at": changed["updated_at"]}


def test_inline_step_of_the_old_application_is_shown(api: ApiClient, connection: sa.Connection) -> None:
    workflow_id = connection.scalar(sa.insert(workflows).values(name="Old").returning(workflows.c.id))
    connection.execute(
        sa.insert(workflow_steps).values(
            workflow_id=workflow_id, step_number=1, days_after_previous=2, subject="Hi", body="Text"
        )
    )
    connection.commit()
    assert api.get(f"/v1/workflows/{workflow_id}").json["steps"] == [
        {
            "step_number": 1,
            "email_template_id": None,
            "variants": [],
            "keep_variant": True,
            "winner": None,
            "days_after_previous": 2,
            "delay": {"value": 2, "unit": "days"},
            "in_thread": False,
            "quote": False,
            "only_if": None,
            "subject": "Hi",
            "body": "Text",
        }
    ]


def test_list_shows_workflows_without_steps(api: ApiClient, workflow: dict[str, Any]) -> None:
    listed = api.get("/v1/workflows").json
    assert listed == {
        "items": [{name: value for name, value in workflow.items() if name != "steps"}],
        "next_cursor": None,
    }


@pytest.mark.parametrize(("method", "body"), [("GET", None), ("PATCH", {"name": "x"}), ("DELETE", None)])
def test_unknown_workflow_is_not_found(api: ApiClient, method: str, body: object) -> None:
    assert api.request(method, f"/v1/workflows/{UNKNOWN}", body=body).status == 404
    not_an_id = api.request(method, "/v1/workflows/7", body=body)
    assert (not_an_id.status, not_an_id.fields) == (422, ["workflow_id"])


def test_deleted_workflow_is_gone_and_its_template_free(
    api: ApiClient, workflow: dict[str, Any], template_id: str
) -> None:
    in_use = api.delete(f"/v1/email-templates/{template_id}")
    assert in_use.status == 409
    assert in_use.json["workflows"] == [{"id": workflow["id"], "name": "Three steps"}]
    assert api.delete(f"/v1/workflows/{workflow['id']}").status == 204
    assert api.get(f"/v1/workflows/{workflow['id']}").status == 404
    assert api.delete(f"/v1/email-templates/{template_id}").status == 204


@pytest.mark.parametrize(
    ("status", "expected"), [("draft", 409), ("failed", 409), ("running", 204), ("completed", 204)]
)
def test_workflow_is_needed_until_its_campaign_has_started(
    api: ApiClient, connection: sa.Connection, status: str, expected: int
) -> None:
    workflow_id = make_workflow(connection, [dt.timedelta(0)])
    campaign_id = make_campaign(connection, workflow_id=workflow_id, delays=[], status=status)
    answer = api.delete(f"/v1/workflows/{workflow_id}")
    assert answer.status == expected
    if expected == 409:
        assert answer.json["campaigns"] == [{"id": str(campaign_id), "name": "Campaign"}]
