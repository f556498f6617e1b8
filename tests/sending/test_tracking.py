"""Tracking is a choice of the campaign, and off."""

from __future__ import annotations

from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from local.ses_simulator import SesSimulator
from local.ses_simulator.eml import assemble
from sendledger.campaigns import lifecycle
from sendledger.sending.tick import send_due_emails
from testbed.campaigns import make_campaign, make_template
from testbed.databases import SCRIPTS
from testbed.senders import sender_resources

BEFORE = "0025"
"""The revision before campaigns had a choice."""

HTML = '<p><a href="https://example.com/offer?a=1&amp;b=2">offer</a> <a href="{{ unsubscribe_url }}">stop</a></p>'
MAIL = {
    "PUBLIC_URL": "https://mail.example.com",
    "UNSUBSCRIBE_KEYS": "k1:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
    "POSTAL_ADDRESS": "1 Main Street, Springfield",
}


def delivered(
    engine: sa.Engine, connection: sa.Connection, sender_engine: sa.Engine, ses: SesSimulator, **campaign: Any
) -> tuple[dict[str, str], str]:
    """What the message of such a campaign says about tracking, and the HTML that its recipient gets."""
    template_id = make_template(connection, body_html=HTML)
    campaign_id = make_campaign(connection, 1, email_template_id=template_id, **campaign)
    lifecycle.start_campaign(engine, campaign_id)
    send_due_emails(sender_resources(sender_engine, ses.url, **MAIL), 60.0)
    (email,) = ses.accepted()
    message = message_from_bytes(assemble(email, region="us-east-1"), policy=default)
    assert isinstance(message, EmailMessage)
    html = message.get_body(("html",))
    assert isinstance(html, EmailMessage)
    return email.request["ConfigurationOverrides"]["Tracking"], html.get_content()


def test_campaign_tracks_nothing_by_default(
    engine: sa.Engine, connection: sa.Connection, sender_engine: sa.Engine, ses: SesSimulator
) -> None:
    said, html = delivered(engine, connection, sender_engine, ses)
    assert said == {"OpenTrackingEnabled": "DISABLED", "ClickTrackingEnabled": "DISABLED"}
    assert 'href="https://example.com/offer?a=1&amp;b=2"' in html
    assert "awstrack" not in html
    assert "<img" not in html


def test_opens_are_tracked_by_a_picture_and_links_stay(
    engine: sa.Engine, connection: sa.Connection, sender_engine: sa.Engine, ses: SesSimulator
) -> None:
    said, html = delivered(engine, connection, sender_engine, ses, track_opens=True)
    assert said == {"OpenTrackingEnabled": "ENABLED", "ClickTrackingEnabled": "DISABLED"}
    assert html.count("<img") == html.count("awstrack") == 1
    assert 'href="https://example.com/offer?a=1&amp;b=2"' in html


def test_clicks_are_tracked_but_for_the_link_to_unsubscribe(
    engine: sa.Engine, connection: sa.Connection, sender_engine: sa.Engine, ses: SesSimulator
) -> None:
    said, html = delivered(engine, connection, sender_engine, ses, track_clicks=True)
    assert said == {"OpenTrackingEnabled": "DISABLED", "ClickTrackingEnabled": "ENABLED"}
    assert "https://example.com/offer" not in html
    assert html.count("awstrack") == 1
    assert html.count('href="https://mail.example.com/u/') == 1
    assert "ses:no-track" not in html
    assert "<img" not in html


@pytest.mark.parametrize(("status", "tracks"), [("running", True), ("completed", True), ("draft", False)])
def test_campaign_from_before_the_choice_goes_on_as_it_did(
    connection: sa.Connection, status: str, *, tracks: bool
) -> None:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", SCRIPTS)
    campaign_id = make_campaign(connection, 1, status=status)
    command.downgrade(config, BEFORE)
    command.upgrade(config, "head")
    query = sa.text("SELECT track_opens, track_clicks FROM campaigns WHERE id = :id")
    assert connection.execute(query, {"id": campaign_id}).one() == (tracks, tracks)
