"""A conversation from outside: files, a thread, a condition, a reply, an answer; read back as mail programs read it."""

from __future__ import annotations

import base64
from collections import Counter
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from local.event_queue import EventQueue
from local.ses_simulator import SesSimulator
from local.ses_simulator.eml import assemble
from local.stack import LocalStack
from testbed.campaigns import DAY, pass_time
from testbed.ses_events import PERSON
from tests.acceptance.campaign_story import act, call, upload_leads
from tests.acceptance.reporting_ses import ses, ses_events, settle

__all__ = ["ses", "ses_events"]

ANN, BOB = "ann@example.com", "bob@example.com"
PDF = b"%PDF-1.7\n" + bytes(range(256)) * 8000
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
HTML = '<html><body><img src="cid:logo"><p>Hello {{ first_name }}, <a href="https://example.com/x">look</a></p></body></html>'


def template(api: httpx.Client, name: str, **content: str) -> str:
    fields = {
        "name": name,
        "subject": f"{name} for {{{{ company_name }}}}",
        "body_text": f"{name}, dear you",
        **content,
    }
    return str(call(api, "POST", "/v1/email-templates", 201, json=fields)["id"])


def attach(api: httpx.Client, template_id: str, name: str, content: bytes, **fields: str) -> str:
    body = {"file_name": name, "content": base64.b64encode(content).decode(), **fields}
    return str(call(api, "POST", f"/v1/email-templates/{template_id}/attachments", 201, json=body)["id"])


def mails(ses: SesSimulator, to: str) -> list[EmailMessage]:
    """What this person has got, oldest first."""
    found = []
    for email in ses.accepted():
        if email.destination == (to,):
            message = message_from_bytes(assemble(email, region="us-east-1"), policy=default)
            assert isinstance(message, EmailMessage)
            found.append(message)
    return found


def next_day(stack: LocalStack, engine: sa.Engine, ses: SesSimulator, ses_events: EventQueue) -> None:
    pass_time(engine, DAY)
    stack.tick()
    assert settle(ses, ses_events) == []


@pytest.fixture
def campaign_id(api: httpx.Client, stack: LocalStack) -> str:
    """To Ann and Bob: files, then an answer with a quote, then a step for those who have opened the first."""
    first = template(api, "First", body_html=HTML)
    attach(api, first, "logo.png", PNG, content_id="logo")
    brochure = attach(api, first, "Prospekt für Sie.pdf", PDF)
    steps: list[dict[str, Any]] = [
        {"step_number": 1, "email_template_id": first},
        {"step_number": 2, "email_template_id": template(api, "Second"), "days_after_previous": 1},
        {"step_number": 3, "email_template_id": template(api, "Third"), "days_after_previous": 1},
    ]
    steps[1] |= {"in_thread": True, "quote": True}
    steps[2] |= {"in_thread": True, "only_if": {"event": "opened", "of_step": 1}}
    workflow = call(api, "POST", "/v1/workflows", 201, json={"name": "Talk", "steps": steps})["id"]
    fields = {
        "name": "Talk",
        "batch_ids": [upload_leads(api, [ANN, BOB])],
        "workflow_id": workflow,
        "track_opens": True,
    }
    id_ = str(call(api, "POST", "/v1/campaigns", 201, json=fields)["id"])
    act(api, id_, "start")
    # Too late for this campaign.
    call(api, "DELETE", f"/v1/email-templates/{first}/attachments/{brochure}", 204)
    attach(api, first, "other.pdf", b"%PDF")
    return id_


def test_conversation_is_one_thread_in_mail_programs(
    campaign_id: str,
    api: httpx.Client,
    stack: LocalStack,
    ses: SesSimulator,
    ses_events: EventQueue,
    engine: sa.Engine,
) -> None:
    next_day(stack, engine, ses, ses_events)
    (to_ann,) = (email for email in ses.accepted() if email.destination == (ANN,))
    ses.add_event(to_ann, "Open", 3600.0, userAgent=PERSON)
    for _ in range(2):
        next_day(stack, engine, ses, ses_events)

    first, second, third = mails(ses, ANN)
    root = str(first["Message-ID"])
    assert [str(each["Subject"]) for each in (first, second, third)] == [
        "First for Company 0",
        "Re: First for Company 0",
        "Re: First for Company 0",
    ]
    assert (first["In-Reply-To"], first["References"]) == (None, None)
    assert (second["In-Reply-To"], second["References"]) == (root, root)
    assert (third["In-Reply-To"], third["References"]) == (second["Message-ID"], f"{root} {second['Message-ID']}")
    quoted = second.get_body(("plain",))
    assert quoted is not None
    assert "> First, dear you" in quoted.get_content()
    # Bob has not opened the first one.
    assert len(mails(ses, BOB)) == 2

    # Ann answers, a person sets the outcome and writes back.
    reply = EmailMessage()
    reply["From"], reply["To"], reply["Subject"] = ANN, str(third["Reply-To"]), str(third["Subject"])
    reply["Message-ID"], reply["In-Reply-To"] = "<ann-1@example.com>", str(third["Message-ID"])
    reply.set_content("What does it cost?")
    received = call(api, "POST", "/v1/replies", json={"raw": base64.b64encode(reply.as_bytes()).decode()})
    assert (received["kind"], received["campaign_id"]) == ("human", campaign_id)
    call(api, "PATCH", f"/v1/replies/{received['id']}", json={"outcome": "interested"})
    call(api, "POST", f"/v1/replies/{received['id']}/answer", 201, json={"text": "Nothing until May."})
    stack.tick()
    answer = mails(ses, ANN)[-1]
    assert str(answer["Subject"]) == "Re: First for Company 0"
    assert (answer["In-Reply-To"], answer["References"]) == ("<ann-1@example.com>", f"{root} <ann-1@example.com>")
    assert [part.get_filename() for part in answer.iter_attachments()] == []

    assert call(api, "GET", f"/v1/leads/{received['lead_id']}")["status"] == "interested"
    happened = Counter(each["event"] for each in call(api, "GET", f"/v1/leads/{received['lead_id']}/timeline")["items"])
    assert [happened[each] for each in ("imported", "sent", "opened", "replied")] == [1, 4, 1, 1]
    funnel = call(api, "GET", f"/v1/campaigns/{campaign_id}/stats")["funnel"]
    assert (funnel["opened"], funnel["clicked"]) == (1, None)


def test_files_arrive_as_the_template_had_them_at_the_start(
    campaign_id: str, stack: LocalStack, ses: SesSimulator
) -> None:
    stack.tick()
    assert len(ses.accepted()) == 2
    for message in (*mails(ses, ANN), *mails(ses, BOB)):
        assert message.get_content_type() == "multipart/mixed"
        (brochure,) = message.iter_attachments()
        assert (brochure.get_filename(), brochure.get_content_type()) == ("Prospekt für Sie.pdf", "application/pdf")
        assert brochure.get_content() == PDF
        related = next(part for part in message.walk() if part.get_content_type() == "multipart/related")
        assert isinstance(related, EmailMessage)
        (picture,) = (part for part in related.walk() if part.get_content_type() == "image/png")
        assert (picture["Content-ID"], picture.get_content_disposition()) == ("<logo>", "inline")
        assert isinstance(picture, EmailMessage)
        assert picture.get_content() == PNG
        html = message.get_body(("html",))
        assert html is not None
        assert 'src="cid:logo"' in html.get_content()


def test_inbox_shows_files_and_pictures_without_loading_anything(
    campaign_id: str, stack: LocalStack, ses: SesSimulator
) -> None:
    stack.tick()
    path = f"{ses.url}/messages/{ses.accepted()[0].message_id}"
    page = httpx.get(path)
    assert f"src=&quot;data:image/png;base64,{base64.b64encode(PNG).decode()}&quot;" in page.text
    assert "Prospekt für Sie.pdf" in page.text
    file = httpx.get(f"{path}/attachments/1")
    assert file.content == PDF
    assert file.headers["content-type"] == "application/octet-stream"
    assert file.headers["content-disposition"].startswith("attachment;")
    assert file.headers["x-content-type-options"] == "nosniff"
    assert httpx.get(f"{path}/attachments/2").status_code == 404
