"""Webhooks of the local stack: the functions of the template, asked over the API, and a receiver on this machine."""

from __future__ import annotations

from pathlib import Path

import httpx
import sqlalchemy as sa
from standardwebhooks import Webhook

from local.ses_simulator import SesSimulator
from local.stack import LocalStack
from sendledger.access import api_keys
from testbed.webhook_receiver import WebhookReceiver

TEMPLATE = Path(__file__).parents[2] / "template.yaml"


def test_local_stack_delivers_what_happens_to_a_receiver_on_this_machine(
    database_url: str, engine: sa.Engine, ses: SesSimulator, receiver: WebhookReceiver, tmp_path: Path
) -> None:
    with engine.begin() as connection:
        key = api_keys.create(connection, "webhooks", "admin").key
    log = tmp_path / "functions.log"
    with (
        log.open("ab") as opened,
        LocalStack(TEMPLATE, database_url=database_url, ses_url=ses.url, log=opened) as stack,
        httpx.Client(base_url=stack.url, headers={"Authorization": f"Bearer {key}"}, timeout=300) as api,
    ):
        wanted = {"url": receiver.url, "event_types": ["campaign.started", "email.sent", "campaign.completed"]}
        endpoint = api.post("/v1/webhook-endpoints", json=wanted).raise_for_status().json()
        lead = api.post("/v1/leads", json={"email": "ann@example.com"}).raise_for_status().json()
        new_template = {"name": "Hello", "subject": "Hello", "body_text": "Hi"}
        template = api.post("/v1/email-templates", json=new_template).raise_for_status().json()
        new = {"name": "Spring", "lead_ids": [lead["id"]], "email_template_id": template["id"]}
        campaign = api.post("/v1/campaigns", json=new).raise_for_status().json()
        api.post(f"/v1/campaigns/{campaign['id']}/start").raise_for_status()
        stack.tick()
        assert stack.invoke("WebhookSenderFunction", {}) == {"delivered": 3}
        # Delivered at once, and not with the next minute.
        api.post(f"/v1/webhook-endpoints/{endpoint['id']}/test").raise_for_status()
        stack.wait_until_idle()
    events = [Webhook(endpoint["secret"]).verify(each.body, each.headers) for each in receiver.received]
    assert {event["type"] for event in events} == {*wanted["event_types"], "webhook.test"}
    assert "ann@example.com" not in str(events)
    assert endpoint["secret"] not in log.read_text()
