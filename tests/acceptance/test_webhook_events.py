"""Every kind of event, from what really happens to the receiver of a webhook."""

from __future__ import annotations

import datetime as dt
from email import message_from_bytes

import httpx
import sqlalchemy as sa
from standardwebhooks import Webhook

from local.event_queue import EventQueue
from local.ses_simulator import SesSimulator
from local.stack import LocalStack
from sendledger.core.vocabulary import WebhookEventType
from testbed.campaigns import DAY, pass_time
from testbed.webhook_receiver import WebhookReceiver
from tests.acceptance.campaign_story import act, call, campaign, make_campaign
from tests.acceptance.reporting_ses import box, ses, ses_events, settle

__all__ = ["ses", "ses_events"]

EVENTS = [str(type_) for type_ in WebhookEventType if type_ != WebhookEventType.WEBHOOK_TEST]


def write_to(api: httpx.Client, stack: LocalStack, ses: SesSimulator, ses_events: EventQueue) -> str:
    """A campaign of which the mails are delivered, bounce, are complained about, opened, clicked and answered."""
    campaign_id = make_campaign(api, [box("success"), box("bounce"), box("complaint")], [0, 1])
    for action in ("start", "pause", "resume"):
        act(api, campaign_id, action)
    stack.tick()
    assert settle(ses, ses_events) == []
    (mail,) = (email for email in ses.accepted() if email.destination == (box("success"),))
    for happened in ("Open", "Click"):
        ses.add_event(mail, happened, 3600)
    assert settle(ses, ses_events) == []
    call(api, "POST", "/v1/replies", json={"from_address": box("success"), "text": "Yes, please."})
    raw = httpx.get(f"{ses.url}/_simulator/ledger/{mail.message_id}.eml").content
    link = str(message_from_bytes(raw)["List-Unsubscribe"]).strip("<>\n ")
    assert httpx.post(link, data={"List-Unsubscribe": "One-Click"}).status_code == 200
    stack.tick()
    assert campaign(api, campaign_id)["status"] == "completed"
    return campaign_id


def fail_in_every_way(api: httpx.Client, stack: LocalStack, ses: SesSimulator, engine: sa.Engine) -> None:
    """A cancel, an email that SES refuses, a scheduled start with nobody left, and an account that may not send."""
    cancelled = make_campaign(api, ["dan@example.com"], [1])
    act(api, cancelled, "start")
    act(api, cancelled, "cancel")
    ses.add_fault("bad_request", count=1)
    act(api, make_campaign(api, ["ann@example.com"], [0]), "start")
    stack.tick()
    alone = make_campaign(api, ["eve@example.com"], [0])
    tomorrow = (dt.datetime.now(dt.UTC) + DAY).isoformat()
    call(api, "PATCH", f"/v1/campaigns/{alone}", json={"start_type": "scheduled", "scheduled_start_at": tomorrow})
    act(api, alone, "start")
    call(api, "POST", "/v1/suppressions", 201, json={"value": "eve@example.com"})
    pass_time(engine, 2 * DAY)
    stack.tick()
    assert campaign(api, alone)["status"] == "failed"
    act(api, make_campaign(api, ["fay@example.com"], [0]), "start")
    ses.account.sending_enabled = False
    stack.tick()


def test_every_kind_of_event_is_told_when_it_happens(
    api: httpx.Client, stack: LocalStack, ses: SesSimulator, ses_events: EventQueue, engine: sa.Engine
) -> None:
    with WebhookReceiver() as receiver:
        wanted = {"url": receiver.url, "event_types": EVENTS}
        endpoint = call(api, "POST", "/v1/webhook-endpoints", 201, json=wanted)
        campaign_id = write_to(api, stack, ses, ses_events)
        call(api, "POST", "/v1/exports", 202, json={"kind": "campaign_ledger", "campaign_id": campaign_id})
        stack.wait_until_idle()
        fail_in_every_way(api, stack, ses, engine)
        call(api, "POST", f"/v1/webhook-endpoints/{endpoint['id']}/test", 202)
        stack.wait_until_idle()
        stack.invoke("WebhookSenderFunction", {})
        events = [Webhook(endpoint["secret"]).verify(each.body, each.headers) for each in receiver.received]
    told = {event["type"]: event["data"] for event in events}
    assert told.keys() == {str(type_) for type_ in WebhookEventType}
    assert "@" not in str(events)
    # What it is about can be asked for.
    for name, path in {
        "campaign_id": "campaigns",
        "lead_id": "leads",
        "email_id": "emails",
        "scheduled_email_id": "scheduled-emails",
        "reply_id": "replies",
        "lead_batch_id": "lead-batches",
        "export_id": "exports",
    }.items():
        ids = {data[name] for data in told.values() if name in data}
        assert ids, name
        for id_ in ids:
            call(api, "GET", f"/v1/{path}/{id_}")
