"""Answers to replies: through the same ledger and gates as every email, and into the thread."""

from __future__ import annotations

import uuid
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

import pytest
import sqlalchemy as sa

from local.ses_simulator import SesSimulator
from local.ses_simulator.eml import assemble
from sendledger.campaigns import lifecycle
from sendledger.content.lead_variables import lead_variables
from sendledger.content.render_email import compile_template
from sendledger.content.template_filters import RenderError
from sendledger.core.ledger_rules import LAST_STEP
from sendledger.core.tables import campaign_steps, leads
from sendledger.ledger.settle_unknown import Acceptance, settle_as_sent
from sendledger.sending.tick import Resources, send_due_emails
from testbed.campaigns import DAY, NO_DELAY, make_campaign, pass_time, rows_of
from tests.functions.campaign_api.api_client import Answer, ApiClient
from tests.functions.campaign_api.test_reply_outcomes import lead_status, of_ann, reply

TEXT = "Dear Ann, {{ of course }}.\nNora"


@pytest.fixture
def campaign_id(engine: sa.Engine, connection: sa.Connection, resources: Resources) -> uuid.UUID:
    """A campaign of two steps to Ann and Bob; the first is sent."""
    id_ = make_campaign(connection, ["ann@example.com", "bob@example.com"], [NO_DELAY, DAY])
    lifecycle.start_campaign(engine, id_)
    send_due_emails(resources, 60.0)
    return id_


@pytest.fixture
def received(api: ApiClient, campaign_id: uuid.UUID) -> dict[str, Any]:
    return reply(api, "What does it cost?", subject="RE: Step 1 for Ann0", message_id="<ann-1@example.com>")


def answer(api: ApiClient, received: dict[str, Any], **body: Any) -> Answer:
    return api.post(f"/v1/replies/{received['id']}/answer", {"text": TEXT, **body})


def newest(ses: SesSimulator) -> EmailMessage:
    message = message_from_bytes(assemble(ses.accepted()[-1], region="us-east-1"), policy=default)
    assert isinstance(message, EmailMessage)
    return message


def to_ann(ses: SesSimulator) -> int:
    return sum(email.destination == ("ann@example.com",) for email in ses.accepted())


def test_answer_goes_out_in_the_thread_and_is_a_row_of_the_ledger(
    api: ApiClient, engine: sa.Engine, resources: Resources, ses: SesSimulator, received: dict[str, Any]
) -> None:
    root = next(email for email in ses.accepted() if email.destination == ("ann@example.com",))
    accepted = answer(api, received)
    assert accepted.status == 201, accepted.body
    send_due_emails(resources, 60.0)
    sent = newest(ses)
    assert (sent["To"], sent["Subject"]) == ("ann@example.com", "RE: Step 1 for Ann0")
    assert sent["In-Reply-To"] == "<ann-1@example.com>"
    assert sent["References"] == f"<{root.message_id}@email.amazonses.com> <ann-1@example.com>"
    body = sent.get_content().replace("\r\n", "\n")
    assert body.startswith(f"{TEXT}\n\nOn ")
    assert body.endswith("UTC, ann@example.com wrote:\n> What does it cost?\n")
    row = api.get(f"/v1/scheduled-emails/{accepted.json['scheduled_email_id']}").json
    assert (row["status"], row["workflow_step_number"]) == ("sent", 1001)
    assert api.get(f"/v1/emails/{row['email_id']}").json["subject"] == "RE: Step 1 for Ann0"
    assert lead_status(engine) == "responded"
    handled = api.get(f"/v1/replies/{received['id']}").json
    assert handled["handled_at"] is not None
    actions = [entry["action"] for entry in api.get("/v1/audit-log", entity_id=received["id"]).json["items"]]
    assert actions == ["reply.answer"]


def test_answer_counts_and_leaves_the_steps_of_the_campaign_alone(
    api: ApiClient, engine: sa.Engine, resources: Resources, ses: SesSimulator, received: dict[str, Any]
) -> None:
    campaign_id = uuid.UUID(received["campaign_id"])
    assert answer(api, received).status == 201
    send_due_emails(resources, 60.0)
    campaign = api.get(f"/v1/campaigns/{campaign_id}").json
    assert (campaign["emails_sent_count"], campaign["emails_scheduled_count"]) == (3, 5)
    assert (campaign["current_workflow_step"], campaign["status"]) == (1, "running")
    assert [row["status"] for row in of_ann(engine, campaign_id)] == ["sent", "skipped", "sent"]
    stats = api.get(f"/v1/campaigns/{campaign_id}/stats").json
    assert [step["step_number"] for step in stats["by_step"]] == [1, 2]
    pass_time(engine, DAY)
    with engine.begin() as changing:
        changing.execute(sa.text("UPDATE sender_state SET last_tick_at = now()"))
    send_due_emails(resources, 60.0)
    assert api.get(f"/v1/campaigns/{campaign_id}").json["status"] == "completed"
    assert to_ann(ses) == 2


def test_no_lead_gets_the_step_of_an_answer_from_a_sender_that_knows_no_answers(
    api: ApiClient, connection: sa.Connection, received: dict[str, Any]
) -> None:
    """After going back to a release before answers, a sender takes what is in `campaign_steps`."""
    assert answer(api, received).status == 201
    step = (
        connection.execute(sa.select(campaign_steps).where(campaign_steps.c.step_number > LAST_STEP)).mappings().one()
    )
    lead = connection.execute(sa.select(leads).where(leads.c.email == "ann@example.com")).mappings().one()
    template = compile_template(step["subject"], step["body_text"], step["body_html"])
    for subject in (None, "Re: Step 1"):
        with pytest.raises(RenderError, match=r"custom_fields\.sendledger_answer has no value"):
            template.render(lead_variables({**lead, "lead_id": lead["id"]}, "Spring"), subject)


def test_answer_opens_a_complete_campaign_until_it_is_sent(
    api: ApiClient, engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    id_ = make_campaign(connection, ["ann@example.com"], [NO_DELAY])
    lifecycle.start_campaign(engine, id_)
    send_due_emails(resources, 60.0)
    first, second = reply(api, "One"), reply(api, "Two", message_id="<two@example.com>")
    assert api.get(f"/v1/campaigns/{id_}").json["status"] == "completed"
    assert answer(api, first, quote=False).status == answer(api, second).status == 201
    assert api.get(f"/v1/campaigns/{id_}").json["status"] == "running"
    send_due_emails(resources, 60.0)
    assert api.get(f"/v1/campaigns/{id_}").json["status"] == "completed"
    assert [row["workflow_step_number"] for row in rows_of(engine, id_)] == [1, 1001, 1002]
    assert to_ann(ses) == 3


def test_open_step_of_the_sequence_does_not_hold_the_answer_up(
    api: ApiClient, engine: sa.Engine, resources: Resources, ses: SesSimulator, campaign_id: uuid.UUID
) -> None:
    away = reply(api, "Back on Monday", headers={"Auto-Submitted": "auto-replied"})
    assert answer(api, away).status == 201
    send_due_emails(resources, 60.0)
    assert [row["status"] for row in of_ann(engine, campaign_id)] == ["sent", "pending", "sent"]


def test_answer_does_not_wait_for_a_cap_of_new_leads(
    api: ApiClient, engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    id_ = make_campaign(connection, ["ann@example.com", "bob@example.com"], new_leads_per_day=1)
    lifecycle.start_campaign(engine, id_)
    send_due_emails(resources, 60.0)
    sent_to = ses.accepted()[0].destination[0]
    received = reply(api, "What does it cost?", from_address=sent_to)
    assert answer(api, received).status == 201
    send_due_emails(resources, 60.0)
    assert [email.destination[0] for email in ses.accepted()] == [sent_to, sent_to]


def test_second_reply_does_not_stop_an_answer_that_waits(
    api: ApiClient, resources: Resources, ses: SesSimulator, received: dict[str, Any]
) -> None:
    assert answer(api, received).status == 201
    reply(api, "One more thing", message_id="<ann-2@example.com>")
    send_due_emails(resources, 60.0)
    assert to_ann(ses) == 2


@pytest.mark.parametrize("value", ["ann@example.com", "example.com"])
def test_suppressed_lead_gets_no_answer(
    api: ApiClient, ses: SesSimulator, resources: Resources, received: dict[str, Any], value: str
) -> None:
    assert api.post("/v1/suppressions", {"value": value}).status == 201
    refused = answer(api, received)
    assert (refused.status, refused.json["reason"]) == (409, "manual")
    assert "suppressed" in refused.json["detail"]
    send_due_emails(resources, 60.0)
    assert to_ann(ses) == 1


def test_answer_that_waits_is_stopped_by_an_opt_out(
    api: ApiClient, engine: sa.Engine, ses: SesSimulator, resources: Resources, received: dict[str, Any]
) -> None:
    assert answer(api, received).status == 201
    assert api.patch(f"/v1/replies/{received['id']}", {"outcome": "unsubscribe"}).status == 200
    send_due_emails(resources, 60.0)
    assert to_ann(ses) == 1
    assert of_ann(engine, uuid.UUID(received["campaign_id"]))[-1]["reason"] == "suppressed"


def test_answer_that_cannot_go_is_refused_with_the_reason(
    api: ApiClient, campaign_id: uuid.UUID, received: dict[str, Any]
) -> None:
    stranger = reply(api, from_address="stranger@example.org")
    assert "no lead" in answer(api, stranger).json["detail"]
    report = reply(api, headers={"X-Failed-Recipients": "ann@example.com"}, message_id="<report@x>")
    assert "mail server" in answer(api, report).json["detail"]
    assert api.post(f"/v1/campaigns/{campaign_id}/pause").status == 200
    assert "paused" in answer(api, received).json["detail"]
    assert api.post(f"/v1/campaigns/{campaign_id}/cancel").status == 200
    cancelled = answer(api, received)
    assert (cancelled.status, "cancelled" in cancelled.json["detail"]) == (409, True)
    assert api.get(f"/v1/replies/{received['id']}").json["handled_at"] is None


def test_reply_is_answered_once(api: ApiClient, received: dict[str, Any]) -> None:
    assert answer(api, received).status == 201
    assert "answered before" in answer(api, received).json["detail"]


def failing(engine: sa.Engine, row_id: int) -> None:
    """An answer that SES refuses."""
    with engine.begin() as changing:
        failed = sa.text("""
            UPDATE scheduled_emails SET status = 'failed', error_code = 'bad_request', failed_at = now() WHERE id = :id
        """)
        changing.execute(failed, {"id": row_id})
        changing.execute(sa.text("UPDATE campaigns SET emails_failed_count = 1"))


def test_answer_that_failed_is_retried_although_its_lead_has_responded(
    api: ApiClient, engine: sa.Engine, resources: Resources, ses: SesSimulator, received: dict[str, Any]
) -> None:
    failing(engine, answer(api, received).json["scheduled_email_id"])
    retried = api.post(f"/v1/campaigns/{received['campaign_id']}/retry-failed", {})
    assert (retried.status, retried.json["emails"]) == (202, 1)
    send_due_emails(resources, 60.0)
    assert to_ann(ses) == 2
    assert "answered before" in answer(api, received).json["detail"]


def test_reply_is_answered_again_after_its_answer_has_failed(
    api: ApiClient, engine: sa.Engine, resources: Resources, ses: SesSimulator, received: dict[str, Any]
) -> None:
    failing(engine, answer(api, received).json["scheduled_email_id"])
    again = answer(api, received, text="Once more", quote=False)
    assert again.status == 201, again.body
    assert api.get(f"/v1/campaigns/{received['campaign_id']}/retry-failed").json["emails"] == 0
    assert "answered before" in answer(api, received).json["detail"]
    send_due_emails(resources, 60.0)
    assert to_ann(ses) == 2
    assert newest(ses).get_content().strip() == "Once more"


def test_reply_is_not_answered_again_while_it_is_unknown_whether_the_answer_went_out(
    api: ApiClient, resources: Resources, ses: SesSimulator, received: dict[str, Any]
) -> None:
    assert answer(api, received).status == 201
    ses.add_fault("reset_after_accept")
    send_due_emails(resources, 60.0)
    assert "answered before" in answer(api, received).json["detail"]


def test_send_now_of_an_answer_does_not_wait_for_the_steps_of_the_campaign(
    api: ApiClient, campaign_id: uuid.UUID
) -> None:
    away = reply(api, "Back on Monday", headers={"Auto-Submitted": "auto-replied"})
    row_id = answer(api, away).json["scheduled_email_id"]
    assert api.post(f"/v1/scheduled-emails/{row_id}/send").status == 202


@pytest.mark.parametrize(
    ("body", "fields"), [({"text": " "}, ["text"]), ({"text": "x" * 100_001}, ["text"]), ({"quote": 1}, ["quote"])]
)
def test_bad_answer_names_the_field(api: ApiClient, received: dict[str, Any], body: Any, fields: list[str]) -> None:
    assert answer(api, received, **body).fields == fields
    assert api.post(f"/v1/replies/{uuid.uuid4()}/answer", {"text": TEXT}).status == 404


def test_answer_of_unknown_outcome_is_settled_with_its_own_words(
    api: ApiClient, engine: sa.Engine, resources: Resources, ses: SesSimulator, received: dict[str, Any]
) -> None:
    row_id = answer(api, received, quote=False).json["scheduled_email_id"]
    ses.add_fault("reset_after_accept")
    send_due_emails(resources, 60.0)
    with engine.begin() as settling:
        assert settle_as_sent(settling, {row_id: Acceptance("0100-9")}) == 1
    row = api.get(f"/v1/scheduled-emails/{row_id}").json
    assert api.get(f"/v1/emails/{row['email_id']}").json["body_text"] == TEXT


def test_erased_lead_takes_the_answers_with_it(
    api: ApiClient, engine: sa.Engine, resources: Resources, received: dict[str, Any]
) -> None:
    assert answer(api, received).status == 201
    send_due_emails(resources, 60.0)
    assert api.post(f"/v1/leads/{received['lead_id']}/erase", {"keep_suppressed": False}).status == 200
    with engine.connect() as looking:
        assert looking.scalar(sa.text("SELECT count(*) FROM answers")) == 0


@pytest.mark.parametrize("message_id", ["<ü@example.com>", "<a\x07b@example.com>"])
def test_answer_to_an_id_that_no_header_can_hold_names_the_thread(
    api: ApiClient, campaign_id: uuid.UUID, resources: Resources, ses: SesSimulator, message_id: str
) -> None:
    received = reply(api, "What does it cost?", message_id=message_id)
    assert answer(api, received).status == 201
    assert send_due_emails(resources, 60.0).sent == 1
    (first,) = (email for email in ses.accepted()[:2] if email.destination == ("ann@example.com",))
    root = f"<{first.message_id}@email.amazonses.com>"
    assert (newest(ses)["In-Reply-To"], newest(ses)["References"]) == (root, root)
