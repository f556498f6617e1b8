"""Variants of steps through the API."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
import sqlalchemy as sa

from sendledger.campaigns import lifecycle
from sendledger.core.reader import Source
from sendledger.core.tables import campaigns
from sendledger.exports.export_rows import LEDGER_HEADER, ledger_rows
from sendledger.sending.tick import Resources, send_due_emails
from testbed.campaigns import NO_DELAY, make_batch, make_campaign, make_template, make_variants, make_workflow, rows_of
from tests.functions.campaign_api.api_client import ApiClient

UNKNOWN = "123e4567-e89b-12d3-a456-426614174000"


@pytest.fixture
def templates(connection: sa.Connection) -> list[str]:
    made = [str(make_template(connection, subject=letter, body_text=f"Text {letter}")) for letter in "ABC"]
    connection.commit()
    return made


@pytest.fixture
def campaign_id(engine: sa.Engine, connection: sa.Connection) -> uuid.UUID:
    """Running, to six leads, with two variants of weights 2 and 1."""
    workflow_id = make_workflow(connection, [NO_DELAY])
    make_variants(connection, workflow_id, (2, 1))
    id_ = make_campaign(connection, 6, workflow_id=workflow_id)
    lifecycle.start_campaign(engine, id_)
    return id_


def with_steps(api: ApiClient, *steps: dict[str, Any]) -> Any:
    numbered = [{"step_number": number, **step} for number, step in enumerate(steps, 1)]
    return api.post("/v1/workflows", {"name": "W", "steps": numbered})


def test_variants_of_a_step_are_stored_and_shown(api: ApiClient, templates: list[str]) -> None:
    variants: list[dict[str, Any]] = [
        {"email_template_id": templates[0], "weight": 3},
        {"email_template_id": templates[1]},
    ]
    made = with_steps(api, {"variants": variants, "keep_variant": False}, {"email_template_id": templates[2]}).json

    assert api.get(f"/v1/workflows/{made['id']}").json == made
    first, second = made["steps"]
    assert first["variants"] == [variants[0], {**variants[1], "weight": 1}]
    assert (first["email_template_id"], first["keep_variant"]) == (templates[0], False)
    assert second["variants"] == [{"email_template_id": templates[2], "weight": 1}]


WINNER = {"by": "replied", "test_share": 20, "after": {"value": 4, "unit": "hours"}}


def test_winner_of_a_step_is_stored_shown_and_decided(
    api: ApiClient, engine: sa.Engine, connection: sa.Connection, templates: list[str]
) -> None:
    variants = [{"email_template_id": id_} for id_ in templates[:2]]
    made = with_steps(api, {"variants": variants, "winner": WINNER}).json
    assert api.get(f"/v1/workflows/{made['id']}").json["steps"][0]["winner"] == WINNER
    campaign = make_campaign(connection, 10, workflow_id=uuid.UUID(made["id"]))
    lifecycle.start_campaign(engine, campaign)
    (waits,) = api.get(f"/v1/campaigns/{campaign}/stats").json["by_step"]
    path = f"/v1/campaigns/{campaign}/steps/1/winner"

    assert api.post(path, {"variant": 3}).status == 404
    assert api.post(path, {"variant": 9}).status == 422
    decided = api.post(path, {"variant": 2})

    assert (decided.status, decided.json["winner_variant"]) == (202, 2)
    assert api.post(path, {"variant": 1}).status == 409
    (step,) = api.get(f"/v1/campaigns/{campaign}/stats").json["by_step"]
    assert [variant["by_status"]["pending"] for variant in waits["variants"]] == [1, 1]
    assert (waits["winner"]["by"], waits["winner"]["test_share"], waits["winner"]["decided_at"]) == (
        "replied",
        20,
        None,
    )
    assert step["winner"]["variant"] == 2


@pytest.mark.parametrize(
    ("winner", "field"),
    [
        ({**WINNER, "test_share": 0}, "steps.0.winner.test_share"),
        ({**WINNER, "test_share": 100}, "steps.0.winner.test_share"),
        ({**WINNER, "by": "sent"}, "steps.0.winner.by"),
        ({**WINNER, "after": {"value": 0, "unit": "hours"}}, "steps.0.winner.after.value"),
        ({**WINNER, "after": {"value": 4000, "unit": "days"}}, "steps.0.winner.after.value"),
        ({"by": "replied", "test_share": 20}, "steps.0.winner.after"),
    ],
)
def test_wrong_winner_is_refused_by_field(
    api: ApiClient, templates: list[str], winner: dict[str, Any], field: str
) -> None:
    variants = [{"email_template_id": id_} for id_ in templates]
    refused = with_steps(api, {"variants": variants, "winner": winner})
    assert refused.status == 422
    assert [error["field"].removeprefix("body.") for error in refused.json["errors"]] == [field]


def test_winner_needs_two_variants(api: ApiClient, templates: list[str]) -> None:
    refused = with_steps(api, {"email_template_id": templates[0], "winner": WINNER})
    assert [error["field"] for error in refused.json["errors"]] == ["steps.0.winner"]


def test_workflow_can_be_written_back_as_it_was_read(api: ApiClient, templates: list[str]) -> None:
    variants = [{"email_template_id": id_, "weight": 1} for id_ in templates]
    made = with_steps(api, {"variants": variants}).json
    step = {name: made["steps"][0][name] for name in ("step_number", "email_template_id", "variants", "keep_variant")}

    changed = api.patch(f"/v1/workflows/{made['id']}", {"steps": [step]})

    assert changed.json["steps"] == made["steps"]


@pytest.mark.parametrize(
    ("step", "field", "message"),
    [
        ({}, "steps.0.email_template_id", "is needed, or variants"),
        ({"variants": []}, "steps.0.variants", ""),
        ({"variants": [{"email_template_id": "A"}] * 9}, "steps.0.variants", ""),
        ({"variants": [{"email_template_id": "A", "weight": 0}]}, "steps.0.variants.0.weight", ""),
        ({"variants": [{"email_template_id": "A", "weight": 101}]}, "steps.0.variants.0.weight", ""),
        ({"variants": [{"email_template_id": "A", "weight": 1.5}]}, "steps.0.variants.0.weight", ""),
        ({"variants": [{"weight": 1}]}, "steps.0.variants.0.email_template_id", ""),
        (
            {"variants": [{"email_template_id": "A"}, {"email_template_id": "A"}]},
            *("steps.0.variants.1.email_template_id", "is that of variant 1"),
        ),
        (
            {"variants": [{"email_template_id": "A"}, {"email_template_id": UNKNOWN}]},
            *("steps.0.variants.1.email_template_id", "there is no email template"),
        ),
        (
            {"email_template_id": "B", "variants": [{"email_template_id": "A"}, {"email_template_id": "B"}]},
            *("steps.0.email_template_id", "either email_template_id or variants"),
        ),
    ],
)
def test_wrong_variants_are_refused_by_field(
    api: ApiClient, templates: list[str], step: dict[str, Any], field: str, message: str
) -> None:
    ids = dict(zip("ABC", templates, strict=True))
    for part in [step, *step.get("variants", [])]:
        if "email_template_id" in part:
            part["email_template_id"] = ids.get(part["email_template_id"], part["email_template_id"])

    refused = with_steps(api, step)

    assert refused.status == 422
    assert [
        (error["field"].removeprefix("body."), message in error["message"]) for error in refused.json["errors"]
    ] == [(field, True)]


def test_variants_of_an_answer_that_differ_in_the_subject_only_are_refused(
    api: ApiClient, connection: sa.Connection, templates: list[str]
) -> None:
    same = [{"email_template_id": str(make_template(connection, subject=letter, body_text="Same"))} for letter in "AB"]
    connection.commit()

    refused = with_steps(api, {"email_template_id": templates[0]}, {"variants": same, "in_thread": True})
    assert refused.status == 422
    assert [error["field"] for error in refused.json["errors"]] == ["steps.1.variants.1.email_template_id"]
    assert with_steps(api, {"email_template_id": templates[0]}, {"variants": same}).status == 201


def test_template_of_a_variant_is_in_use(api: ApiClient, templates: list[str]) -> None:
    with_steps(api, {"variants": [{"email_template_id": id_} for id_ in templates[:2]]})

    assert api.delete(f"/v1/email-templates/{templates[1]}").status == 409
    assert api.delete(f"/v1/email-templates/{templates[2]}").status == 204


def test_preview_shows_the_variant_of_the_template_with_the_subject_of_its_thread(
    api: ApiClient, templates: list[str], connection: sa.Connection
) -> None:
    answers = [str(make_template(connection, subject="-", body_text=f"Answer {letter}")) for letter in "AB"]
    connection.commit()
    made = with_steps(
        api,
        {"variants": [{"email_template_id": id_} for id_ in templates[:2]]},
        {"variants": [{"email_template_id": id_} for id_ in answers], "in_thread": True, "quote": True},
    ).json
    body = {"workflow_id": made["id"], "step_number": 2, "lead": {"email": "ann@example.com", "company_name": "Acme"}}

    shown = api.post(f"/v1/email-templates/{answers[1]}/preview", body).json

    assert shown["subject"] == "Re: B"
    assert "Answer B" in shown["body_text"]
    assert "> Text B" in shown["body_text"]
    assert api.post(f"/v1/email-templates/{templates[2]}/preview", {**body, "step_number": 1}).status == 422


def test_preflight_renders_each_variant_for_every_lead(api: ApiClient, connection: sa.Connection) -> None:
    workflow_id = make_workflow(connection, [NO_DELAY])
    make_variants(connection, workflow_id, (1, 1))
    connection.execute(sa.text("UPDATE email_templates SET body_text = 'At {{ website }}' WHERE subject = 'B'"))
    draft = make_campaign(connection, 3, workflow_id=workflow_id)

    found = api.get(f"/v1/campaigns/{draft}/preflight").json

    assert found["facts"]["variants"] == [{"step_number": 1, "weights": [1, 1]}]
    (error,) = [error for error in found["errors"] if error["check"] == "templates"]
    assert error["message"].startswith("Step 1, variant 2 cannot be rendered for 3 leads")
    assert (error["detail"]["step_number"], error["detail"]["variant"]) == (1, 2)


def test_preflight_warns_of_weights_that_cost_a_lead_its_variant(api: ApiClient, connection: sa.Connection) -> None:
    workflow_id = make_workflow(connection, [NO_DELAY, NO_DELAY])
    make_variants(connection, workflow_id, (1, 1), 1)
    make_variants(connection, workflow_id, (3, 1), 2)
    draft = make_campaign(connection, 3, workflow_id=workflow_id)

    warned = [
        each for each in api.get(f"/v1/campaigns/{draft}/preflight").json["warnings"] if each["check"] == "variants"
    ]

    assert [each["detail"] for each in warned] == [{"step_number": 2, "of_step": 1}]


def test_statistics_count_each_variant(
    api: ApiClient, engine: sa.Engine, campaign_id: uuid.UUID, resources: Resources
) -> None:
    send_due_emails(resources, 60.0)
    with engine.begin() as changing:
        changing.execute(
            sa.text("""
                UPDATE emails m SET delivered_at = m.sent_at, clicked_at = CASE e.variant WHEN 2 THEN m.sent_at END
                FROM scheduled_emails e WHERE e.email_id = m.id
            """)
        )
        changing.execute(sa.update(campaigns).values(track_clicks=True))

    (step,) = api.get(f"/v1/campaigns/{campaign_id}/stats").json["by_step"]

    first, second = step["variants"]
    assert (first["variant"], first["weight"], first["by_status"]["sent"]) == (1, 2, 4)
    assert (second["variant"], second["weight"], second["by_status"]["sent"]) == (2, 1, 2)
    assert (first["funnel"]["delivered"], first["funnel"]["clicked"], first["rates"]["clicked"]) == (4, 0, 0.0)
    assert (second["funnel"]["clicked"], second["rates"]["clicked"], second["funnel"]["opened"]) == (2, 1.0, None)


def test_lists_timeline_and_export_say_the_variant(api: ApiClient, engine: sa.Engine, campaign_id: uuid.UUID) -> None:
    row = rows_of(engine, campaign_id)[0]

    listed = api.get(f"/v1/campaigns/{campaign_id}/scheduled-emails").json["items"]
    events = api.get(f"/v1/leads/{row['lead_id']}/timeline").json["items"]
    exported = [
        dict(zip(LEDGER_HEADER, line, strict=True))
        for page in ledger_rows(Source(engine, None), campaign_id)
        for line in page
    ]

    assert {item["id"]: item["variant"] for item in listed}[row["id"]] == row["variant"]
    assert [event["variant"] for event in events if event["event"] == "scheduled"] == [row["variant"]]
    assert {line["scheduled_email_id"]: line["variant"] for line in exported}[row["id"]] == row["variant"]


def test_email_that_is_added_gets_the_variant_of_its_template(
    api: ApiClient, engine: sa.Engine, connection: sa.Connection, campaign_id: uuid.UUID
) -> None:
    make_batch(connection, ["new@example.com", "other@example.com"])
    leads = connection.scalars(
        sa.text("SELECT id FROM leads WHERE email LIKE '%@example.com' ORDER BY created_at DESC")
    )
    new = str(leads.first())
    template = connection.scalar(sa.text("SELECT id FROM email_templates WHERE subject = 'B'"))
    connection.commit()
    body = {"lead_id": new, "email_template_id": str(template), "step_number": 1}

    added = api.post(f"/v1/campaigns/{campaign_id}/scheduled-emails", body)
    refused = api.post(f"/v1/campaigns/{campaign_id}/scheduled-emails", {**body, "email_template_id": UNKNOWN})

    assert (added.status, added.json["variant"]) == (201, 2)
    assert refused.status == 422


def test_variant_is_retired_once(api: ApiClient, campaign_id: uuid.UUID, connection: sa.Connection) -> None:
    path = f"/v1/campaigns/{campaign_id}/steps/1/variants/2/retire"
    retired = api.post(path)

    assert (retired.status, retired.json["variant"], retired.json["replaced_by"]) == (202, 2, 1)
    (step,) = api.get(f"/v1/campaigns/{campaign_id}/stats").json["by_step"]
    assert [bool(variant["retired_at"]) for variant in step["variants"]] == [False, True]
    assert api.post(path).status == 409
    assert api.post(f"/v1/campaigns/{campaign_id}/steps/1/variants/3/retire").status == 404
    assert api.post(f"/v1/campaigns/{campaign_id}/steps/0/variants/3/retire").status == 422
    actions = sa.text("SELECT count(*) FROM audit_log WHERE action = 'campaign.variant_retire'")
    assert connection.scalar(actions) == 1
