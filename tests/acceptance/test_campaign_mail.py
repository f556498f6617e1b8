"""A mail taken from the inbox is what mailbox providers ask for, and answering it ends its sequence."""

from __future__ import annotations

import base64
import re
import uuid
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default

import httpx
import pytest
import sqlalchemy as sa

from local.ses_simulator import SesSimulator
from local.stack import LocalStack
from testbed.campaigns import DAY, NO_DELAY, make_batch, make_workflow, pass_time

ADDRESS = "ann@example.com"


@pytest.fixture
def campaign(stack: LocalStack, api: httpx.Client, connection: sa.Connection) -> str:
    """A campaign of two steps to one lead, of which the first is sent; names and content are full of non-ASCII."""
    batch_id = make_batch(connection, [ADDRESS], contact_name="Zoë Ærø", company_name="Grüße & Söhne")
    workflow_id = make_workflow(
        connection,
        [NO_DELAY, DAY],
        subject="Grüße an {{ company_name }} – 你好 " + "sehr lange Betreffzeile " * 8,
        body_text="Hallo {{ first_name }},\n" + "ein langer Absatz ohne Umbruch, " * 60,
        body_html="<html><body><p>Hallo {{ first_name }}</p>" + "<p>langer Absatz</p>" * 200 + "</body></html>",
    )
    connection.commit()
    fields = {
        "name": "Frühling",
        "batch_ids": [str(batch_id)],
        "workflow_id": str(workflow_id),
        "from_address": "Jörg Müßig <joerg@harbour-booking.example>",
    }
    created = api.post("/v1/campaigns", json=fields)
    campaign_id = str(created.json()["id"])
    assert api.post(f"/v1/campaigns/{campaign_id}/start").status_code == 200
    stack.tick()
    return campaign_id


def raw_mail(ses: SesSimulator) -> bytes:
    return httpx.get(f"{ses.url}/_simulator/ledger/{ses.accepted()[0].message_id}.eml").content


def mail(ses: SesSimulator) -> EmailMessage:
    message = message_from_bytes(raw_mail(ses), policy=default)
    assert isinstance(message, EmailMessage)
    return message


def test_mail_meets_the_standards(campaign: str, ses: SesSimulator, stack: LocalStack) -> None:
    raw, message = raw_mail(ses), mail(ses)
    # RFC 5322: CRLF, nothing but ASCII, lines of 998 characters at most.
    assert raw.isascii()
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    assert b"\n" not in raw.replace(b"\r\n", b"")
    for name in ("From", "To", "Subject", "Date", "Message-ID", "List-Unsubscribe", "List-Unsubscribe-Post"):
        assert len(message.get_all(name, [])) == 1, name
    # RFC 8058
    (link,) = re.fullmatch(r"<([^<>\s]+)>", str(message["List-Unsubscribe"])).groups()  # type: ignore[union-attr]
    assert link.startswith(f"{stack.url}/u/")
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert f"List-Unsubscribe: <{link}>\r\n".encode() in raw
    # One recipient
    assert [address.addr_spec for address in message["To"].addresses] == [ADDRESS]
    assert message["Cc"] is None
    # RFC 2046: both parts, the richer one last
    assert message.get_content_type() == "multipart/alternative"
    text, html = message.iter_parts()
    assert (text.get_content_type(), html.get_content_type()) == ("text/plain", "text/html")
    # RFC 2047
    assert message["Subject"].startswith("Grüße an Grüße & Söhne – 你好 sehr lange")
    assert re.search(rb"\r\nSubject: =\?utf-8\?", raw)
    (sender,) = message["From"].addresses
    assert (sender.display_name, sender.addr_spec) == ("Jörg Müßig", "joerg@harbour-booking.example")
    # The footer
    for part in (text, html):
        assert link in part.get_content()
        assert "1 Quay Street" in part.get_content()
    assert "Hallo Zoë" in text.get_content()


def answer_to(message: EmailMessage, text: str, **headers: str) -> str:
    """The message that a mail client makes when somebody presses "reply"."""
    reply = EmailMessage()
    reply["From"] = f"Zoë Ærø <{ADDRESS}>"
    reply["To"] = str(message["Reply-To"])
    reply["Subject"] = f"Re: {message['Subject']}"
    reply["Message-ID"] = f"<{uuid.uuid4()}@example.com>"
    for name, value in headers.items():
        reply[name.replace("_", "-")] = value
    reply.set_content(text)
    return base64.b64encode(reply.as_bytes()).decode()


def test_a_reply_stops_the_sequence_and_an_out_of_office_does_not(
    campaign: str, ses: SesSimulator, stack: LocalStack, api: httpx.Client, engine: sa.Engine
) -> None:
    sent = mail(ses)
    away = api.post("/v1/replies", json={"raw": answer_to(sent, "I am away.", Auto_Submitted="auto-replied")}).json()
    assert (away["automatic"], away["matched_by"], away["emails_skipped"]) == ("auto_submitted", "token", 0)
    assert api.get(f"/v1/campaigns/{campaign}").json()["status"] == "running"
    reply = api.post("/v1/replies", json={"raw": answer_to(sent, "Yes, gladly!")}).json()
    assert (reply["automatic"], reply["matched_by"], reply["emails_skipped"]) == (None, "token", 1)
    assert api.get(f"/v1/leads/{reply['lead_id']}").json()["status"] == "responded"
    pass_time(engine, DAY)
    stack.tick()
    assert len(ses.accepted()) == 1
    assert api.get(f"/v1/campaigns/{campaign}").json()["status"] == "completed"
    listed = api.get("/v1/replies", params={"campaign_id": campaign}).json()["items"]
    assert [item["body_text"].strip() for item in listed] == ["Yes, gladly!", "I am away."]


def test_the_preflight_tells_over_http_what_a_start_refuses(
    api: httpx.Client, ses: SesSimulator, connection: sa.Connection, stack: LocalStack
) -> None:
    batch_id = make_batch(connection, [ADDRESS])
    workflow_id = make_workflow(connection, [NO_DELAY], body_text="{{ pet }}")
    connection.commit()
    fields = {"name": "Not ready", "batch_ids": [str(batch_id)], "workflow_id": str(workflow_id)}
    path = f"/v1/campaigns/{api.post('/v1/campaigns', json=fields).json()['id']}"
    ses.account.identities = dict.fromkeys(("nora@harbour-booking.example", "harbour-booking.example"))
    report = api.get(f"{path}/preflight").json()
    assert [error["check"] for error in report["errors"]] == ["templates", "identity"]
    assert report["errors"][0]["detail"]["variable"] == "pet"
    refused = api.post(f"{path}/start")
    assert refused.status_code == 422
    assert refused.json()["type"] == "urn:sendledger:problem:not_ready"
    assert [error["check"] for error in refused.json()["preflight_errors"]] == ["templates", "identity"]
    assert api.get(path).json()["status"] == "draft"
