"""Whatever changes something through the API is in the audit log, under the name of who did it."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

import route_table
from sendledger.core.vocabulary import AuditAction
from testbed.campaigns import make_batch, make_campaign, make_template
from tests.functions.campaign_api.api_client import ApiClient

TEMPLATE = {"name": "t", "subject": "Hi", "body_text": "Hello"}

NOT_AUDITED = {
    "POST /v1/leads": "its lead batch, or the lead itself, says where a lead is from",
    "POST /v1/lead-batches": "the batch is the record; it names who uploaded it",
    "POST /v1/lead-batches/uploads": "as above",
    "POST /v1/email-templates/preview": "it changes nothing",
    "POST /v1/email-templates/translate": "it changes nothing",
    "POST /v1/email-templates/<email_template_id>/preview": "it changes nothing",
    "POST /v1/email-templates/<email_template_id>/attachments/uploads": "nothing is attached yet",
    "POST /v1/replies": "recorded as the lead's own deed",
    "POST /v1/webhook-endpoints/<endpoint_id>/test": "a delivery like any other, which the endpoint lists",
}

AUDITED_ELSEWHERE = {
    "POST /v1/confirmations": "test_confirmations",
    "POST /v1/email-templates/<email_template_id>/test-send": "test_test_send",
    "POST /v1/email-templates/<email_template_id>/attachments": "test_attachments_routes",
    "DELETE /v1/email-templates/<email_template_id>/attachments/<attachment_id>": "test_attachments_routes",
    "POST /v1/exports": "test_exports_routes",
    "POST /v1/leads/bulk": "test_bulk_leads_routes",
    "POST /v1/leads/<lead_id>/erase": "test_erase_leads",
    "POST /v1/campaigns/<campaign_id>/start": "test_lifecycle",
    "POST /v1/campaigns/<campaign_id>/unschedule": "test_lifecycle",
    "POST /v1/campaigns/<campaign_id>/pause": "test_lifecycle",
    "POST /v1/campaigns/<campaign_id>/resume": "test_lifecycle",
    "POST /v1/campaigns/<campaign_id>/cancel": "test_lifecycle",
    "POST /v1/campaigns/<campaign_id>/late-emails": "test_scheduled_emails_routes",
    "POST /v1/campaigns/<campaign_id>/retry-failed": "test_operator_routes",
    "POST /v1/campaigns/<campaign_id>/duplicate": "test_duplicate_campaign",
    "POST /v1/campaigns/<campaign_id>/leads": "test_intake_routes",
    "POST /v1/campaigns/<campaign_id>/finish": "test_intake_routes",
    "DELETE /v1/campaigns/<campaign_id>/leads/<lead_id>": "test_campaign_leads_routes",
    "POST /v1/campaigns/<campaign_id>/steps/<step_number>/variants/<variant>/retire": "test_variants_routes",
    "POST /v1/campaigns/<campaign_id>/steps/<step_number>/winner": "test_variants_routes",
    "POST /v1/campaigns/<campaign_id>/scheduled-emails": "test_added_emails",
    "POST /v1/scheduled-emails/<scheduled_email_id>/send": "test_scheduled_emails_routes",
    "POST /v1/scheduled-emails/<scheduled_email_id>/mark-sent": "test_scheduled_emails_routes",
    "POST /v1/scheduled-emails/<scheduled_email_id>/requeue": "test_scheduled_emails_routes",
    "POST /v1/sender/resume": "test_operator_routes",
    "POST /v1/lead-batches/<lead_batch_id>/import": "test_uploads_routes",
    "POST /v1/api-keys": "test_api_keys_routes",
    "DELETE /v1/api-keys/<api_key_id>": "test_api_keys_routes",
    "POST /v1/suppressions/import": "test_suppressions",
    "PATCH /v1/replies/<reply_id>": "test_reply_outcomes",
    "POST /v1/replies/<reply_id>/answer": "test_reply_answers",
    "POST /v1/webhook-endpoints": "test_webhooks_routes",
    "PATCH /v1/webhook-endpoints/<endpoint_id>": "test_webhooks_routes",
    "DELETE /v1/webhook-endpoints/<endpoint_id>": "test_webhooks_routes",
    "POST /v1/webhook-endpoints/<endpoint_id>/rotate-secret": "test_webhooks_routes",
    "POST /v1/webhook-endpoints/<endpoint_id>/replay": "test_webhooks_routes",
}


def deeds(api: ApiClient, connection: sa.Connection) -> dict[str, tuple[str, str, object, AuditAction]]:
    """By route: method, path and body of a request that succeeds, and what the audit log calls it."""
    batch, template = make_batch(connection, ["ann@example.com"]), make_template(connection)
    lead = connection.scalar(sa.text("SELECT id FROM leads"))
    connection.commit()
    campaign = make_campaign(connection, 1)
    workflow = {"name": "w", "steps": [{"step_number": 1, "email_template_id": str(template)}]}
    own_template = api.post("/v1/email-templates", TEMPLATE).json["id"]
    schedule = {"name": "s", "time_zone": "Asia/Tokyo", "hours": {"mon": [["09:00", "17:00"]]}}
    own_schedule = api.post("/v1/sending-schedules", schedule).json["id"]
    own_sender = api.post("/v1/senders", {"from_address": "eve@example.com"}).json["id"]
    other_sender = api.post("/v1/senders", {"from_address": "adam@example.com"}).json["id"]
    own_workflow = api.post("/v1/workflows", workflow).json["id"]
    suppression = api.post("/v1/suppressions", {"value": "example.org"}).json["id"]
    of_spa = {"kind": "field", "field": "industry", "values": ["spa"]}
    segment = api.post("/v1/segments", {"name": "s", "filter": of_spa}).json["id"]
    draft: dict[str, Any] = {"name": "c", "batch_ids": [str(batch)], "email_template_id": str(template)}
    done = AuditAction
    return {
        "POST /v1/email-templates": ("POST", "/v1/email-templates", TEMPLATE, done.EMAIL_TEMPLATE_CREATE),
        "PATCH /v1/email-templates/<email_template_id>": (
            *("PATCH", f"/v1/email-templates/{template}", {"name": "n"}, done.EMAIL_TEMPLATE_UPDATE),
        ),
        "DELETE /v1/email-templates/<email_template_id>": (
            *("DELETE", f"/v1/email-templates/{own_template}", None, done.EMAIL_TEMPLATE_DELETE),
        ),
        "POST /v1/segments": ("POST", "/v1/segments", {"name": "n", "filter": of_spa}, done.SEGMENT_CREATE),
        "PATCH /v1/segments/<segment_id>": (*("PATCH", f"/v1/segments/{segment}", {"name": "n"}, done.SEGMENT_UPDATE),),
        "DELETE /v1/segments/<segment_id>": ("DELETE", f"/v1/segments/{segment}", None, done.SEGMENT_DELETE),
        "POST /v1/workflows": ("POST", "/v1/workflows", workflow, done.WORKFLOW_CREATE),
        "PATCH /v1/workflows/<workflow_id>": (
            *("PATCH", f"/v1/workflows/{own_workflow}", {"name": "n"}, done.WORKFLOW_UPDATE),
        ),
        "DELETE /v1/workflows/<workflow_id>": (
            *("DELETE", f"/v1/workflows/{own_workflow}", None, done.WORKFLOW_DELETE),
        ),
        "POST /v1/senders": ("POST", "/v1/senders", {"from_address": "bob@example.com"}, done.SENDER_ADDRESS_CREATE),
        "PATCH /v1/senders/<sender_id>": (
            *("PATCH", f"/v1/senders/{own_sender}", {"daily_cap": 5}, done.SENDER_ADDRESS_UPDATE),
        ),
        "POST /v1/senders/<sender_id>/reassign": (
            *("POST", f"/v1/senders/{own_sender}/reassign", {"to": other_sender}, done.SENDER_ADDRESS_REASSIGN),
        ),
        "DELETE /v1/senders/<sender_id>": (*("DELETE", f"/v1/senders/{own_sender}", None, done.SENDER_ADDRESS_DELETE),),
        "POST /v1/sending-schedules": ("POST", "/v1/sending-schedules", schedule, done.SENDING_SCHEDULE_CREATE),
        "PATCH /v1/sending-schedules/<sending_schedule_id>": (
            *("PATCH", f"/v1/sending-schedules/{own_schedule}", {"holidays": ["2026-12-25"]}),
            done.SENDING_SCHEDULE_UPDATE,
        ),
        "DELETE /v1/sending-schedules/<sending_schedule_id>": (
            *("DELETE", f"/v1/sending-schedules/{own_schedule}", None, done.SENDING_SCHEDULE_DELETE),
        ),
        "PATCH /v1/leads/<lead_id>": ("PATCH", f"/v1/leads/{lead}", {"company_name": "n"}, done.LEAD_UPDATE),
        "DELETE /v1/leads/<lead_id>": ("DELETE", f"/v1/leads/{lead}", None, done.LEAD_DELETE),
        "DELETE /v1/lead-batches/<lead_batch_id>": (
            *("DELETE", f"/v1/lead-batches/{batch}", None, done.LEAD_BATCH_DELETE),
        ),
        "POST /v1/campaigns": ("POST", "/v1/campaigns", draft, done.CAMPAIGN_CREATE),
        "PATCH /v1/campaigns/<campaign_id>": (
            *("PATCH", f"/v1/campaigns/{campaign}", {"name": "n"}, done.CAMPAIGN_UPDATE),
        ),
        "DELETE /v1/campaigns/<campaign_id>": (*("DELETE", f"/v1/campaigns/{campaign}", None, done.CAMPAIGN_DELETE),),
        "POST /v1/suppressions": ("POST", "/v1/suppressions", {"value": "example.net"}, done.SUPPRESSION_ADD),
        "DELETE /v1/suppressions/<suppression_id>": (
            *("DELETE", f"/v1/suppressions/{suppression}?reason=x", None, done.SUPPRESSION_REMOVE),
        ),
    }


ROUTES = sorted(
    {name for name in route_table.MINIMUM_ROLE if not name.startswith("GET ")} - {*NOT_AUDITED, *AUDITED_ELSEWHERE}
)


@pytest.mark.parametrize("route", ROUTES)
def test_change_is_in_the_audit_log(api: ApiClient, connection: sa.Connection, route: str) -> None:
    method, path, body, action = deeds(api, connection)[route]
    path, _, query = path.partition("?")
    answer = api.request(method, path, body=body, query=dict([query.split("=")]) if query else None)
    assert 200 <= answer.status < 300, answer.body
    last = api.get("/v1/audit-log", sort="-id", limit=1).json["items"][0]
    assert last["action"] == action
    assert last["actor"].startswith("api_key:")
    assert last["entity_id"] in (*path.split("/"), (answer.json or {}).get("id"))


def test_change_of_guardrails_is_logged_from_what_to_what(api: ApiClient, connection: sa.Connection) -> None:
    campaign = make_campaign(connection, 1)
    api.patch(f"/v1/campaigns/{campaign}", {"guardrails": {"enabled": False}, "name": "n"})
    detail = api.get("/v1/audit-log", sort="-id", limit=1).json["items"][0]["detail"]
    assert detail["fields"] == ["guardrails", "name"]
    assert detail["guardrails"]["before"] in (None, {})
    assert detail["guardrails"]["after"]["enabled"] is False
