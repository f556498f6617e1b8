"""What is older than the settings say is removed, and nothing that counts or protects a person is forgotten."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
import sqlalchemy as sa

from local.ses_simulator import SesSimulator
from sendledger.campaigns import lifecycle, reassign_leads
from sendledger.campaigns.removed_history import last_run
from sendledger.core.errors import Conflict, SettingsError
from sendledger.core.settings import RetentionSettings
from sendledger.core.signed_tokens import EmailReference
from sendledger.core.tables import audit_log, email_events, emails, leads, past_contacts, replies, scheduled_emails
from sendledger.core.vocabulary import UnsubscribeMethod, UnsubscribeScope
from sendledger.exports import exports
from sendledger.feedback import reply_answers, unsubscribe
from sendledger.leads import erase_leads, lead_batches
from sendledger.ledger import claim_emails, settle_unknown
from sendledger.policy import budgets, sender_addresses
from sendledger.retention import remove_rows
from sendledger.segments.conditions import of_json
from sendledger.segments.matching_leads import matching
from sendledger.sending.tick import Resources, send_due_emails
from testbed.campaigns import DAY, campaign_row, make_campaign, pass_time, rows_of
from testbed.databases import working_as
from testbed.ses_events import count_rows, event_of
from tests.retention.conftest import (
    NAMES,
    TRANSIENT,
    address,
    end_long_ago,
    receive,
    report,
    run_retention,
    statistics,
)

EVERYTHING = {"keep_content_days": "30", "keep_events_days": "30", "keep_ledgers_days": "90"}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remove_rows, "ROWS_PER_CHUNK", 3)


def count(engine: sa.Engine, table: sa.Table) -> int:
    with engine.connect() as connection:
        return count_rows(connection, table)


def lead_id(engine: sa.Engine, name: str) -> uuid.UUID:
    with engine.connect() as connection:
        return uuid.UUID(str(connection.scalar(sa.select(leads.c.id).where(leads.c.email == address(name)))))


def in_segment(engine: sa.Engine, condition: dict[str, Any]) -> set[str]:
    """The names of the leads that match."""
    with engine.connect() as connection:
        found = connection.scalars(sa.select(leads.c.email).where(matching(of_json(condition))))
        return {str(email).partition("@")[0] for email in found}


@pytest.mark.parametrize(
    "days", [{name: value} for name, value in EVERYTHING.items()] + [EVERYTHING], ids=[*EVERYTHING, "all"]
)
def test_statistics_are_exactly_those_of_before(
    engine: sa.Engine, retention_engine: sa.Engine, ended: uuid.UUID, days: dict[str, str]
) -> None:
    before = statistics(engine, ended)
    funnel = before["stats"]["funnel"]
    assert all(funnel.values()), funnel
    assert len(before["stats"]["by_step"][0]["variants"]) == 2
    removed = run_retention(retention_engine, **days)
    assert any(removed.values())
    assert statistics(engine, ended) == before


def test_removed_ledger_leaves_no_email_and_no_event_of_a_person_but_runs_of_bounces(
    engine: sa.Engine, retention_engine: sa.Engine, ended: uuid.UUID
) -> None:
    run_retention(retention_engine, keep_ledgers_days="90")
    assert (count(engine, scheduled_emails), count(engine, emails)) == (0, 0)
    with engine.connect() as connection:
        kept = connection.execute(sa.select(email_events).order_by(email_events.c.event_type)).mappings().all()
    assert [(row["event_type"], row["lead_id"]) for row in kept] == [
        ("Bounce", lead_id(engine, "quiet")),
        ("Complaint", None),
    ]
    assert [set(row["detail"]) for row in kept] == [{"bounce_type", "bounce_sub_type"}, {"feedback_type"}]


def test_removed_content_leaves_the_emails_without_subject_and_text(
    engine: sa.Engine, retention_engine: sa.Engine, ended: uuid.UUID
) -> None:
    number = count(engine, emails)
    run_retention(retention_engine, keep_content_days="30")
    with engine.connect() as connection:
        texts = connection.execute(sa.select(emails.c.subject, emails.c.body_text, emails.c.body_html)).all()
    assert [tuple(row) for row in texts] == [("", "", None)] * number


def test_content_of_replies_that_were_dealt_with_is_removed_and_that_of_others_is_kept(
    engine: sa.Engine, retention_engine: sa.Engine, ended: uuid.UUID
) -> None:
    receive(engine, "stranger@example.net")
    with engine.begin() as connection:
        connection.execute(sa.update(replies).values(created_at=sa.func.now() - 31 * DAY))
        handled = sa.update(replies).where(replies.c.from_address == address("answers"))
        connection.execute(handled.values(handled_at=sa.func.now(), handled_by="ann"))
    assert run_retention(retention_engine, keep_content_days="30")["replies"] == 1
    with engine.connect() as connection:
        found = connection.execute(sa.select(replies.c.from_address, replies.c.body_text))
        assert {tuple(row) for row in found} == {(address("answers"), ""), ("stranger@example.net", "Yes!")}


def test_without_parameters_everything_is_kept(
    engine: sa.Engine, retention_engine: sa.Engine, ended: uuid.UUID
) -> None:
    assert run_retention(retention_engine) == {}
    assert len(rows_of(engine, ended)) == 2 * len(NAMES)


@pytest.mark.parametrize("days", ["-1", "29", "10000", "soon"])
def test_wrong_number_of_days_is_refused_by_name(days: str) -> None:
    with pytest.raises(SettingsError, match="KEEP_CONTENT_DAYS"):
        RetentionSettings.read({"KEEP_CONTENT_DAYS": days})


@pytest.mark.parametrize("days", ["", "0"])
def test_blank_and_zero_keep_for_ever(days: str) -> None:
    assert RetentionSettings.read({"KEEP_CONTENT_DAYS": days}).keep_content_days == 0


def test_campaign_that_ended_a_day_too_late_is_left_alone(
    engine: sa.Engine, retention_engine: sa.Engine, ended: uuid.UUID
) -> None:
    end_long_ago(engine, ended, days=89)
    run_retention(retention_engine, keep_ledgers_days="90")
    assert len(rows_of(engine, ended)) == 2 * len(NAMES)


@pytest.mark.parametrize("status", ["running", "paused"])
def test_campaign_under_way_is_left_alone_however_old_it_is(
    engine: sa.Engine, connection: sa.Connection, retention_engine: sa.Engine, resources: Resources, status: str
) -> None:
    campaign_id = make_campaign(connection, 2, [DAY * 0, DAY])
    lifecycle.start_campaign(engine, campaign_id)
    send_due_emails(resources, 30.0)
    if status == "paused":
        lifecycle.pause_campaign(engine, campaign_id)
    with engine.begin() as changing:
        changing.execute(sa.text("UPDATE campaigns SET updated_at = now() - interval '9 years'"))
    before = rows_of(engine, campaign_id)
    assert not any(run_retention(retention_engine, **EVERYTHING).values())
    assert rows_of(engine, campaign_id) == before


def test_cancelled_campaign_is_removed_after_its_end(
    engine: sa.Engine, connection: sa.Connection, retention_engine: sa.Engine, resources: Resources
) -> None:
    campaign_id = make_campaign(connection, 4, [DAY * 0, DAY])
    lifecycle.start_campaign(engine, campaign_id)
    send_due_emails(resources, 30.0)
    lifecycle.cancel_campaign(engine, campaign_id)
    end_long_ago(engine, campaign_id)
    before = statistics(engine, campaign_id)
    run_retention(retention_engine, **EVERYTHING)
    assert rows_of(engine, campaign_id) == []
    assert statistics(engine, campaign_id) == before


def test_campaign_with_an_unknown_outcome_waits_until_a_person_settles_it(
    engine: sa.Engine,
    connection: sa.Connection,
    retention_engine: sa.Engine,
    resources: Resources,
    ses: SesSimulator,
) -> None:
    campaign_id = make_campaign(connection, [address("unknown"), address("sent")])
    ses.add_fault("error_500", address=address("unknown"))
    lifecycle.start_campaign(engine, campaign_id)
    send_due_emails(resources, 30.0)
    end_long_ago(engine, campaign_id)
    assert not any(run_retention(retention_engine, **EVERYTHING).values())
    with engine.begin() as changing:
        state = last_run(changing)
        assert state is not None
        assert state["campaigns_waiting"] == 1
        (row,) = (row for row in rows_of(engine, campaign_id) if row["error_code"] == "outcome_unknown")
        settle_unknown.mark_sent(changing, row["id"], "ann")
    assert run_retention(retention_engine, **EVERYTHING)["ledger"] == 2


def test_campaign_whose_ledger_is_being_exported_waits(
    engine: sa.Engine, retention_engine: sa.Engine, ended: uuid.UUID
) -> None:
    with engine.begin() as connection:
        export = exports.create(connection, "campaign_ledger", ended, {}, "ann")
    assert not any(run_retention(retention_engine, keep_ledgers_days="90").values())
    with engine.begin() as connection:
        exports.fail(connection, export["id"], "test")
    assert any(run_retention(retention_engine, keep_ledgers_days="90").values())


@pytest.mark.parametrize(
    ("contact", "names"),
    [
        ("received", set(NAMES) - {"fails"}),
        ("opened", {"opens", "clicks"}),
        ("clicked", {"clicks"}),
        ("replied", {"answers"}),
    ],
)
def test_segment_finds_the_leads_of_a_removed_campaign(
    engine: sa.Engine, retention_engine: sa.Engine, ended: uuid.UUID, contact: str, names: set[str]
) -> None:
    condition = {"kind": "campaign", "campaign_id": str(ended), "contact": contact}
    never = {"kind": "not", "condition": condition}
    for _ in range(2):
        assert in_segment(engine, condition) == names
        assert in_segment(engine, never) == set(NAMES) - names
        run_retention(retention_engine, **EVERYTHING)


def test_leads_remember_when_they_were_contacted_last(
    engine: sa.Engine, retention_engine: sa.Engine, ended: uuid.UUID
) -> None:
    recently = {"kind": "not", "condition": {"kind": "not_contacted_for", "days": 1}}
    contacted = in_segment(engine, recently)
    assert contacted
    run_retention(retention_engine, **EVERYTHING)
    assert in_segment(engine, recently) == contacted


def test_nobody_who_opted_out_bounced_or_complained_gets_mail_after_the_removal(
    engine: sa.Engine,
    connection: sa.Connection,
    retention_engine: sa.Engine,
    ended: uuid.UUID,
    resources: Resources,
    ses: SesSimulator,
) -> None:
    run_retention(retention_engine, **EVERYTHING)
    before = len(ses.accepted())
    again = make_campaign(connection, batch_ids=list(campaign_row(engine, ended)["batch_ids"]))
    lifecycle.start_campaign(engine, again)
    send_due_emails(resources, 30.0)
    reached = {email.destination[0].partition("@")[0] for email in ses.accepted()[before:]}
    assert reached.isdisjoint({"optsout", "bounces", "complains"})
    assert "opens" in reached


def test_opt_out_by_the_link_of_a_removed_email_still_counts(
    engine: sa.Engine, retention_engine: sa.Engine, ended: uuid.UUID
) -> None:
    (row, *_) = (row for row in rows_of(engine, ended) if row["lead_id"] == lead_id(engine, "opens"))
    run_retention(retention_engine, **EVERYTHING)
    email = EmailReference(row["id"], ended, row["lead_id"])
    with working_as("unsubscribe", engine) as public, public.begin() as connection:
        unsubscribe.opt_out(connection, email, UnsubscribeScope.EVERYTHING, UnsubscribeMethod.PAGE)
        assert unsubscribe.is_suppressed(connection, email)


def test_undone_opt_out_lifts_no_suppression_of_an_address_that_had_bounced(
    engine: sa.Engine, retention_engine: sa.Engine, ended: uuid.UUID
) -> None:
    (row, *_) = (row for row in rows_of(engine, ended) if row["lead_id"] == lead_id(engine, "bounces"))
    email = EmailReference(row["id"], ended, row["lead_id"])
    run_retention(retention_engine, **EVERYTHING)
    with engine.begin() as connection:
        # As an older version had stored it.
        connection.execute(
            sa.text("UPDATE suppressions SET reason = 'unsubscribe', created_by = 'recipient' WHERE value = :address"),
            {"address": address("bounces")},
        )
    with working_as("unsubscribe", engine) as public, public.begin() as connection:
        unsubscribe.undo(connection, email)
        assert unsubscribe.is_suppressed(connection, email)


def test_third_temporary_bounce_suppresses_although_the_first_was_removed(
    engine: sa.Engine,
    connection: sa.Connection,
    retention_engine: sa.Engine,
    ended: uuid.UUID,
    resources: Resources,
    ses: SesSimulator,
) -> None:
    run_retention(retention_engine, **EVERYTHING)
    again = make_campaign(connection, [], [DAY * 0, DAY], batch_ids=list(campaign_row(engine, ended)["batch_ids"]))
    lifecycle.start_campaign(engine, again)
    for number in (2, 3):
        send_due_emails(resources, 30.0)
        last = [email for email in ses.accepted() if email.destination == (address("quiet"),)][-1]
        report(engine, event_of(last, "Bounce", **TRANSIENT))
        with engine.connect() as looking:
            query = sa.text("SELECT count(*) FROM suppressions WHERE value = :address")
            assert looking.scalar(query, {"address": address("quiet")}) == (number == 3)
        pass_time(engine, DAY)


def test_delivery_that_was_removed_still_separates_the_temporary_bounces_of_another_campaign(
    engine: sa.Engine,
    connection: sa.Connection,
    retention_engine: sa.Engine,
    ended: uuid.UUID,
    resources: Resources,
    ses: SesSimulator,
) -> None:
    batches = list(campaign_row(engine, ended)["batch_ids"])
    other = make_campaign(connection, [], [DAY * 0, DAY, DAY], batch_ids=batches)
    lifecycle.start_campaign(engine, other)
    for number in (1, 2, 3):
        send_due_emails(resources, 30.0)
        last = [email for email in ses.accepted() if email.destination == (address("opens"),)][-1]
        if number == 3:
            # Two bounces, a delivery of the campaign that has ended, and the third bounce.
            long_ago = sa.update(email_events).where(email_events.c.campaign_id == other)
            connection.execute(long_ago.values(occurred_at=sa.func.now() - 100 * DAY))
            connection.commit()
            run_retention(retention_engine, **EVERYTHING)
        report(engine, event_of(last, "Bounce", **TRANSIENT))
        pass_time(engine, DAY)
    query = sa.text("SELECT count(*) FROM suppressions WHERE value = :address")
    assert connection.scalar(query, {"address": address("opens")}) == 0


def test_answer_to_a_removed_email_still_finds_its_lead(
    engine: sa.Engine, retention_engine: sa.Engine, ended: uuid.UUID, ses: SesSimulator
) -> None:
    email = next(each for each in ses.accepted() if each.destination == (address("opens"),))
    run_retention(retention_engine, **EVERYTHING)
    received = receive(engine, address("opens"), to_addresses=[str(email.reply_to[-1])])
    assert (received.lead_id, received.campaign_id) == (lead_id(engine, "opens"), ended)


def test_stranger_is_no_contact_of_a_removed_campaign(
    engine: sa.Engine, retention_engine: sa.Engine, ended: uuid.UUID
) -> None:
    run_retention(retention_engine, **EVERYTHING)
    assert receive(engine, "stranger@example.net").matched_by is None
    assert receive(engine, address("opens")).matched_by is None, "it does not say that it answers an email"


def test_reply_to_a_removed_email_cannot_be_answered_and_says_why(
    engine: sa.Engine, retention_engine: sa.Engine, ended: uuid.UUID
) -> None:
    run_retention(retention_engine, **EVERYTHING)
    with engine.begin() as connection:
        reply_id = connection.execute(sa.select(replies.c.id)).scalar_one()
        with pytest.raises(Conflict, match="ledger of this campaign was removed by retention since"):
            reply_answers.answer(connection, reply_id, "Thanks", "ann", quote=False)


def test_reply_can_be_answered_after_the_content_was_removed_and_the_answers_content_goes_later(
    engine: sa.Engine, retention_engine: sa.Engine, ended: uuid.UUID, resources: Resources
) -> None:
    run_retention(retention_engine, keep_content_days="30")
    with engine.begin() as connection:
        reply_id = connection.execute(sa.select(replies.c.id)).scalar_one()
        reply_answers.answer(connection, reply_id, "Thanks", "ann", quote=False)
    send_due_emails(resources, 30.0)
    assert campaign_row(engine, ended)["status"] == "completed"
    texts = sa.select(emails.c.body_text).where(emails.c.body_text != "")
    with engine.connect() as connection:
        assert len(connection.scalars(texts).all()) == 1
    assert not any(run_retention(retention_engine, keep_content_days="30").values())
    with engine.begin() as connection:
        # The removal was before the second end.
        connection.execute(sa.text("UPDATE removals SET completed_at = now() - interval '500 days'"))
    end_long_ago(engine, ended)
    assert run_retention(retention_engine, keep_content_days="30")["content"] == 1


def test_failed_emails_of_a_removed_campaign_cannot_be_put_back(
    engine: sa.Engine, retention_engine: sa.Engine, ended: uuid.UUID
) -> None:
    run_retention(retention_engine, keep_content_days="30")
    with pytest.raises(Conflict, match="content of this campaign was removed by retention"):
        lifecycle.retry_failed_emails(engine, ended, ["bad_request"], "ann")


def test_ledger_of_a_removed_campaign_cannot_be_exported(
    engine: sa.Engine, retention_engine: sa.Engine, ended: uuid.UUID
) -> None:
    run_retention(retention_engine, keep_ledgers_days="90")
    with engine.begin() as connection, pytest.raises(Conflict, match="ledger of this campaign was removed"):
        exports.create(connection, "campaign_ledger", ended, {}, "ann")


def test_batch_whose_leads_were_contacted_cannot_be_deleted(
    engine: sa.Engine, retention_engine: sa.Engine, ended: uuid.UUID
) -> None:
    run_retention(retention_engine, keep_ledgers_days="90")
    (batch_id,) = campaign_row(engine, ended)["batch_ids"]
    with engine.begin() as connection, pytest.raises(Conflict, match="belong to a campaign"):
        lead_batches.delete(connection, batch_id, "ann")


def test_erased_lead_leaves_no_contact_behind(engine: sa.Engine, retention_engine: sa.Engine, ended: uuid.UUID) -> None:
    run_retention(retention_engine, keep_ledgers_days="90")
    erased = lead_id(engine, "opens")
    with working_as("api", engine) as api, api.begin() as connection:
        erase_leads.erase(connection, erased, "ann", keep_suppressed=True)
    with engine.connect() as connection:
        assert erased not in connection.scalars(sa.select(past_contacts.c.lead_id)).all()


def test_anonymous_rows_of_erased_leads_are_removed_and_counted(
    engine: sa.Engine, retention_engine: sa.Engine, ended: uuid.UUID
) -> None:
    with engine.begin() as connection:
        erase_leads.erase(connection, lead_id(engine, "optsout"), "ann", keep_suppressed=True)
    before = statistics(engine, ended)
    run_retention(retention_engine, **EVERYTHING)
    assert statistics(engine, ended) == before


def test_statistics_by_sender_stay_where_a_claim_was_returned_and_its_lead_reassigned(
    engine: sa.Engine, connection: sa.Connection, retention_engine: sa.Engine
) -> None:
    ann, bob = (
        sender_addresses.create(connection, {"from_address": f"{name}@example.com"})["id"] for name in ("ann", "bob")
    )
    campaign_id = make_campaign(connection, 3, sender_ids=[ann])
    connection.commit()
    lifecycle.start_campaign(engine, campaign_id)
    claimed = claim_emails.claim(connection, 10, token := uuid.uuid4())
    assert claim_emails.release(connection, claimed, token) == 3
    reassign_leads.reassign(connection, ann, bob, "ann")
    connection.commit()
    lifecycle.cancel_campaign(engine, campaign_id)
    end_long_ago(engine, campaign_id)
    before = statistics(engine, campaign_id)
    assert [each["by_status"]["cancelled"] for each in before["stats"]["by_sender"]] == [0, 3]
    assert run_retention(retention_engine, keep_ledgers_days="90")["ledger"]
    assert statistics(engine, campaign_id) == before


def test_ramp_of_a_sender_counts_the_days_of_removed_emails(
    engine: sa.Engine, retention_engine: sa.Engine, ended: uuid.UUID
) -> None:
    sender_id = uuid.uuid4()
    rows = [row["id"] for row in rows_of(engine, ended) if row["status"] == "sent"]
    with engine.begin() as connection:
        for days, row_id in enumerate(rows, 1):
            # As a claim does, and what comes after it.
            row = sa.update(scheduled_emails).where(scheduled_emails.c.id == row_id)
            day = {"sender_id": sender_id, "sending_day": sa.text(f"current_date - {days}")}
            connection.execute(row.values(status="pending", sent_at=None, claim_token=None, send_started_at=None))
            sending = {"claim_token": uuid.uuid4(), "lease_until": sa.func.now()}
            connection.execute(row.values(status="sending", **sending, **day))
            connection.execute(row.values(status="sent", sent_at=sa.func.now()))
        connection.execute(sa.text("DELETE FROM claims"))
    sender = {"id": sender_id, "daily_cap": None, "ramp": {"start": 1, "step": 1, "ceiling": 1000}}

    def cap() -> Any:
        with engine.connect() as connection:
            return budgets.uses_of(connection, [sender], budgets.sending_day_now(connection))[sender_id].cap

    before = cap()
    assert before == 1 + len(rows)
    assert run_retention(retention_engine, keep_ledgers_days="90")["ledger"] > len(rows)
    assert cap() == before


def test_each_removal_is_in_the_audit_log_once(
    engine: sa.Engine, retention_engine: sa.Engine, ended: uuid.UUID
) -> None:
    removed = run_retention(retention_engine, **EVERYTHING)
    run_retention(retention_engine, **EVERYTHING)
    query = sa.select(audit_log.c.detail, audit_log.c.actor).where(audit_log.c.action == "campaign.remove_history")
    with engine.connect() as connection:
        entries = connection.execute(query.where(audit_log.c.entity_id == str(ended))).all()
    assert [tuple(entry) for entry in entries] == [({"kind": "ledger", "rows": removed["ledger"]}, "sendledger")]


def test_last_run_says_what_it_removed(engine: sa.Engine, retention_engine: sa.Engine, ended: uuid.UUID) -> None:
    removed = run_retention(retention_engine, **EVERYTHING)
    with engine.connect() as connection:
        state = last_run(connection)
    assert state is not None
    assert (state["rows_removed"], state["campaigns_waiting"]) == (removed, 0)


def test_emails_and_events_of_an_adopted_campaign_that_no_row_names_are_removed(
    engine: sa.Engine, retention_engine: sa.Engine, ended: uuid.UUID, ses: SesSimulator
) -> None:
    with engine.begin() as connection:
        connection.execute(
            sa.text("INSERT INTO adopted_campaigns (campaign_id, before) VALUES (:id, '{}')"), {"id": ended}
        )
        connection.execute(sa.text("DELETE FROM scheduled_emails"))
        connection.execute(sa.text("UPDATE emails SET scheduled_email_id = NULL"))
        connection.execute(sa.text("UPDATE email_events SET scheduled_email_id = NULL"))
    condition = {"kind": "campaign", "campaign_id": str(ended), "contact": "opened"}
    before, matched = statistics(engine, ended), in_segment(engine, condition)
    assert matched
    assert run_retention(retention_engine, keep_events_days="30")["events"] > 3
    run_retention(retention_engine, **EVERYTHING)
    assert (count(engine, emails), count(engine, email_events)) == (0, 2)
    assert statistics(engine, ended) == before
    assert in_segment(engine, condition) == matched
