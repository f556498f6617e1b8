"""The console's pages of sending: SES, senders and domains, what came back, and the sender's ticks."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

import api_resources
from local.ses_simulator import SesSimulator
from sendledger.core.tables import email_events
from sendledger.ledger import sender_ticks
from testbed.campaigns import make_campaign
from testbed.console_browser import Browser
from tests.functions.campaign_api.api_client import ApiClient
from tests.functions.campaign_api.console.test_campaign_pages import ses_account

__all__ = ["ses_account"]

TICK = {"claimed": 4, "sent": 3, "failed": 1, "skipped": 0, "unknown": 0, "rate": 13.3, "stopped": None}


@pytest.fixture
def own_address(monkeypatch: pytest.MonkeyPatch, ses_account: None) -> None:
    """The deployment sends from an address whose name the DNS does not know."""
    monkeypatch.setenv("SENDER_FROM_ADDRESS", "Sales <sales@news.example>")
    monkeypatch.setenv("SES_CONFIGURATION_SET", "sendledger")
    api_resources.settings.cache_clear()


@pytest.fixture
def unreachable(own_address: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens where SES should be."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", "http://127.0.0.1:9")
    api_resources.ses_client.cache_clear()


def note(engine: sa.Engine, **changes: object) -> None:
    with engine.begin() as connection:
        sender_ticks.note(connection, {**TICK, **changes}, is_further=False)


def test_quota_and_rate_of_ses_are_shown(browser: Browser, own_address: None, ses: SesSimulator) -> None:
    text = browser.get("/console/sending").text
    assert "What SES allows now" in text
    assert "Emails in 24 hours 0" in text
    assert "emails a second" in text


def test_each_domain_shows_what_the_preflight_sees(browser: Browser, own_address: None, ses: SesSimulator) -> None:
    ses.account.identities["sales@news.example"] = None
    ses.account.identities["news.example"] = None
    text = browser.get("/console/sending").text
    assert "Sales <sales@news.example> Fix this SES has no identity for news.example; verify the domain." in text


def test_unreachable_ses_is_said_and_the_page_shows_the_rest(
    browser: Browser, unreachable: None, engine: sa.Engine
) -> None:
    note(engine)
    page = browser.get("/console/sending")
    assert page.status == 200
    assert "SES could not be asked" in page.text
    assert "The last ticks" in page.text


def test_use_of_each_sender_is_shown_against_its_cap(browser: Browser, api: ApiClient) -> None:
    api.post("/v1/senders", {"from_address": "nora@sales.example", "daily_cap": 40})
    assert "nora@sales.example 0 of at most 40" in browser.get("/console/sending").text


def test_rate_of_complaints_is_shown_with_its_limit(browser: Browser, engine: sa.Engine) -> None:
    with engine.connect() as connection:
        campaign_id = make_campaign(connection, 1)
    with engine.begin() as connection:
        counted = "INSERT INTO campaign_counts (campaign_id, what, step_number, hour, count) VALUES (:id, 'sent', 1, "
        connection.execute(sa.text(f"{counted} date_trunc('hour', now(), 'UTC'), 2000)"), {"id": str(campaign_id)})
        event = {"event_key": "x", "campaign_id": campaign_id, "ses_message_id": "m", "event_type": "Complaint"}
        connection.execute(sa.insert(email_events).values(**event, occurred_at=sa.func.now()))
    text = browser.get("/console/sending").text
    assert "Complaints 0.05 % (1 of 2,000)" in text
    assert "SES reviews an account at 0.10 %." in text


def test_ticks_are_shown_with_what_kept_them_from_sending(browser: Browser, engine: sa.Engine) -> None:
    note(engine, stopped="account: Sending is paused for this SES account.", sent=0)
    note(engine)
    for path in ("/console/sending", "/console/sending/ticks"):
        text = browser.get(path).text
        assert text.index(" 3 1 0 0 13.3") < text.index("Sending is paused for this SES account.")


def test_oldest_ticks_are_forgotten(engine: sa.Engine, api: ApiClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender_ticks, "KEPT", 2)
    for sent in range(4):
        note(engine, sent=sent)
    assert [tick["sent"] for tick in api.get("/v1/sender/ticks").json["items"]] == [3, 2]


def test_live_part_does_not_ask_ses(browser: Browser, unreachable: None) -> None:
    part = browser.get("/console/sending/live")
    assert "Senders today" in part.text
    assert "could not be asked" not in part.text
