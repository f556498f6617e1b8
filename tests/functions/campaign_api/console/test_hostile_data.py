"""Whatever leads, campaigns and mails contain, a page shows it as text; and what the headers allow a page to do."""

from __future__ import annotations

import re
import uuid
from html.parser import HTMLParser

import pytest
import sqlalchemy as sa

from sendledger.core.tables import (
    api_keys,
    campaigns,
    email_templates,
    emails,
    lead_batches,
    leads,
    replies,
    scheduled_emails,
    segments,
    sender_addresses,
    sender_state,
    sending_schedules,
    suppressions,
    webhook_deliveries,
    webhook_endpoints,
    workflows,
)
from testbed.campaigns import DAY, NO_DELAY, make_campaign
from testbed.console_browser import Browser
from tests.functions.campaign_api.api_client import ApiClient

EVIL = """'"><script>alert(1)</script><img src=x onerror=alert(2)><svg/onload=alert(3)>{{ 7 * 7 }}</textarea>&lt;"""
ALLOWED_SOURCES = re.compile(
    r"/console/(assets/[0-9a-f]{16}/[a-z.]+|emails/[0-9a-f-]{36}/html|templates/[0-9a-f-]{36}/html[?]lead=[0-9a-f-]{36})"
)
_TEXT_FIELDS = (
    "company_name",
    "contact_name",
    "job_title",
    "industry",
    "city",
    "country",
    "notes",
    "source",
    "website",
)


class _Elements(HTMLParser):
    """Collects what a browser would run or load."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            is_address = name in ("href", "src", "action", "formaction", "data-live")
            local = value is not None and value.startswith(("/console", "?", "#"))
            if name.startswith("on") or name in ("style", "srcdoc") or (is_address and not local):
                self.found.append(f"<{tag} {name}={value}>")
            if name == "src" and not ALLOWED_SOURCES.fullmatch(value or ""):
                self.found.append(f"<{tag} src={value}>")
        if tag in ("style", "object", "embed", "base", "img") or (tag == "script" and ("type", "module") not in attrs):
            self.found.append(f"<{tag}>")


def dangerous(page: str) -> list[str]:
    elements = _Elements()
    elements.feed(page)
    return elements.found


@pytest.fixture
def evil(api: ApiClient, engine: sa.Engine) -> dict[str, str]:
    """Ids of a campaign that runs, a draft, a lead, an email and a row of the ledger, hostile wherever they can be."""
    address = "'\"><svg/onload=alert(1)>"  # an older application may have stored it
    with engine.connect() as connection:
        campaign_id = make_campaign(connection, ["ann@example.com", "bob@example.com"], [NO_DELAY, DAY], name=EVIL)
    assert api.post(f"/v1/campaigns/{campaign_id}/start").status == 200
    draft_id = api.post(f"/v1/campaigns/{campaign_id}/duplicate", {}).json["id"]
    batch_ids = api.get(f"/v1/campaigns/{campaign_id}").json["batch_ids"]
    assert api.patch(f"/v1/campaigns/{draft_id}", {"batch_ids": batch_ids}).status == 200
    with engine.begin() as connection:
        lead_id = connection.scalar(sa.select(leads.c.id).where(leads.c.email == "ann@example.com"))
        custom = {EVIL: EVIL}
        connection.execute(
            sa.update(leads).values(
                dict.fromkeys(_TEXT_FIELDS, EVIL[:50]) | {"custom_fields": custom, "tags": [EVIL[:50]]}
            )
        )
        connection.execute(sa.update(leads).where(leads.c.id == lead_id).values(email=address))
        connection.execute(sa.text("UPDATE email_templates SET name = :evil, subject = :evil"), {"evil": EVIL})
        connection.execute(sa.update(workflows).values(name=EVIL))
        connection.execute(sa.update(lead_batches).values(name=EVIL, failure_reason=EVIL))
        stop = {"stop_code": "x", "stop_reason": EVIL}
        connection.execute(sa.update(sender_state).values(stop))
        connection.execute(sa.insert(suppressions).values(value=address, reason="manual", note=EVIL))
        connection.execute(sa.update(api_keys).values(name=EVIL))
        workflow_id = connection.scalar(sa.select(workflows.c.id))
        template_id = connection.scalar(sa.select(email_templates.c.id).limit(1))
        row_id = connection.scalar(
            sa.select(sa.func.min(scheduled_emails.c.id)).where(scheduled_emails.c.lead_id == lead_id)
        )
        email_id = uuid.uuid4()
        connection.execute(
            sa.insert(emails).values(
                id=email_id,
                scheduled_email_id=row_id,
                campaign_id=campaign_id,
                lead_id=lead_id,
                to_address=address,
                subject=EVIL,
                body_text=EVIL,
                body_html=EVIL,
                status="sent",
                sent_at=sa.func.now(),
            )
        )
        failed = {"status": "failed", "error_code": "outcome_unknown", "failure_reason": EVIL, "email_id": email_id}
        change = sa.update(scheduled_emails).where(scheduled_emails.c.id == row_id)
        connection.execute(change.values(**failed, failed_at=sa.func.now(), send_started_at=sa.func.now()))
        connection.execute(
            sa.update(campaigns).values(
                description=EVIL, from_address=EVIL, reply_to_address=EVIL, leads_left_out={EVIL: 1}
            )
        )
        # With an address its check would ask SES.
        own = campaigns.c.id == uuid.UUID(draft_id)
        connection.execute(sa.update(campaigns).where(own).values(from_address=None))
        reply_id = connection.scalar(
            sa.insert(replies)
            .values(
                message_id=EVIL[:90],
                source="api",
                from_address=address,
                subject=EVIL,
                body_text=EVIL,
                lead_id=lead_id,
                campaign_id=campaign_id,
            )
            .returning(replies.c.id)
        )
        hours = {day: [["09:00", "17:00"]] for day in ("mon", "tue", "wed", "thu", "fri", "sat", "sun")}
        schedule = {"name": EVIL, "time_zone": EVIL[:60], "zone_of": "lead", "hours": hours}
        schedule_id = connection.scalar(sa.insert(sending_schedules).values(schedule).returning(sending_schedules.c.id))
        connection.execute(sa.insert(sender_addresses).values(from_address=EVIL, reply_to_address=EVIL, address=EVIL))
        endpoint = {"url": EVIL, "description": EVIL, "event_types": [EVIL], "secret": "x", "created_by": EVIL}
        stopped = {"is_enabled": False, "disabled_reason": EVIL, "failures": 1}
        endpoint_id = connection.scalar(
            sa.insert(webhook_endpoints).values(endpoint | stopped).returning(webhook_endpoints.c.id)
        )
        delivery = {
            "endpoint_id": endpoint_id,
            "event_type": "lead.replied",
            "data": {EVIL: EVIL},
            "response_text": EVIL,
        }
        connection.execute(sa.insert(webhook_deliveries).values(delivery))
        condition = {"kind": "tag", "tag": EVIL[:99]}
        segment_id = connection.scalar(sa.insert(segments).values(name=EVIL, filter=condition).returning(segments.c.id))
    return {
        "segment": str(segment_id),
        "reply": str(reply_id),
        "schedule": str(schedule_id),
        "endpoint": str(endpoint_id),
        "campaign": str(campaign_id),
        "draft": draft_id,
        "lead": str(lead_id),
        "email": str(email_id),
        "row": str(row_id),
        "template": str(template_id),
        "workflow": str(workflow_id),
    }


PAGES = [
    "/console/campaigns",
    "/console/campaigns?status={evil}",
    "/console/campaigns/{campaign}",
    "/console/campaigns/{campaign}?interval=day&done={evil}",
    "/console/campaigns/{campaign}/live",
    "/console/campaigns/{campaign}/emails",
    "/console/campaigns/{campaign}/emails?status={evil}&step={evil}",
    "/console/campaigns/{campaign}/emails?error_code=outcome_unknown",
    "/console/campaigns/{campaign}/left-out",
    "/console/campaigns/{campaign}/plan",
    "/console/campaigns/{campaign}/plan?wait=yes",
    "/console/campaigns/{campaign}/pause",
    "/console/campaigns/{campaign}/cancel",
    "/console/campaigns/{campaign}/retry-failed",
    "/console/scheduled-emails/{row}",
    "/console/leads",
    "/console/leads?search={evil}",
    "/console/leads?search=a&cursor={evil}",
    "/console/leads/{lead}",
    "/console/emails/{email}",
    "/console/templates",
    "/console/templates/new",
    "/console/templates/{template}",
    "/console/templates/{template}?lead={evil}&done={evil}",
    "/console/workflows",
    "/console/workflows/new",
    "/console/workflows/{workflow}",
    "/console/import",
    "/console/campaigns/new",
    "/console/campaigns/new?batch_id={evil}",
    *(f"/console/campaigns/{{campaign}}/edit/{stage}" for stage in ("leads", "content", "senders", "check", "preview")),
    "/console/campaigns/{campaign}/edit/preview?step={evil}",
    "/console/campaigns/{campaign}/limits",
    "/console/campaigns/{draft}/edit/check",
    "/console/campaigns/{draft}/edit/preview",
    "/console/campaigns/{draft}/start",
    "/console/replies",
    "/console/replies?campaign_id={campaign}",
    "/console/replies?show={evil}&kind={evil}&sender={evil}",
    "/console/replies/{reply}",
    "/console/replies/{reply}?done={evil}",
    "/console/segments",
    "/console/segments/new",
    "/console/segments/{segment}",
    "/console/settings/senders",
    "/console/settings/schedules",
    "/console/settings/schedules/new",
    "/console/settings/schedules/{schedule}",
    "/console/settings/webhooks",
    "/console/settings/webhooks/{endpoint}?status={evil}",
    "/console/settings/webhooks/{endpoint}",
    "/console/settings/exports",
    "/console/suppressions",
    "/console/suppressions?value={evil}",
    "/console/sending",
    "/console/settings",
    "/console/audit-log",
    "/console/audit-log?actor={evil}&action={evil}",
    "/console/sign-in?next={evil}",
    "/console/{evil}",
]
QUOTED = "%27%22%3E%3Cscript%3Ealert(1)%3C/script%3E"


@pytest.mark.parametrize("page", PAGES)
def test_hostile_data_is_shown_as_text(browser: Browser, evil: dict[str, str], page: str) -> None:
    shown = browser.get(page.format(evil=QUOTED, **evil))
    assert shown.status < 500
    assert dangerous(shown.html) == []
    assert "49" not in re.findall(r">\s*(49)", shown.html)


@pytest.mark.parametrize("page", ["/console/campaigns/{campaign}", "/console/leads/{lead}", "/console/emails/{email}"])
def test_hostile_data_is_shown_whole(browser: Browser, evil: dict[str, str], page: str) -> None:
    assert "<script>alert(1)</script>" in browser.get(page.format(**evil)).text.replace("< ", "<") or (
        "&lt;script&gt;alert(1)&lt;/script&gt;" in browser.get(page.format(**evil)).html
    )


def test_pages_load_nothing_from_elsewhere_and_run_nothing_of_their_own(browser: Browser, evil: dict[str, str]) -> None:
    policy = browser.get(f"/console/campaigns/{evil['campaign']}").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy


def test_html_of_a_mail_is_shut_in(browser: Browser, evil: dict[str, str]) -> None:
    shown = browser.get(f"/console/emails/{evil['email']}/html")
    assert shown.html == EVIL
    policy = dict(directive.partition(" ")[::2] for directive in shown.headers["content-security-policy"].split("; "))
    assert policy["sandbox"] == ""
    assert policy["default-src"] == "'none'"
    assert policy["img-src"] == "data:"
    assert "script-src" not in policy
    frame = re.search(r"<iframe[^>]*>", browser.get(f"/console/emails/{evil['email']}").html)
    assert frame is not None
    assert re.search(r" sandbox[ >]", frame[0])


@pytest.mark.parametrize("page", ["/console/campaigns", "/console/sign-in", "/console/nothing"])
def test_pages_are_kept_by_no_cache_and_framed_by_nobody(browser: Browser, page: str) -> None:
    headers = browser.get(page).headers
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


def test_files_of_pages_are_public_and_cached_for_good(browser: Browser) -> None:
    paths = re.findall(r'(?:href|src)="(/console/assets/[^"]+)"', browser.get("/console/campaigns").html)
    assert len(paths) == 3
    browser.cookies.clear()
    for path in paths:
        file = browser.get(path, follow=False)
        assert file.status == 200
        assert "immutable" in file.headers["cache-control"]
