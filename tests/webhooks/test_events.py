"""What happens is written for the endpoints that want it, in the transaction of the change, and for nobody else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from local.ses_simulator import SesSimulator
from sendledger.campaigns import lifecycle
from sendledger.core.signed_tokens import EmailReference
from sendledger.core.tables import exports, lead_batches, replies, sender_state, unsubscribes, webhook_deliveries
from sendledger.core.vocabulary import UnsubscribeMethod, UnsubscribeScope, WebhookEventType
from sendledger.feedback import suppressions, unsubscribe
from sendledger.feedback.suppressions import NewSuppression
from sendledger.ledger import sender_state as stops
from sendledger.preflight import diagnose
from sendledger.sending import tick
from sendledger.sending.tick import Resources
from testbed.campaigns import make_campaign
from testbed.databases import working_as

MakeEndpoint = Callable[..., sa.RowMapping]
NOWHERE = "http://127.0.0.1:1/"
EVERYTHING = [str(type_) for type_ in WebhookEventType]


def written(engine: sa.Engine, *types: str) -> list[tuple[str, Any]]:
    with engine.connect() as connection:
        query = sa.select(webhook_deliveries).order_by(webhook_deliveries.c.id)
        rows = connection.execute(query).mappings().all()
    return [(row["event_type"], row["data"]) for row in rows if not types or row["event_type"] in types]


def test_life_of_a_campaign_is_told(engine: sa.Engine, connection: sa.Connection, make_endpoint: MakeEndpoint) -> None:
    make_endpoint(NOWHERE, *EVERYTHING)
    campaign_id = make_campaign(connection, ["ann@example.com"])
    lifecycle.start_campaign(engine, campaign_id)
    lifecycle.pause_campaign(engine, campaign_id)
    lifecycle.resume_campaign(engine, campaign_id)
    lifecycle.cancel_campaign(engine, campaign_id)
    told = written(engine)
    assert [type_ for type_, _ in told] == [
        *("campaign.started", "campaign.paused", "campaign.resumed", "campaign.cancelled"),
    ]
    assert {data["campaign_id"] for _, data in told} == {str(campaign_id)}
    assert told[1][1]["previous_status"] == "running"


def test_sender_tells_of_each_email_and_of_the_end(
    engine: sa.Engine,
    connection: sa.Connection,
    make_endpoint: MakeEndpoint,
    resources: Resources,
    ses: SesSimulator,
) -> None:
    make_endpoint(NOWHERE, *EVERYTHING)
    campaign_id = make_campaign(connection, ["ann@example.com", "bob@example.com"])
    lifecycle.start_campaign(engine, campaign_id)
    tick.send_due_emails(resources, 20)
    sent = written(engine, "email.sent")
    assert len(sent) == 2
    assert {data["step"] for _, data in sent} == {1}
    assert all(data["email_id"] and data["scheduled_email_id"] and data["lead_id"] for _, data in sent)
    assert len(written(engine, "campaign.completed")) == 1


def test_stop_is_told_again_after_sending_has_worked(
    engine: sa.Engine, connection: sa.Connection, make_endpoint: MakeEndpoint, resources: Resources, ses: SesSimulator
) -> None:
    make_endpoint(NOWHERE, "sender.stopped")
    lifecycle.start_campaign(engine, make_campaign(connection, ["ann@example.com"]))

    def stop() -> int:
        with engine.begin() as changing:
            stops.stop(changing, "daily_quota", "The quota is used up.", 0.0)
        return len(written(engine))

    assert (stop(), stop()) == (1, 1)
    assert tick.send_due_emails(resources, 20).sent == 1
    assert stop() == 2


def test_account_that_may_not_send_is_told_once_until_it_may_again(
    engine: sa.Engine, make_endpoint: MakeEndpoint
) -> None:
    make_endpoint(NOWHERE, "sender.stopped")
    blocked = "account: SES has paused this account: bounces."
    for said in (blocked, blocked, None, "quota_unknown: SES did not say.", "daily_quota: It is used up.", blocked):
        with working_as("sender", engine) as own, own.begin() as connection:
            diagnose.note_tick(connection, 10.0, said)
    told = [(data["stop_code"], data["reason"]) for _, data in written(engine)]
    paused = ("account", "SES has paused this account: bounces.")
    assert told == [paused, ("daily_quota", "It is used up."), paused]


def test_stop_that_was_told_when_it_began_is_not_told_at_the_end_of_its_tick(
    engine: sa.Engine, make_endpoint: MakeEndpoint
) -> None:
    make_endpoint(NOWHERE, "sender.stopped")
    with engine.begin() as connection:
        stops.stop(connection, "daily_quota", "It is used up.", 600.0)
    with engine.begin() as connection:
        diagnose.note_tick(connection, 10.0, "daily_quota: It is used up.")
    assert len(written(engine)) == 1


def test_nothing_is_written_where_nobody_wants_it(
    engine: sa.Engine,
    connection: sa.Connection,
    make_endpoint: MakeEndpoint,
    resources: Resources,
    ses: SesSimulator,
) -> None:
    make_endpoint(NOWHERE, "lead.replied")
    other = make_campaign(connection, ["carl@example.com"])
    make_endpoint(NOWHERE, "email.sent", campaign_ids=[other])
    campaign_id = make_campaign(connection, ["ann@example.com"])
    lifecycle.start_campaign(engine, campaign_id)
    tick.send_due_emails(resources, 20)
    assert written(engine) == []


def test_change_that_is_rolled_back_is_never_told(engine: sa.Engine, make_endpoint: MakeEndpoint) -> None:
    make_endpoint(NOWHERE, "lead.suppressed")
    with engine.connect() as connection:
        suppressions.suppress(connection, "ann@example.com", "manual", "bob")
        connection.rollback()
    assert written(engine) == []


def test_list_of_suppressions_is_told_in_one_statement(engine: sa.Engine, make_endpoint: MakeEndpoint) -> None:
    make_endpoint(NOWHERE, "lead.suppressed")
    given = [NewSuppression(f"{number}@example.com", "import") for number in range(500)]
    with engine.begin() as connection:
        suppressions.suppress_all(connection, given, "bob")
        suppressions.suppress_all(connection, given, "bob")
    assert len(written(engine, "lead.suppressed")) == 500


@pytest.mark.parametrize(
    ("event", "is_machine", "told"),
    [
        ("Delivery", False, ["email.delivered"]),
        ("Bounce", False, ["email.bounced"]),
        ("Complaint", False, ["email.complained"]),
        ("Open", False, ["email.opened"]),
        ("Click", False, ["email.clicked"]),
        ("Open", True, []),
        ("Send", False, []),
        ("DeliveryDelay", False, []),
    ],
)
def test_events_of_ses_are_told_but_for_those_of_machines(
    engine: sa.Engine, make_endpoint: MakeEndpoint, event: str, is_machine: bool, told: list[str]
) -> None:
    make_endpoint(NOWHERE, *EVERYTHING)
    insert = sa.text("""
        INSERT INTO email_events (event_key, email_id, ses_message_id, event_type, occurred_at, is_machine)
        VALUES ('k', gen_random_uuid(), 'm', :event, now(), :is_machine)
    """)
    with working_as("events", engine) as own, own.begin() as connection:
        connection.execute(insert, {"event": event, "is_machine": is_machine})
    assert [type_ for type_, _ in written(engine)] == told


def test_opt_out_that_widens_is_told_again(
    engine: sa.Engine, connection: sa.Connection, make_endpoint: MakeEndpoint
) -> None:
    make_endpoint(NOWHERE, "lead.unsubscribed")
    campaign_id = make_campaign(connection, ["ann@example.com"])
    with engine.begin() as changing:
        email = EmailReference(1, campaign_id, changing.scalars(sa.text("SELECT id FROM leads")).one())
        for scope in (UnsubscribeScope.CAMPAIGN, UnsubscribeScope.EVERYTHING, UnsubscribeScope.EVERYTHING):
            unsubscribe.opt_out(changing, email, scope, UnsubscribeMethod.PAGE)
    assert [data["scope"] for _, data in written(engine)] == ["campaign", "everything"]


def test_what_leads_do_and_what_ends_in_the_background_is_told(
    engine: sa.Engine, connection: sa.Connection, make_endpoint: MakeEndpoint
) -> None:
    make_endpoint(NOWHERE, *EVERYTHING)
    campaign_id = make_campaign(connection, ["ann@example.com"])
    with engine.begin() as changing:
        lead_id = changing.scalar(sa.text("SELECT id FROM leads"))
        reply = {"message_id": "1", "source": "api", "from_address": "a", "subject": "", "body_text": ""}
        changing.execute(sa.insert(replies), {**reply, "lead_id": lead_id, "matched_by": "address"})
        changing.execute(sa.insert(replies), {**reply, "message_id": "2"})
        opt_out = {"lead_id": lead_id, "campaign_id": campaign_id, "scheduled_email_id": 1}
        changing.execute(sa.insert(unsubscribes), {**opt_out, "scope": "everything", "method": "page"})
        changing.execute(sa.update(lead_batches).values(completed_at=None))
        changing.execute(sa.update(lead_batches).values(completed_at=sa.func.now()))
        changing.execute(sa.update(lead_batches).values(updated_at=sa.func.now()))
        changing.execute(sa.insert(exports), {"kind": "leads", "requested_by": "ann"})
        changing.execute(sa.update(exports).values(status="completed", object_key="k"))
        changing.execute(sa.update(sender_state).values(stop_code="quota", stop_reason="The quota is used up."))
        changing.execute(sa.update(sender_state).values(stop_reason="Still."))
    assert sorted(type_ for type_, _ in written(engine)) == [
        *("export.completed", "import.completed", "lead.replied", "lead.unsubscribed", "sender.stopped"),
    ]
