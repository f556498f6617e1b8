"""What SES reports moves an email forward, once, whenever and however often it is told."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from local.ses_simulator import AcceptedEmail, SesSimulator
from sendledger.campaigns import completion, lifecycle, remove_lead
from sendledger.core.settings import GuardrailSettings
from sendledger.core.signed_tokens import EmailReference
from sendledger.core.tables import audit_log, campaign_leads, email_events, emails, leads, scheduled_emails
from sendledger.core.tables import campaigns as campaigns_table
from sendledger.core.tables import suppressions as suppressions_table
from sendledger.core.vocabulary import UnsubscribeMethod, UnsubscribeScope
from sendledger.feedback import suppressions, unsubscribe
from sendledger.feedback.ingest_events import ingest_events
from sendledger.feedback.read_ses_events import SesEvent, read_ses_event
from sendledger.feedback.record_events import RecordedEvents, record_events
from sendledger.leads.erase_leads import erase
from sendledger.ledger import claim_emails, settle_unknown
from sendledger.sending.tick import Resources, send_due_emails
from testbed.campaigns import DAY, NO_DELAY, campaign_row, make_campaign, pass_time, rows_of, statuses
from testbed.databases import wait_until, working_as
from testbed.invariants import assert_ledger_is_consistent
from testbed.ses_events import ACCOUNT, CONFIGURATION_SET, TYPES, count_rows, event_of

SECONDS = 60.0
TRANSIENT: dict[str, Any] = {"bounceType": "Transient", "bounceSubType": "MailboxFull"}
Send = Callable[..., list[AcceptedEmail]]
WAITS_FOR_A_LOCK = """
    EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')"""
LEAD = uuid.UUID(int=1)
OTHERS = {"contact_name": "Ann Lee", "industry": "spa", "source": "test"}


@pytest.fixture
def send(engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator) -> Send:
    """Sends the first step of a new campaign of two steps; returns what SES accepted, by address."""

    def send(*addresses: str) -> list[AcceptedEmail]:
        before = len(ses.accepted())
        campaign_id = make_campaign(connection, list(addresses), [NO_DELAY, DAY])
        lifecycle.start_campaign(engine, campaign_id)
        send_due_emails(resources, SECONDS)
        return sorted(ses.accepted()[before:], key=lambda email: addresses.index(email.destination[0]))

    return send


def campaign_of(email: AcceptedEmail) -> uuid.UUID:
    return uuid.UUID(email.tags["campaign_id"])


def read(*documents: Any) -> list[SesEvent]:
    found = [read_ses_event(json.dumps(document), ACCOUNT, CONFIGURATION_SET) for document in documents]
    return [event for event in found if isinstance(event, SesEvent)]


def record(engine: sa.Engine, *documents: Any) -> RecordedEvents:
    """Record these events as one batch."""
    with working_as("events", engine) as as_function:
        with as_function.begin() as connection:
            done = record_events(connection, read(*documents), are_of_sent=True)
        with as_function.begin() as connection:
            done.add(record_events(connection, done.left))
    return done


def the_email(engine: sa.Engine, accepted: AcceptedEmail) -> sa.RowMapping:
    query = sa.select(emails).where(emails.c.external_id == accepted.message_id)
    with engine.connect() as connection:
        return connection.execute(query).mappings().one()


def reason_of(engine: sa.Engine, address: str) -> str | None:
    query = sa.select(suppressions_table.c.reason).where(
        suppressions_table.c.value == address, suppressions_table.c.removed_at.is_(None)
    )
    with engine.connect() as connection:
        return connection.scalar(query)


def test_delivered_email_is_delivered(engine: sa.Engine, send: Send) -> None:
    (ann,) = send("ann@example.com")
    done = record(engine, event_of(ann, "Send", 0), event_of(ann, "Delivery", 2))
    assert done.counts == {"Send": 1, "Delivery": 1}
    email = the_email(engine, ann)
    assert (email["delivery_status"], email["status"]) == ("delivered", "delivered")
    assert email["delivered_at"] - ann.accepted_at < dt.timedelta(seconds=3)
    assert campaign_row(engine, campaign_of(ann))["emails_delivered_count"] == 1


@pytest.mark.parametrize("type_", TYPES)
def test_every_event_is_stored_with_its_email(
    engine: sa.Engine, connection: sa.Connection, send: Send, type_: str
) -> None:
    (ann,) = send("ann@example.com")
    record(engine, event_of(ann, type_))
    event = connection.execute(sa.select(email_events)).mappings().one()
    (row, _) = rows_of(engine, campaign_of(ann))
    assert (event["event_type"], event["ses_message_id"]) == (type_, ann.message_id)
    assert (event["scheduled_email_id"], event["campaign_id"]) == (row["id"], row["campaign_id"])
    assert (event["email_id"], event["lead_id"]) == (row["email_id"], row["lead_id"])
    assert "ann@" not in json.dumps(event["detail"])


def test_event_that_arrives_again_changes_nothing(engine: sa.Engine, send: Send) -> None:
    (ann,) = send("ann@example.com")
    events = [event_of(ann, type_) for type_ in ("Delivery", "Open", "Open", "Click")]
    record(engine, *events)
    again = record(engine, *(event | {"id": "other"} for event in events))
    assert again.counts == {"duplicate": 4}
    assert (the_email(engine, ann)["open_count"], the_email(engine, ann)["click_count"]) == (1, 1)


def test_event_that_says_nothing_new_leaves_its_email_alone(
    engine: sa.Engine, connection: sa.Connection, send: Send
) -> None:
    """Each email has a Send event, and its sender has recorded as much."""
    ann, bob = send("ann@example.com", "bob@example.com")
    version = sa.select(emails.c.to_address, sa.literal_column("emails.xmin::text")).order_by(emails.c.to_address)
    before = connection.execute(version).all()
    assert record(engine, event_of(ann, "Send"), event_of(bob, "Send")).counts == {"Send": 2}
    connection.rollback()
    assert connection.execute(version).all() == before
    record(engine, event_of(ann, "DeliveryDelay"))
    connection.rollback()
    assert [now == earlier for now, earlier in zip(connection.execute(version), before, strict=True)] == [False, True]
    assert count_rows(connection, email_events) == 3


@pytest.mark.parametrize("campaign", ["there", "deleted"])
def test_event_that_two_functions_are_told_at_once_is_recorded_once(
    engine: sa.Engine, connection: sa.Connection, send: Send, campaign: str
) -> None:
    (ann,) = send("ann@example.com")
    if campaign == "deleted":
        with engine.begin() as own:
            own.execute(sa.delete(campaigns_table))
    events = read(event_of(ann, "Delivery"))
    with engine.connect() as first, ThreadPoolExecutor(1) as pool:
        assert record_events(first, events).counts == {"Delivery": 1}
        second = pool.submit(ingest_events, engine, events, GuardrailSettings.read({}))
        wait_until(engine, WAITS_FOR_A_LOCK)
        first.commit()
        ingested = second.result()
    assert (ingested.recorded.counts, ingested.failed_keys) == ({"duplicate": 1}, set())
    assert count_rows(connection, email_events) == 1
    assert the_email(engine, ann)["delivery_status"] == "delivered"


def test_what_changes_no_lead_is_not_looked_up(engine: sa.Engine, send: Send) -> None:
    """What can change until it is locked is looked up again then."""
    ann, bob = send("ann@example.com", "bob@example.com")
    looked_up: list[int] = []

    def look(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "AS same_claim" in statement:
            looked_up.append(parameters[0].count(",") + 1)

    with engine.connect() as connection:
        sa.event.listen(connection, "before_cursor_execute", look)
        events = read(event_of(ann, "Delivery"), event_of(bob, "Send"), event_of(bob, "Complaint"))
        done = record_events(connection, events, are_of_sent=True)
    assert looked_up == [1, 1]
    assert done.counts == {"Delivery": 1, "Send": 1, "Complaint": 1}


@pytest.mark.parametrize(
    "differs",
    [
        "claim_token = gen_random_uuid()",
        "claim_token = NULL",
        "ses_message_id = 'another'",
        "ses_message_id = NULL",
        "email_id = NULL",
        "status = 'sending', sent_at = NULL, lease_until = now()",
        "status = 'failed', sent_at = NULL, failed_at = now(), error_code = 'outcome_unknown'",
    ],
)
def test_event_of_an_email_that_is_not_recorded_as_its_own_is_left(
    engine: sa.Engine, connection: sa.Connection, send: Send, differs: str
) -> None:
    ann, bob = send("ann@example.com", "bob@example.com")
    of_ann, of_bob = read(event_of(ann, "Delivery"), event_of(bob, "Delivery"))
    with engine.begin() as own:
        own.execute(sa.text(f"UPDATE scheduled_emails SET {differs} WHERE id = :id"), {"id": of_ann.scheduled_email_id})
    with engine.begin() as own:
        done = record_events(own, [of_ann, of_bob], are_of_sent=True)
    assert (done.left, done.counts) == ([of_ann], {"Delivery": 1})
    assert connection.scalars(sa.select(email_events.c.event_key)).all() == [of_bob.key]


def test_event_with_the_tag_of_another_campaign_is_left(
    engine: sa.Engine, connection: sa.Connection, send: Send
) -> None:
    (ann,), (bob,) = send("ann@example.com"), send("bob@example.com")
    (event,) = read(event_of(ann, "Delivery"))
    mixed = dataclasses.replace(event, campaign_id=campaign_of(bob))
    with engine.begin() as own:
        assert record_events(own, [mixed], are_of_sent=True).left == [mixed]
    assert count_rows(connection, email_events) == 0


@pytest.mark.parametrize("type_", TYPES)
def test_event_that_waits_for_an_erasure_is_not_recorded_after_it(
    engine: sa.Engine, connection: sa.Connection, send: Send, type_: str
) -> None:
    """Nor does it touch the emptied email. That of another lead, in the same batch, is recorded."""
    ann, bob = send("ann@example.com", "bob@example.com")
    lead_id = next(
        row["lead_id"] for row in rows_of(engine, campaign_of(ann)) if row["ses_message_id"] == ann.message_id
    )
    with engine.connect() as erasing, ThreadPoolExecutor(1) as pool:
        erase(erasing, lead_id, "test", keep_suppressed=False)
        recording = pool.submit(record, engine, event_of(ann, type_), event_of(bob, "Delivery"))
        wait_until(engine, WAITS_FOR_A_LOCK)
        erasing.commit()
        assert recording.result().counts == {"unknown_email": 1, "Delivery": 1}
    assert connection.scalars(sa.select(email_events.c.ses_message_id)).all() == [bob.message_id]
    reported = sa.select(emails.c.delivery_status).where(emails.c.lead_id == lead_id)
    assert connection.scalar(reported) == "sent"


def test_late_event_does_not_move_a_status_back(engine: sa.Engine, send: Send) -> None:
    (ann,) = send("ann@example.com")
    for type_ in ("Complaint", "Bounce", "Delivery", "DeliveryDelay", "Send"):
        record(engine, event_of(ann, type_))
    email = the_email(engine, ann)
    assert (email["delivery_status"], email["status"]) == ("complained", "spam")
    assert email["delivered_at"] is not None
    assert email["bounced_at"] is not None


def test_opens_and_clicks_are_counted_per_email_lead_and_campaign(
    engine: sa.Engine, connection: sa.Connection, send: Send
) -> None:
    ann, _ = send("ann@example.com", "bob@example.com")
    record(engine, event_of(ann, "Open", 60), event_of(ann, "Click", 70), event_of(ann, "Open", 80))
    record(engine, event_of(ann, "Open", 90))
    email = the_email(engine, ann)
    assert (email["open_count"], email["click_count"], email["status"]) == (3, 1, "clicked")
    assert email["opened_at"] - ann.accepted_at < dt.timedelta(seconds=61)
    lead = connection.execute(sa.select(leads).where(leads.c.id == email["lead_id"])).mappings().one()
    assert (lead["emails_opened"], lead["emails_clicked"]) == (1, 1)
    campaign = campaign_row(engine, campaign_of(ann))
    assert (campaign["emails_opened_count"], campaign["emails_clicked_count"]) == (1, 1)
    assert (campaign["emails_opened"], campaign["emails_clicked"]) == (1, 1)


def test_machine_that_opens_is_marked_and_not_counted(engine: sa.Engine, connection: sa.Connection, send: Send) -> None:
    (ann,) = send("ann@example.com")
    record(engine, event_of(ann, "Open", userAgent="Mozilla/5.0"), event_of(ann, "Click", 3))
    email = the_email(engine, ann)
    assert (email["open_count"], email["opened_at"], email["status"]) == (0, None, "sent")
    kept = connection.execute(sa.select(email_events).order_by(email_events.c.occurred_at)).mappings()
    assert [(event["is_machine"], event["detail"]["machine"]) for event in kept] == [
        (True, "too_soon"),
        (True, "apple_privacy"),
    ]
    assert campaign_row(engine, campaign_of(ann))["emails_opened_count"] == 0


def test_permanent_bounce_suppresses_the_address_in_every_campaign(engine: sa.Engine, send: Send) -> None:
    ann, _ = send("Ann@example.com", "bob@example.com")
    (other,) = send("ann@example.com")
    done = record(engine, event_of(ann, "Bounce"))
    assert (done.suppressed, done.emails_skipped) == (1, 2)
    assert reason_of(engine, "ann@example.com") == "bounce"
    assert statuses(engine, campaign_of(ann)) == {"sent": 2, "pending": 1, "skipped": 1}
    assert statuses(engine, campaign_of(other)) == {"sent": 1, "skipped": 1}
    assert done.touched == {campaign_of(ann), campaign_of(other)}


OUT_OF_OFFICE: dict[str, Any] = {"bounceType": "Transient", "bounceSubType": "General"}
UNDETERMINED: dict[str, Any] = {"bounceType": "Undetermined", "bounceSubType": "Undetermined"}


@pytest.mark.parametrize("soft", [TRANSIENT, OUT_OF_OFFICE, UNDETERMINED])
def test_hard_and_soft_bounces_are_counted_apart(engine: sa.Engine, send: Send, soft: dict[str, Any]) -> None:
    ann, bob = send("ann@example.com", "bob@example.com")
    record(engine, event_of(ann, "Bounce"), event_of(bob, "Bounce", **soft), event_of(bob, "Bounce", 80, **soft))
    assert [the_email(engine, email)["delivery_status"] for email in (ann, bob)] == ["bounced", "soft_bounced"]
    assert [the_email(engine, email)["bounced_at"] is None for email in (ann, bob)] == [False, True]
    assert [the_email(engine, email)["soft_bounced_at"] is None for email in (ann, bob)] == [True, False]
    campaign = campaign_row(engine, campaign_of(ann))
    assert (campaign["emails_bounced_count"], campaign["emails_soft_bounced_count"]) == (1, 1)


@pytest.mark.parametrize("soft", [TRANSIENT, OUT_OF_OFFICE, UNDETERMINED])
@pytest.mark.parametrize("delivery_first", [True, False])
def test_soft_bounce_of_a_delivered_email_counts_as_no_bounce(
    engine: sa.Engine, send: Send, soft: dict[str, Any], delivery_first: bool
) -> None:
    (ann,) = send("ann@example.com")
    events = [event_of(ann, "Delivery", 2), event_of(ann, "Bounce", 5, **soft)]
    for event in events if delivery_first else reversed(events):
        record(engine, event)
    email = the_email(engine, ann)
    assert (email["delivery_status"], email["bounced_at"], email["soft_bounced_at"]) == ("delivered", None, None)
    campaign = campaign_row(engine, campaign_of(ann))
    counts = [campaign[f"emails_{name}_count"] for name in ("delivered", "bounced", "soft_bounced")]
    assert counts == [1, 0, 0]


def test_permanent_bounce_after_a_delivery_is_a_bounce(engine: sa.Engine, send: Send) -> None:
    (ann,) = send("ann@example.com")
    record(engine, event_of(ann, "Delivery"), event_of(ann, "Bounce", 300))
    assert the_email(engine, ann)["delivery_status"] == "bounced"


@pytest.mark.parametrize(("type_", "reason"), [("Complaint", "complaint"), ("Subscription", "unsubscribe")])
@pytest.mark.parametrize("with_tags", [True, False])
def test_opt_out_at_a_former_address_applies_to_the_new_one(
    engine: sa.Engine, connection: sa.Connection, send: Send, type_: str, reason: str, with_tags: bool
) -> None:
    ann, _ = send("ann@example.com", "bob@example.com")
    connection.execute(sa.update(leads).where(leads.c.email == "ann@example.com").values(email="Ann@new.example"))
    connection.commit()
    done = record(engine, event_of(ann if with_tags else dataclasses.replace(ann, tags={}), type_))
    assert (reason_of(engine, "ann@new.example"), reason_of(engine, "ann@example.com")) == (reason, reason)
    assert done.emails_skipped == 1
    assert statuses(engine, campaign_of(ann)) == {"sent": 2, "pending": 1, "skipped": 1}


def test_bounce_of_a_former_address_leaves_the_new_one_alone(
    engine: sa.Engine, connection: sa.Connection, send: Send
) -> None:
    (ann,) = send("ann@example.com")
    connection.execute(sa.update(leads).values(email="ann@new.example"))
    connection.commit()
    record(engine, event_of(ann, "Bounce"))
    assert (reason_of(engine, "ann@new.example"), reason_of(engine, "ann@example.com")) == (None, "bounce")


def test_complaint_suppresses_unless_its_type_is_not_spam(engine: sa.Engine, send: Send) -> None:
    ann, bob = send("ann@example.com", "bob@example.com")
    record(engine, event_of(ann, "Complaint"), event_of(bob, "Complaint", complaintFeedbackType="not-spam"))
    assert (reason_of(engine, "ann@example.com"), reason_of(engine, "bob@example.com")) == ("complaint", None)
    assert the_email(engine, bob)["delivery_status"] == "sent"
    assert campaign_row(engine, campaign_of(ann))["emails_complained_count"] == 1


def test_opt_out_at_ses_is_honoured_and_counted(engine: sa.Engine, send: Send) -> None:
    (ann,) = send("ann@example.com")
    record(engine, event_of(ann, "Subscription"), event_of(ann, "Subscription", 70))
    assert reason_of(engine, "ann@example.com") == "unsubscribe"
    assert campaign_row(engine, campaign_of(ann))["emails_unsubscribed_count"] == 1


def reference_of(engine: sa.Engine, email: AcceptedEmail) -> EmailReference:
    return EmailReference(
        int(email.tags["scheduled_email_id"]), campaign_of(email), the_email(engine, email)["lead_id"]
    )


def test_a_person_who_opts_out_in_several_ways_counts_once(
    engine: sa.Engine, resources: Resources, ses: SesSimulator, send: Send
) -> None:
    (first,) = send("ann@example.com")
    pass_time(engine, DAY)
    send_due_emails(resources, SECONDS)
    second = ses.accepted()[-1]
    reference = EmailReference(
        int(first.tags["scheduled_email_id"]), campaign_of(first), the_email(engine, first)["lead_id"]
    )
    record(engine, event_of(first, "Subscription"))
    with engine.begin() as own:
        unsubscribe.opt_out(own, reference, UnsubscribeScope.EVERYTHING, UnsubscribeMethod.ONE_CLICK)
    record(engine, event_of(second, "Subscription", 90))
    assert campaign_row(engine, campaign_of(first))["emails_unsubscribed_count"] == 1


def test_an_opt_out_at_ses_cannot_be_undone_by_the_link(engine: sa.Engine, send: Send) -> None:
    (ann,) = send("ann@example.com")
    record(engine, event_of(ann, "Subscription"))
    reference = reference_of(engine, ann)
    with engine.begin() as own:
        assert unsubscribe.sender_and_choice(own, reference) == (None, False)
        assert not unsubscribe.undo(own, reference)
    assert reason_of(engine, "ann@example.com") == "unsubscribe"
    assert campaign_row(engine, campaign_of(ann))["emails_unsubscribed_count"] == 1


def test_third_transient_bounce_suppresses(engine: sa.Engine, send: Send) -> None:
    for number in range(1, 4):
        (email,) = send("ann@example.com")
        record(engine, event_of(email, "Bounce", **TRANSIENT))
        assert reason_of(engine, "ann@example.com") == (None if number < 3 else "transient_bounces")
    assert statuses(engine, campaign_of(email)) == {"sent": 1, "skipped": 1}


def test_delivery_between_transient_bounces_is_a_new_beginning(engine: sa.Engine, send: Send) -> None:
    for type_, content in (("Bounce", TRANSIENT), ("Bounce", TRANSIENT), ("Delivery", {}), ("Bounce", TRANSIENT)):
        (email,) = send("ann@example.com")
        record(engine, event_of(email, type_, **content))
    assert reason_of(engine, "ann@example.com") is None


def test_late_delivery_lifts_the_suppression_that_it_disproves(engine: sa.Engine, send: Send) -> None:
    sent = [send("ann@example.com")[0] for _ in range(4)]
    for email in (sent[0], sent[1], sent[3]):
        record(engine, event_of(email, "Bounce", **TRANSIENT))
    assert reason_of(engine, "ann@example.com") == "transient_bounces"
    record(engine, event_of(sent[2], "Delivery"))
    assert reason_of(engine, "ann@example.com") is None


def test_bounces_from_before_a_removal_are_forgiven(engine: sa.Engine, connection: sa.Connection, send: Send) -> None:
    for _ in range(3):
        (email,) = send("ann@example.com")
        record(engine, event_of(email, "Bounce", -60, **TRANSIENT))
    suppression = suppressions.find(connection, "ann@example.com", None)
    suppressions.remove(connection, suppression["id"], "mailbox was emptied", "bob")
    connection.commit()
    (email,) = send("ann@example.com")
    record(engine, event_of(email, "Bounce", **TRANSIENT))
    assert reason_of(engine, "ann@example.com") is None


def test_removal_leaves_the_history_of_complaints(engine: sa.Engine, connection: sa.Connection, send: Send) -> None:
    (ann,) = send("ann@example.com")
    record(engine, event_of(ann, "Complaint"))
    suppression = suppressions.find(connection, "ann@example.com", None)
    suppressions.remove(connection, suppression["id"], "asked to be back", "bob")
    connection.commit()
    record(engine, event_of(ann, "Complaint"))
    assert reason_of(engine, "ann@example.com") is None
    assert the_email(engine, ann)["delivery_status"] == "complained"
    assert count_rows(connection, email_events) == 1


def test_event_settles_an_email_whose_outcome_is_unknown(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = make_campaign(connection, ["ann@example.com"])
    lifecycle.start_campaign(engine, campaign_id)
    ses.add_fault("error_500_after_accept")
    send_due_emails(resources, SECONDS)
    assert statuses(engine, campaign_id) == {"failed": 1}
    (accepted,) = ses.accepted()
    done = record(engine, event_of(accepted, "Delivery"))
    (row,) = rows_of(engine, campaign_id)
    assert (done.settled, row["status"], row["ses_message_id"]) == (1, "sent", accepted.message_id)
    assert abs(row["sent_at"] - accepted.accepted_at) < dt.timedelta(seconds=1)
    assert the_email(engine, accepted)["delivery_status"] == "delivered"
    campaign = campaign_row(engine, campaign_id)
    assert (campaign["emails_sent_count"], campaign["emails_failed_count"]) == (1, 0)


def fenced(engine: sa.Engine, connection: sa.Connection, ses_email: AcceptedEmail) -> AcceptedEmail:
    """An email that SES has accepted, and whose sender has not recorded it yet."""
    campaign_id = make_campaign(connection, ["new@example.com"])
    lifecycle.start_campaign(engine, campaign_id)
    token = uuid.uuid4()
    with engine.begin() as own:
        claimed = claim_emails.claim(own, 10, token)
        claim_emails.fence(own, claimed, token)
    tags = {"scheduled_email_id": str(claimed[0].id), "campaign_id": str(campaign_id), "claim_token": str(token)}
    return dataclasses.replace(ses_email, message_id=f"{uuid.uuid4()}-000000", to=("new@example.com",), tags=tags)


def test_event_that_overtakes_the_sender_settles_and_the_sender_adds_nothing(
    engine: sa.Engine, connection: sa.Connection, send: Send
) -> None:
    accepted = fenced(engine, connection, send("ann@example.com")[0])
    assert record(engine, event_of(accepted, "Send", 0)).settled == 1
    campaign_id = campaign_of(accepted)
    assert statuses(engine, campaign_id) == {"sent": 1}
    (row,) = rows_of(engine, campaign_id)
    acceptance = settle_unknown.Acceptance(accepted.message_id)
    with engine.begin() as own:
        assert settle_unknown.settle_as_sent(own, {row["id"]: acceptance}) == 0
    assert campaign_row(engine, campaign_id)["emails_sent_count"] == 1


def test_event_of_an_attempt_before_the_claim_of_now_is_put_on_record(
    engine: sa.Engine, connection: sa.Connection, send: Send
) -> None:
    (ann,) = send("ann@example.com")
    second = dataclasses.replace(ann, message_id="second-000000", tags=ann.tags | {"claim_token": str(uuid.uuid4())})
    done = record(engine, event_of(second, "Send", 0), event_of(second, "Delivery", 1))
    assert done.double_sends == 1
    assert record(engine, event_of(second, "Open", 60)).double_sends == 0
    (row, _) = rows_of(engine, campaign_of(ann))
    assert row["ses_message_id"] == ann.message_id
    assert the_email(engine, ann)["delivery_status"] == "sent"
    entry = connection.execute(sa.select(audit_log).where(audit_log.c.action.like("%double_send"))).mappings().one()
    assert entry["detail"] == {"first_message_id": ann.message_id, "second_message_id": "second-000000"}


def test_event_of_an_earlier_email_prevents_that_a_queued_one_is_sent(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = make_campaign(connection, ["ann@example.com"])
    lifecycle.start_campaign(engine, campaign_id)
    ses.add_fault("error_500_after_accept")
    send_due_emails(resources, SECONDS)
    (row,) = rows_of(engine, campaign_id)
    settle_unknown.requeue(connection, row["id"], "ann")
    connection.commit()
    (accepted,) = ses.accepted()
    done = record(engine, event_of(accepted, "Send", 0))
    assert (done.settled, statuses(engine, campaign_id)) == (1, {"sent": 1})
    send_due_emails(resources, SECONDS)
    assert len(ses.accepted()) == 1


def suppress(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        suppressions.suppress(connection, "ann@example.com", "manual", "ann")


def refuse(resources: Resources, ses: SesSimulator) -> None:
    ses.add_fault("bad_request")
    send_due_emails(resources, SECONDS)


@pytest.mark.parametrize(
    ("happened", "became"),
    [
        (lambda engine, campaign_id, *_: lifecycle.pause_campaign(engine, campaign_id), "cancelled"),
        (lambda engine, campaign_id, *_: lifecycle.cancel_campaign(engine, campaign_id), "cancelled"),
        (lambda engine, campaign_id, *_: remove_lead.remove_lead(engine, campaign_id, LEAD, "ann"), "cancelled"),
        (lambda engine, *_: suppress(engine), "skipped"),
        (lambda _engine, _campaign_id, *sender: refuse(*sender), "failed"),
    ],
    ids=["paused", "cancelled", "lead removed", "suppressed", "refused"],
)
def test_event_of_the_first_email_settles_a_requeued_one_whatever_became_of_that(
    engine: sa.Engine,
    connection: sa.Connection,
    resources: Resources,
    ses: SesSimulator,
    happened: Callable[..., object],
    became: str,
) -> None:
    connection.execute(sa.insert(leads).values(id=LEAD, email="ann@example.com", company_name="A", **OTHERS))
    campaign_id = make_campaign(connection, batch_ids=[])
    connection.execute(sa.insert(campaign_leads).values(campaign_id=campaign_id, lead_id=LEAD))
    connection.commit()
    lifecycle.start_campaign(engine, campaign_id)
    ses.add_fault("error_500_after_accept")
    send_due_emails(resources, SECONDS)
    (row,) = rows_of(engine, campaign_id)
    settle_unknown.requeue(connection, row["id"], "ann")
    connection.commit()
    happened(engine, campaign_id, resources, ses)
    assert statuses(engine, campaign_id) == {became: 1}
    (accepted,) = ses.accepted()

    record(engine, event_of(accepted, "Send", 0), event_of(accepted, "Delivery", 1))

    assert statuses(engine, campaign_id) == {"sent": 1}
    assert the_email(engine, accepted)["delivery_status"] == "delivered"
    assert_ledger_is_consistent(engine, ses, quiet=False)


def test_email_that_was_marked_as_sent_gets_its_message_id_from_an_event(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = make_campaign(connection, ["ann@example.com"])
    lifecycle.start_campaign(engine, campaign_id)
    ses.add_fault("error_500_after_accept")
    send_due_emails(resources, SECONDS)
    (row,) = rows_of(engine, campaign_id)
    settle_unknown.mark_sent(connection, row["id"], "ann")
    connection.commit()
    (accepted,) = ses.accepted()
    record(engine, event_of(accepted, "Delivery"))
    assert the_email(engine, accepted)["delivery_status"] == "delivered"


def test_event_without_tags_finds_its_email_by_the_message_id(engine: sa.Engine, send: Send) -> None:
    (ann,) = send("ann@example.com")
    record(engine, event_of(dataclasses.replace(ann, tags={}), "Delivery"))
    assert the_email(engine, ann)["delivery_status"] == "delivered"


@pytest.mark.parametrize(
    "changes",
    [
        {"tags": {}, "message_id": "x-000000"},
        {"tags": {"scheduled_email_id": "1", "campaign_id": str(uuid.uuid4()), "claim_token": str(uuid.uuid4())}},
        {"to": ("eve@example.com",)},
    ],
)
def test_event_of_no_email_of_ours_is_dropped(
    engine: sa.Engine, connection: sa.Connection, send: Send, changes: dict[str, Any]
) -> None:
    (ann,) = send("ann@example.com")
    tags = ann.tags | {"claim_token": str(uuid.uuid4())}
    stranger = dataclasses.replace(ann, **({"message_id": "x-000000", "tags": tags} | changes))
    done = record(engine, event_of(stranger, "Bounce"))
    assert done.counts == {"unknown_email": 1}
    assert count_rows(connection, email_events) == count_rows(connection, suppressions_table) == 0


def test_events_of_a_lead_that_was_deleted_still_suppress_its_address(
    engine: sa.Engine, connection: sa.Connection, send: Send
) -> None:
    (ann,) = send("ann@example.com")
    with engine.begin() as own:
        own.execute(sa.delete(leads))
    record(engine, event_of(ann, "Bounce"))
    assert reason_of(engine, "ann@example.com") == "bounce"
    assert count_rows(connection, email_events) == 1


def test_campaign_completes_when_its_last_emails_are_skipped(
    engine: sa.Engine, send: Send, resources: Resources
) -> None:
    (ann,) = send("ann@example.com")
    (campaign_id,) = record(engine, event_of(ann, "Bounce")).touched
    assert completion.mark_campaign_complete(engine, campaign_id)
    pass_time(engine, DAY)
    assert send_due_emails(resources, SECONDS).claimed == 0


EVENT = st.tuples(
    st.integers(0, 1),
    st.sampled_from([*TYPES, "Transient", "Undetermined", "Machine", "Not spam"]),
    st.integers(0, 3),
)


def _document(sent: list[AcceptedEmail], index: int, kind: str, minute: int) -> Any:
    type_, content = {
        "Transient": ("Bounce", TRANSIENT | {"feedbackId": f"t{minute}"}),
        "Undetermined": ("Bounce", UNDETERMINED | {"feedbackId": f"u{minute}"}),
        "Machine": ("Open", {"userAgent": "Mozilla/5.0"}),
        "Not spam": ("Complaint", {"complaintFeedbackType": "not-spam", "feedbackId": "n"}),
    }.get(kind, (kind, {}))
    return event_of(sent[index], type_, 60.0 * (minute + 1), **content)


def _state(connection: sa.Connection) -> Any:
    """All that events change, without the times at which it was written."""
    own_time = {"updated_at", "received_at", "created_at", "removed_at", "id"}
    tables = (email_events, emails, leads, campaigns_table, scheduled_emails, suppressions_table)
    state = {}
    for table in tables:
        kept = [column for column in table.c if column.name not in own_time]
        state[table.name] = sorted(repr(tuple(row)) for row in connection.execute(sa.select(*kept)))
    return state


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(chosen=st.lists(EVENT, min_size=1, max_size=25), data=st.data())
def test_events_told_three_times_in_any_order_lead_to_the_same_state(
    engine: sa.Engine, send: Send, ses: SesSimulator, chosen: list[tuple[int, str, int]], data: st.DataObject
) -> None:
    """Each lead has one email here: what a late delivery takes back of transient bounces has tests of its own."""
    if not ses.accepted():
        send("ann@example.com", "bob@example.com")
    sent = ses.accepted()
    events = read(*(_document(sent, *event) for event in chosen))
    events = [event for event in events if event.effect is None or event.effect.value != "transient_bounces"] + [
        event for event in events if event.effect is not None and event.effect.value == "transient_bounces"
    ][:2]
    states = []
    told = data.draw(st.permutations(events * 3))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(told)), max_size=5)))
    batches = [told[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(told)], strict=True)]
    for given_batches in ([events], batches):
        with engine.connect() as connection:
            for batch in given_batches:
                record_events(connection, record_events(connection, batch, are_of_sent=True).left)
            states.append(_state(connection))
            connection.rollback()
    assert states[0] == states[1]
