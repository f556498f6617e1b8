"""A campaign that has ended long ago, of which everything has come back that can come back."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from local.ses_simulator import AcceptedEmail, SesSimulator
from sendledger.campaigns import campaign_counts, campaigns, lifecycle
from sendledger.core.settings import MailSettings, RetentionSettings
from sendledger.core.signed_tokens import EmailReference
from sendledger.core.tables import campaigns as campaigns_table
from sendledger.core.vocabulary import ReplySource, UnsubscribeMethod, UnsubscribeScope
from sendledger.feedback import replies, unsubscribe
from sendledger.feedback.read_reply import reply_from_fields
from sendledger.feedback.read_ses_events import SesEvent, read_ses_event
from sendledger.feedback.record_events import record_events
from sendledger.retention.run import remove_old
from sendledger.sending.tick import Resources, send_due_emails
from testbed.campaigns import DAY, NO_DELAY, make_campaign, make_variants, make_workflow, pass_time, rows_of
from testbed.databases import working_as
from testbed.senders import sender_resources
from testbed.ses_events import ACCOUNT, CONFIGURATION_SET, event_of

MAIL = {
    "UNSUBSCRIBE_KEYS": "k1:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
    "REPLY_DOMAIN": "reply.example.com",
}
KEYS = MailSettings.read(MAIL).unsubscribe_keys
NAMES = ("opens", "clicks", "bounces", "complains", "answers", "optsout", "fails", "quiet")
TRANSIENT: dict[str, Any] = {"bounceType": "Transient", "bounceSubType": "MailboxFull"}

NOW = dt.datetime.now(dt.UTC)
FROM, TO = NOW - 3 * DAY, NOW + DAY


@pytest.fixture
def resources(sender_engine: sa.Engine, ses: SesSimulator) -> Resources:
    return sender_resources(sender_engine, ses.url, **MAIL)


@pytest.fixture
def retention_engine(engine: sa.Engine) -> Iterator[sa.Engine]:
    """Connections as the function has them."""
    with working_as("retention", engine) as created:
        yield created


def report(engine: sa.Engine, *documents: Any) -> None:
    """SES reports these events."""
    events = [read_ses_event(json.dumps(document), ACCOUNT, CONFIGURATION_SET) for document in documents]
    with working_as("events", engine) as as_function, as_function.begin() as connection:
        record_events(connection, [event for event in events if isinstance(event, SesEvent)])


def receive(engine: sa.Engine, sender: str, **parts: Any) -> replies.ReceivedReply:
    answer = reply_from_fields(sender, "Re: Hello", "Yes!", **{"message_id": f"<{uuid.uuid4()}@x>", **parts})
    with working_as("events", engine) as as_function:
        return replies.receive(as_function, answer, ReplySource.API, "campaign", KEYS)


def end_long_ago(engine: sa.Engine, campaign_id: uuid.UUID, days: int = 400) -> None:
    """The campaign has ended so many days ago."""
    with engine.begin() as connection:
        ago = sa.func.now() - days * DAY
        own = campaigns_table.c
        times = {name: sa.case((own[name].is_not(None), ago)) for name in ("completed_at", "cancelled_at", "failed_at")}
        connection.execute(sa.update(campaigns_table).where(own.id == campaign_id).values(times))


def address(name: str) -> str:
    return f"{name}@example.com"


@pytest.fixture
def ended(engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator) -> uuid.UUID:
    """Two steps, the first one with two variants, to leads of whom each does something else."""
    workflow_id = make_workflow(connection, [NO_DELAY, DAY])
    make_variants(connection, workflow_id, (1, 1))
    values: dict[str, Any] = {"workflow_id": workflow_id, "track_opens": True, "track_clicks": True}
    campaign_id = make_campaign(connection, [address(name) for name in NAMES], **values)
    ses.add_fault("bad_request", address=address("fails"))
    lifecycle.start_campaign(engine, campaign_id)
    send_due_emails(resources, 30.0)
    sent = {email.destination[0].partition("@")[0]: email for email in ses.accepted()}
    report(engine, *_events(sent))
    receive(engine, address("answers"))
    row = next(
        each for each in rows_of(engine, campaign_id) if str(each["id"]) == sent["optsout"].tags["scheduled_email_id"]
    )
    with engine.begin() as changing:
        email = EmailReference(row["id"], campaign_id, row["lead_id"])
        unsubscribe.opt_out(changing, email, UnsubscribeScope.EVERYTHING, UnsubscribeMethod.ONE_CLICK)
    pass_time(engine, DAY)
    send_due_emails(resources, 30.0)
    end_long_ago(engine, campaign_id)
    return campaign_id


def _events(sent: dict[str, AcceptedEmail]) -> list[Any]:
    delivered = ("opens", "clicks", "complains", "answers", "optsout")
    return [
        *(event_of(sent[name], "Delivery", 5) for name in delivered),
        event_of(sent["opens"], "Open"),
        event_of(sent["clicks"], "Open"),
        event_of(sent["clicks"], "Click"),
        event_of(sent["bounces"], "Bounce", bounceType="Permanent", bounceSubType="General"),
        event_of(sent["complains"], "Complaint"),
        event_of(sent["quiet"], "Bounce", **TRANSIENT),
    ]


def run_retention(retention_engine: sa.Engine, **days: str) -> dict[str, int]:
    """One run to its end, with these settings."""
    settings = RetentionSettings.read({name.upper(): value for name, value in days.items()})
    return dict(remove_old(retention_engine, settings, float("inf")))


def statistics(engine: sa.Engine, campaign_id: uuid.UUID) -> dict[str, Any]:
    """Everything that is told of a campaign and of all campaigns as numbers, and does not change as time passes."""
    with engine.begin() as connection:
        campaign = campaigns.get_campaign(connection, campaign_id)
        stats = campaign_counts.campaign_stats(connection, campaign)
        hours = campaign_counts.timeline(connection, campaign_id, "hour", FROM, TO)
        days = campaign_counts.timeline(connection, campaign_id, "day", FROM, TO)
        return {
            "campaign": {name: value for name, value in campaign.items() if name != "updated_at"},
            "stats": {name: value for name, value in stats.items() if name != "emails_per_second"},
            "hours": hours["items"],
            "days": days["items"],
            "last_30_days": campaign_counts.overview(connection)["last_30_days"],
        }
