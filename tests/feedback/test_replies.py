"""A reply finds the email that it answers and ends its sequence; mail that nobody wrote ends nothing."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from local.ses_simulator import SesSimulator
from sendledger.campaigns import lifecycle
from sendledger.core.settings import MailSettings, StopOnReply
from sendledger.core.tables import audit_log, campaigns, leads, scheduled_emails
from sendledger.core.tables import replies as stored
from sendledger.core.vocabulary import ReplySource
from sendledger.feedback import replies
from sendledger.feedback.read_reply import ReadReply, reply_from_fields
from sendledger.leads.erase_leads import erase
from sendledger.ledger import claim_emails
from sendledger.sending.tick import Resources, send_due_emails
from testbed.campaigns import DAY, NO_DELAY, campaign_row, make_campaign, pass_time, rows_of, statuses
from testbed.databases import wait_until, working_as
from testbed.invariants import wait_for
from testbed.senders import sender_resources

SETTINGS = {
    "UNSUBSCRIBE_KEYS": "k1:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
    "REPLY_DOMAIN": "reply.example.com",
}
KEYS = MailSettings.read(SETTINGS).unsubscribe_keys
SECONDS = 60.0
WAITS_FOR_A_LOCK = """
    EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')"""
TWO_WAIT_FOR_LOCKS = """
    (SELECT count(*) = 2 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')"""


@pytest.fixture
def resources(sender_engine: sa.Engine, ses: SesSimulator) -> Resources:
    return sender_resources(sender_engine, ses.url, **SETTINGS)


@pytest.fixture
def campaign_id(engine: sa.Engine, connection: sa.Connection, resources: Resources) -> uuid.UUID:
    """A campaign of three steps to Ann and Bob, of which the first step is sent."""
    return started(engine, connection, resources, ["ann@example.com", "bob@example.com"])


def started(engine: sa.Engine, connection: sa.Connection, resources: Resources, addresses: list[str]) -> uuid.UUID:
    created = make_campaign(connection, addresses, [NO_DELAY, DAY, DAY])
    lifecycle.start_campaign(engine, created)
    send_due_emails(resources, SECONDS)
    return created


def receive(engine: sa.Engine, reply: ReadReply, stop: StopOnReply = "all") -> replies.ReceivedReply:
    with working_as("events", engine) as as_function:
        return replies.receive(as_function, reply, ReplySource.API, stop, KEYS)


def reply(sender: str = "ann@example.com", **parts: Any) -> ReadReply:
    return reply_from_fields(sender, "Re: Hello", "Yes!", **{"message_id": f"<{uuid.uuid4()}@x>", **parts})


def lead_of(engine: sa.Engine, address: str) -> sa.RowMapping:
    with engine.connect() as connection:
        return connection.execute(sa.select(leads).where(leads.c.email == address)).mappings().one()


def test_a_reply_ends_the_sequence_of_its_lead(
    engine: sa.Engine, resources: Resources, ses: SesSimulator, campaign_id: uuid.UUID
) -> None:
    received = receive(engine, reply())
    assert (received.matched_by, received.campaign_id, received.emails_skipped) == ("address", campaign_id, 2)
    lead = lead_of(engine, "ann@example.com")
    assert (lead["status"], lead["last_responded_at"] is None) == ("responded", False)
    skipped = [row for row in rows_of(engine, campaign_id) if row["lead_id"] == lead["id"] and row["status"] != "sent"]
    assert {(row["status"], row["reason"]) for row in skipped} == {("skipped", "replied")}
    for _ in range(2):
        pass_time(engine, DAY)
        send_due_emails(resources, SECONDS)
    assert [each.destination for each in ses.accepted()[2:]] == [("bob@example.com",)] * 2
    campaign = campaign_row(engine, campaign_id)
    assert (campaign["status"], campaign["responses_received"], campaign["emails_replied_count"]) == ("completed", 1, 1)


def test_the_token_in_the_reply_address_counts_most(
    engine: sa.Engine, ses: SesSimulator, campaign_id: uuid.UUID
) -> None:
    to_ann = next(each for each in ses.accepted() if each.destination == ("ann@example.com",))
    to_bob = next(each for each in ses.accepted() if each.destination == ("bob@example.com",))
    received = receive(
        engine,
        reply(
            "somebody.else@example.com",
            to_addresses=["sales@example.com", str(to_ann.reply_to[1]).upper()],
            in_reply_to=f"<{to_bob.message_id}@email.amazonses.com>",
        ),
    )
    assert (received.matched_by, received.lead_id) == ("token", lead_of(engine, "ann@example.com")["id"])


def test_the_message_that_is_answered_counts_more_than_the_sender(
    engine: sa.Engine, ses: SesSimulator, campaign_id: uuid.UUID
) -> None:
    to_ann = next(each for each in ses.accepted() if each.destination == ("ann@example.com",))
    references = ["<other@example.com>", f"<{to_ann.message_id}@eu-west-1.amazonses.com>"]
    received = receive(engine, reply("bob@example.com", to_addresses=["reply+k1.aaa@x.com"], references=references))
    assert (received.matched_by, received.lead_id) == ("message_id", lead_of(engine, "ann@example.com")["id"])


def test_mail_of_a_stranger_is_kept_and_stops_nothing(engine: sa.Engine, campaign_id: uuid.UUID) -> None:
    received = receive(engine, reply("stranger@example.com", in_reply_to="<x@email.amazonses.com>"))
    assert (received.is_new, received.matched_by, received.lead_id, received.emails_skipped) == (True, None, None, 0)
    assert statuses(engine, campaign_id) == {"sent": 2, "pending": 4}


def test_an_address_that_got_its_last_email_long_ago_matches_nothing(
    engine: sa.Engine, connection: sa.Connection, campaign_id: uuid.UUID
) -> None:
    connection.execute(sa.text("UPDATE emails SET sent_at = sent_at - interval '91 days'"))
    connection.commit()
    assert receive(engine, reply()).matched_by is None


def test_an_out_of_office_reply_is_kept_and_stops_nothing(engine: sa.Engine, campaign_id: uuid.UUID) -> None:
    received = receive(engine, reply(headers={"Auto-Submitted": "auto-replied"}))
    assert (received.automatic, received.matched_by, received.emails_skipped) == ("auto_submitted", "address", 0)
    assert statuses(engine, campaign_id) == {"sent": 2, "pending": 4}
    assert lead_of(engine, "ann@example.com")["status"] == "contacted"
    assert campaign_row(engine, campaign_id)["responses_received"] == 0


@pytest.mark.parametrize("headers", [{}, {"Auto-Submitted": "auto-replied"}])
def test_reply_that_waits_for_an_erasure_belongs_to_nobody_as_one_that_comes_after_it(
    engine: sa.Engine, connection: sa.Connection, campaign_id: uuid.UUID, headers: dict[str, str]
) -> None:
    lead_id = lead_of(engine, "ann@example.com")["id"]
    with engine.connect() as erasing, ThreadPoolExecutor(1) as pool:
        erase(erasing, lead_id, "test", keep_suppressed=False)
        waiting = pool.submit(receive, engine, reply(headers=headers))
        wait_until(engine, WAITS_FOR_A_LOCK)
        erasing.commit()
        received = waiting.result()
    assert (received.is_new, received.matched_by, received.lead_id, received.emails_skipped) == (True, None, None, 0)
    assert connection.execute(sa.select(stored.c.lead_id, stored.c.email_id)).all() == [(None, None)]
    connection.rollback()


def test_erasure_waits_for_a_reply_that_has_begun(
    engine: sa.Engine, connection: sa.Connection, campaign_id: uuid.UUID
) -> None:
    lead_id = lead_of(engine, "ann@example.com")["id"]

    def erase_lead() -> int:
        with engine.begin() as erasing:
            return erase(erasing, lead_id, "test", keep_suppressed=False).replies_erased

    with engine.connect() as holding, ThreadPoolExecutor(2) as pool:
        # The reply has locked its campaign and its lead, and is not stored yet.
        holding.execute(sa.text("LOCK TABLE replies IN SHARE MODE"))
        received = pool.submit(receive, engine, reply())
        wait_until(engine, WAITS_FOR_A_LOCK)
        erased = pool.submit(erase_lead)
        wait_until(engine, TWO_WAIT_FOR_LOCKS)
        holding.rollback()
        assert (received.result().lead_id, erased.result()) == (lead_id, 1)


@pytest.mark.parametrize("headers", [{"List-Id": "<team.example.com>"}, {"List-Id": "<x>", "Precedence": "list"}])
def test_a_persons_answer_through_a_group_ends_the_sequence(
    engine: sa.Engine, ses: SesSimulator, campaign_id: uuid.UUID, headers: dict[str, str]
) -> None:
    to_ann = next(each for each in ses.accepted() if each.destination == ("ann@example.com",))
    received = receive(engine, reply("team@example.com", to_addresses=[str(to_ann.reply_to[1])], headers=headers))
    assert (received.automatic, received.matched_by, received.emails_skipped) == (None, "token", 2)


def test_a_newsletter_of_a_lead_ends_nothing(engine: sa.Engine, campaign_id: uuid.UUID) -> None:
    received = receive(engine, reply(headers={"List-Id": "<news.example.com>"}))
    assert (received.automatic, received.emails_skipped) == ("mailing_list", 0)
    assert statuses(engine, campaign_id) == {"sent": 2, "pending": 4}


@pytest.mark.parametrize("headers", [{"X-Auto-Response-Suppress": "All"}, {"X-Autoreply": "no"}])
def test_a_person_whose_mail_program_asks_for_silence_ends_the_sequence(
    engine: sa.Engine, campaign_id: uuid.UUID, headers: dict[str, str]
) -> None:
    assert receive(engine, reply(headers=headers)).emails_skipped == 2


FORGED = {"Authentication-Results": "amazonses.com; spf=pass; dkim=none; dmarc=fail header.from=example.com"}


@pytest.mark.parametrize("by_message_id", [False, True])
def test_a_forged_sender_without_our_token_changes_nothing(
    engine: sa.Engine, ses: SesSimulator, campaign_id: uuid.UUID, by_message_id: bool
) -> None:
    to_ann = next(each for each in ses.accepted() if each.destination == ("ann@example.com",))
    in_reply_to = f"<{to_ann.message_id}@email.amazonses.com>" if by_message_id else None
    received = receive(engine, reply(headers=FORGED, in_reply_to=in_reply_to))
    assert (received.automatic, received.emails_skipped) == ("forged", 0)
    with engine.connect() as connection:
        kept = connection.execute(sa.select(stored)).mappings().one()
    assert (kept["spf"], kept["dkim"], kept["dmarc"]) == ("pass", "none", "fail")
    assert statuses(engine, campaign_id) == {"sent": 2, "pending": 4}
    assert lead_of(engine, "ann@example.com")["status"] == "contacted"
    assert campaign_row(engine, campaign_id)["responses_received"] == 0


def test_our_token_counts_more_than_a_failure_of_dmarc(
    engine: sa.Engine, ses: SesSimulator, campaign_id: uuid.UUID
) -> None:
    to_ann = next(each for each in ses.accepted() if each.destination == ("ann@example.com",))
    received = receive(engine, reply(to_addresses=[str(to_ann.reply_to[1])], headers=FORGED))
    assert (received.automatic, received.emails_skipped) == (None, 2)


def test_the_same_message_counts_once(engine: sa.Engine, campaign_id: uuid.UUID) -> None:
    message = reply()
    first, *others = (receive(engine, message) for _ in range(3))
    assert first.is_new
    assert [(other.is_new, other.id, other.emails_skipped) for other in others] == [(False, first.id, 2)] * 2
    assert campaign_row(engine, campaign_id)["responses_received"] == 1


def test_a_second_reply_is_a_response_but_no_further_answered_email(engine: sa.Engine, campaign_id: uuid.UUID) -> None:
    receive(engine, reply())
    assert receive(engine, reply()).emails_skipped == 0
    campaign = campaign_row(engine, campaign_id)
    assert (campaign["responses_received"], campaign["emails_replied_count"]) == (2, 1)


def test_a_reply_ends_the_mail_of_every_campaign_to_that_address(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, campaign_id: uuid.UUID
) -> None:
    other = started(engine, connection, resources, ["ANN@example.com", "carl@example.com"])
    assert receive(engine, reply()).emails_skipped == 4
    assert statuses(engine, other) == {"sent": 2, "pending": 2, "skipped": 2}
    assert lead_of(engine, "ANN@example.com")["status"] == "responded"


def test_with_the_setting_a_reply_ends_its_own_campaign_only(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator, campaign_id: uuid.UUID
) -> None:
    other = make_campaign(connection, batch_ids=[campaign_batch(engine, campaign_id)], delays=[NO_DELAY, DAY])
    connection.execute(sa.text("UPDATE lead_batches SET active_campaign_id = NULL"))
    connection.commit()
    lifecycle.start_campaign(engine, other)
    first = next(each for each in ses.accepted() if each.destination == ("ann@example.com",))
    in_reply_to = f"<{first.message_id}@email.amazonses.com>"
    assert receive(engine, reply(in_reply_to=in_reply_to), stop="campaign").emails_skipped == 2
    assert statuses(engine, campaign_id) == {"sent": 2, "pending": 2, "skipped": 2}
    send_due_emails(resources, SECONDS)
    assert statuses(engine, other) == {"sent": 2, "pending": 2}
    assert lead_of(engine, "ann@example.com")["last_responded_at"] is not None


def test_a_reply_locks_the_answered_campaign_in_the_order_of_ids(
    engine: sa.Engine, connection: sa.Connection, resources: Resources
) -> None:
    low, high = sorted(started(engine, connection, resources, ["ann@example.com"]) for _ in range(2))
    # The higher one is answered; both have something planned.
    answered = rows_of(engine, high)[0]["ses_message_id"]
    lock = sa.select(campaigns.c.id).with_for_update(nowait=True)
    with engine.connect() as holder, ThreadPoolExecutor(1) as pool:
        holder.execute(lock.where(campaigns.c.id == low))
        receiving = pool.submit(receive, engine, reply(in_reply_to=f"<{answered}@email.amazonses.com>"))

        def is_waiting() -> bool:
            connection.rollback()
            waits = (
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            return bool(connection.scalar(sa.text(waits)))

        wait_for(is_waiting, "the reply waits for the lower campaign")
        try:
            assert holder.scalar(lock.where(campaigns.c.id == high)) == high
        finally:
            holder.rollback()
        assert receiving.result().campaign_id == high


def campaign_batch(engine: sa.Engine, campaign_id: uuid.UUID) -> uuid.UUID:
    batch: uuid.UUID = campaign_row(engine, campaign_id)["batch_ids"][0]
    return batch


def test_claimed_email_before_its_fence_is_stopped_too(
    engine: sa.Engine, connection: sa.Connection, campaign_id: uuid.UUID
) -> None:
    pass_time(engine, DAY)
    token = uuid.uuid4()
    claimed = claim_emails.claim(connection, 10, token)
    connection.commit()
    assert receive(engine, reply()).emails_skipped == 2
    fenced = claim_emails.fence(connection, claimed, token)
    bob = lead_of(engine, "bob@example.com")["id"]
    assert {each.lead["lead_id"] for each in claimed if each.lead and each.id in fenced.sendable} == {bob}


def test_a_paused_campaigns_emails_do_not_come_back_after_a_reply(
    engine: sa.Engine, connection: sa.Connection, campaign_id: uuid.UUID
) -> None:
    lifecycle.pause_campaign(engine, campaign_id)
    receive(engine, reply())
    lifecycle.resume_campaign(engine, campaign_id)
    assert statuses(engine, campaign_id) == {"sent": 2, "pending": 2, "skipped": 2}


def test_a_campaign_whose_last_open_lead_replies_completes_at_once(
    engine: sa.Engine, connection: sa.Connection, resources: Resources
) -> None:
    campaign_id = started(engine, connection, resources, ["ann@example.com"])
    receive(engine, reply())
    assert campaign_row(engine, campaign_id)["status"] == "completed"


@pytest.mark.parametrize("status", ["interested", "not_interested", "converted", "invalid"])
def test_a_reply_does_not_undo_what_the_team_has_decided(
    engine: sa.Engine, connection: sa.Connection, campaign_id: uuid.UUID, status: str
) -> None:
    connection.execute(sa.update(leads).values(status=status))
    connection.commit()
    assert receive(engine, reply()).emails_skipped == 2
    assert lead_of(engine, "ann@example.com")["status"] == status


def test_a_reply_after_the_campaign_was_deleted_still_reaches_its_lead(
    engine: sa.Engine, connection: sa.Connection, ses: SesSimulator, campaign_id: uuid.UUID
) -> None:
    to_ann = next(each for each in ses.accepted() if each.destination == ("ann@example.com",))
    connection.execute(sa.delete(campaigns))
    connection.commit()
    assert connection.scalar(sa.select(sa.func.count()).select_from(scheduled_emails)) == 0
    received = receive(
        engine,
        reply(to_addresses=[str(to_ann.reply_to[1])], in_reply_to=f"<{to_ann.message_id}@email.amazonses.com>"),
    )
    assert (received.matched_by, received.campaign_id) == ("message_id", None)
    assert lead_of(engine, "ann@example.com")["status"] == "responded"


def test_a_reply_is_audited_without_its_text(engine: sa.Engine, campaign_id: uuid.UUID) -> None:
    received = receive(engine, reply())
    with engine.connect() as connection:
        entry = connection.execute(sa.select(audit_log).where(audit_log.c.action == "lead.reply")).mappings().one()
        kept = connection.execute(sa.select(stored)).mappings().one()
    assert (entry["actor"], entry["entity_id"]) == ("recipient", str(received.lead_id))
    assert "Yes!" not in str(entry)
    assert (kept["body_text"], kept["from_address"], kept["subject"]) == ("Yes!", "ann@example.com", "Re: Hello")
