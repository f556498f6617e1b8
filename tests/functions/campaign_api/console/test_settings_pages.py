"""The console's pages of keys, the audit log, suppressions, webhooks, exports and the state of sending."""

from __future__ import annotations

import re

import pytest
import sqlalchemy as sa

from sendledger.core.tables import api_keys, exports, sender_state, suppressions
from testbed.campaigns import make_campaign
from testbed.console_browser import Browser
from tests.functions.campaign_api.api_client import ApiClient

pytestmark = pytest.mark.usefixtures("bucket_of_the_api")

KEY = re.compile(r"sl_[\w-]{43}")


def test_new_key_is_shown_once_and_signs_in(browser: Browser) -> None:
    form = {
        "name": "Nina",
        "role": "editor",
        "days": "30",
        "request": browser.get("/console/settings").field("request"),
    }
    (key,) = KEY.findall(browser.post("/console/settings/api-keys", form).html)
    assert KEY.findall(browser.post("/console/settings/api-keys", form).html) == []
    assert KEY.findall(browser.get("/console/settings").html) == []
    assert "editor Sign out" in Browser(browser.handler, key).sign_in().text


def test_key_that_is_not_valid_names_the_field(browser: Browser, engine: sa.Engine) -> None:
    shown = browser.post("/console/settings/api-keys", {"name": " ", "role": "king"})
    assert shown.status == 422
    assert "name" in shown.text
    assert "role" in shown.text


@pytest.mark.parametrize("days", ["90000", "soon", "-1", "1.5", " "])
def test_key_with_days_that_are_no_number_is_not_made(browser: Browser, engine: sa.Engine, days: str) -> None:
    shown = browser.post("/console/settings/api-keys", {"name": "Nina", "role": "editor", "days": days})
    assert (shown.status, "days" in shown.text) == (422, True)
    with engine.begin() as connection:
        assert connection.scalar(sa.select(api_keys.c.id).where(api_keys.c.name == "Nina")) is None


def test_revoking_a_key_ends_its_sessions(browser: Browser, browsers: dict[str, Browser], engine: sa.Engine) -> None:
    browsers["viewer"].sign_in()
    with engine.begin() as connection:
        key_id = connection.scalar(sa.select(api_keys.c.id).where(api_keys.c.role == "viewer"))
    browser.post(f"/console/settings/api-keys/{key_id}/revoke")
    assert browsers["viewer"].get("/console/campaigns", follow=False).status == 303


@pytest.mark.parametrize("role", ["viewer", "editor", "sender"])
def test_only_administrators_see_keys_and_the_audit_log(browsers: dict[str, Browser], role: str) -> None:
    browsers[role].sign_in()
    text = browsers[role].get("/console/settings").text
    assert "New key" not in text
    assert "Audit log" not in text
    assert browsers[role].get("/console/audit-log").status == 403
    assert browsers[role].post("/console/settings/api-keys", {"name": "x", "role": "admin"}).status == 403


def test_audit_log_names_the_key_and_what_was_done(browser: Browser) -> None:
    browser.post("/console/settings/api-keys", {"name": "Nina", "role": "editor"})
    text = browser.get("/console/audit-log").text
    assert "An API key was created. admin" in text
    assert "There is no such entry." in browser.get("/console/audit-log?action=lead.erase").text


def test_each_sign_in_is_in_the_audit_log(browsers: dict[str, Browser]) -> None:
    browsers["viewer"].sign_in()
    browsers["viewer"].sign_in("sl_" + "x" * 43)
    browsers["admin"].sign_in()
    page = browsers["admin"].get("/console/audit-log?action=console.sign_in").text
    said = "Somebody signed in to the console with an API key."
    assert (page.count(said), f"{said} viewer" in page) == (2, True)


def test_address_is_suppressed_and_allowed_again(browser: Browser, engine: sa.Engine) -> None:
    shown = browser.post("/console/suppressions", {"value": "ann@example.com", "note": "asked by telephone"})
    assert "ann@example.com" in shown.text
    assert "asked by telephone" in shown.text
    with engine.begin() as connection:
        suppression_id = connection.scalar(sa.select(suppressions.c.id))
    page = f"/console/suppressions/{suppression_id}/remove"
    assert browser.post(page, {"reason": " "}).status == 422
    assert "It can be sent to again." in browser.post(page, {"reason": "a mistake"}).text
    with engine.begin() as connection:
        assert connection.scalar(sa.select(suppressions.c.removal_reason)) == "a mistake"


def test_what_is_no_address_is_not_suppressed(browser: Browser) -> None:
    shown = browser.post("/console/suppressions", {"value": "not an address"})
    assert shown.status == 422
    assert "value" in shown.text


@pytest.mark.parametrize(("role", "adds", "removes"), [("viewer", 0, 0), ("editor", 1, 0), ("sender", 1, 1)])
def test_role_decides_what_can_be_done_to_suppressions(
    browsers: dict[str, Browser], api: ApiClient, role: str, adds: int, removes: int
) -> None:
    api.post("/v1/suppressions", {"value": "ann@example.com"})
    browsers[role].sign_in()
    html = browsers[role].get("/console/suppressions").html
    assert html.count(">Suppress<") == adds
    assert html.count(">Allow mail again<") == removes


def test_stop_of_all_sending_is_shown_and_ended(browser: Browser, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        stop = {"stop_code": "AccountSuspended", "stop_reason": "The account is suspended."}
        connection.execute(sa.update(sender_state).values(stop))
    assert "All sending is stopped. The account is suspended." in browser.get("/console/campaigns").text
    page = browser.get("/console/sending")
    assert "Resume sending" in page.text
    shown = browser.post("/console/sending/resume", {"request": page.field("request")})
    assert "Sending is not stopped." in shown.text


def test_viewer_cannot_resume_sending(browsers: dict[str, Browser], engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(sa.update(sender_state).values(stop_code="x", stop_reason="y"))
    browsers["viewer"].sign_in()
    assert "Resume sending" not in browsers["viewer"].get("/console/sending").text
    assert browsers["viewer"].post("/console/sending/resume").status == 403


SECRET = re.compile(r"whsec_[\w+/=]+")
ENDPOINT = {"url": "https://example.com/hook", "event_types": ["lead.replied", "campaign.completed"]}


def test_webhook_endpoint_is_made_and_its_secret_shown_once(browser: Browser, clients: dict[str, ApiClient]) -> None:
    shown = browser.post("/console/settings/webhooks", ENDPOINT)
    assert len(SECRET.findall(shown.html)) == 1
    assert SECRET.findall(browser.get("/console/settings/webhooks").html) == []
    (made,) = clients["admin"].get("/v1/webhook-endpoints").json["items"]
    assert made["event_types"] == ENDPOINT["event_types"]


def test_webhook_endpoint_is_tried_disabled_given_a_secret_and_deleted(
    browser: Browser, clients: dict[str, ApiClient]
) -> None:
    browser.post("/console/settings/webhooks", ENDPOINT)
    (made,) = clients["admin"].get("/v1/webhook-endpoints").json["items"]
    page = f"/console/settings/webhooks/{made['id']}"
    assert "A test event is on its way." in browser.post(page, {"do": "test"}).text
    assert len(clients["admin"].get(f"/v1/webhook-endpoints/{made['id']}/deliveries").json["items"]) == 1
    assert "Enable" in browser.post(page, {"do": "disable"}).text
    assert browser.post(page, {"do": "test"}).status == 409
    assert "delivered once more" in browser.post(page, {"do": "replay"}).text
    assert len(SECRET.findall(browser.post(page, {"do": "rotate"}).html)) == 1
    assert "No endpoints yet" in browser.post(page, {"do": "delete"}).text


def test_webhook_endpoint_that_is_not_valid_keeps_what_was_typed(browser: Browser) -> None:
    shown = browser.post("/console/settings/webhooks", {**ENDPOINT, "url": "ftp://example.com"})
    assert (shown.status, shown.field("url")) == (422, "ftp://example.com")
    assert shown.html.count(" checked") == 2


@pytest.mark.parametrize("role", ["viewer", "editor", "sender"])
def test_only_administrators_see_webhooks(browsers: dict[str, Browser], role: str) -> None:
    browsers[role].sign_in()
    assert "Webhooks" not in browsers[role].get("/console/settings").text
    assert browsers[role].get("/console/settings/webhooks").status == 403


def test_leads_and_the_emails_of_a_campaign_are_exported(browser: Browser, engine: sa.Engine) -> None:
    with engine.connect() as connection:
        campaign_id = make_campaign(connection, 1, status="completed", name="Autumn")
    page = browser.get(f"/console/campaigns/{campaign_id}")
    form = {"campaign_id": str(campaign_id), "request": page.field("request")}
    assert "Emails of Autumn" in browser.post("/console/settings/exports", form).text
    browser.post("/console/settings/exports", {"for": "excel", "request": "b" * 32})
    with engine.begin() as connection:
        made = connection.execute(sa.select(exports.c.kind, exports.c.made_for).order_by(exports.c.kind)).all()
    assert [tuple(each) for each in made] == [("campaign_ledger", None), ("leads", "excel")]


def test_front_page_warns_before_the_last_key_of_an_administrator_expires(
    browser: Browser, connection: sa.Connection
) -> None:
    assert "last key of an administrator" not in browser.get("/console/campaigns").text
    soon = sa.func.now() + sa.text("interval '2 days'")
    connection.execute(sa.update(api_keys).values(expires_at=soon))
    connection.commit()
    shown = browser.get("/console/campaigns")
    assert "The last key of an administrator expires" in shown.text
    assert 'href="/console/settings">Make another one' in shown.html
