"""The frame that shows an email: it holds the email, or the reason why there is none."""

from __future__ import annotations

import pytest

from testbed.console_browser import Browser
from tests.functions.campaign_api.api_client import ApiClient

TYPED = {"name": "A", "subject": "Hello {{ contact_name }}", "body_text": "", "body_html": ""}


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        ({}, "body_html: one of body_text and body_html is needed"),
        (
            {"body_html": "<p>{{ contact_name"},
            "body_html: line 1: unexpected end of template, expected 'end of print statement'",
        ),
        ({"body_html": "<p>x</p>", "subject": ""}, "subject: must have at least 1 characters"),
    ],
    ids=["no text yet", "half a placeholder", "no subject"],
)
def test_frame_of_an_unfinished_email_says_what_is_missing(
    browser: Browser, typed: dict[str, str], reason: str
) -> None:
    shown = browser.post("/console/templates/preview-html", TYPED | typed)
    assert shown.status == 200
    assert reason in shown.text


def test_frame_shows_the_text_of_an_email_without_html(browser: Browser) -> None:
    shown = browser.post("/console/templates/preview-html", TYPED | {"body_text": "Dear <b>{{ contact_name }}</b>"})
    assert (shown.status, shown.html) == (200, "<pre>Dear &lt;b&gt;Jane Miller&lt;/b&gt;</pre>")


def test_frame_of_a_stored_template_says_why_it_is_empty(browser: Browser, api: ApiClient) -> None:
    template = api.post("/v1/email-templates", {"name": "A", "subject": "B", "body_text": "C"}).json
    shown = browser.get(f"/console/templates/{template['id']}/html?lead=nobody")
    assert shown.status == 200
    assert "lead_id: must be a UUID" in shown.text
